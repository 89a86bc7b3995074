"""Small pure functions."""

from medgen.maths.delta import Delta
from medgen.maths.gaussian import kl_diagonal, kl_standard, log_normal, log_standard_normal
from medgen.maths.logsumexp import LogSum
from medgen.maths.schedules import alpha_bars, cosine_betas, kept_steps, linear_betas, previous_alpha_bars

__all__ = [
    "Delta",
    "LogSum",
    "alpha_bars",
    "cosine_betas",
    "kept_steps",
    "kl_diagonal",
    "kl_standard",
    "linear_betas",
    "log_normal",
    "log_standard_normal",
    "previous_alpha_bars",
]
