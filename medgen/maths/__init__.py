"""Small pure functions."""

from medgen.maths.delta import Delta
from medgen.maths.gaussian import kl_diagonal, kl_standard, log_normal, log_standard_normal

__all__ = ["Delta", "kl_diagonal", "kl_standard", "log_normal", "log_standard_normal"]
