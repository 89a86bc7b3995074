"""Small pure functions."""

from medgen.maths.bandwidth import BandwidthKind, bandwidth_scale, scott_factor, silverman_factor
from medgen.maths.delta import Delta
from medgen.maths.edm import Preconditioning, edm_preconditioning, edm_weight, karras_sigmas
from medgen.maths.gaussian import kl_diagonal, kl_standard, log_discretised_normal, log_normal, log_standard_normal
from medgen.maths.logsumexp import LogSum
from medgen.maths.posterior import kl_prior, kl_step, log_variances, posterior, posterior_coefficients
from medgen.maths.predictions import Prediction, from_x0, to_x0, x0_coefficients
from medgen.maths.schedules import alpha_bars, cosine_betas, kept_steps, linear_betas, log_snr_steps, previous_alpha_bars

__all__ = [
    "BandwidthKind",
    "Delta",
    "LogSum",
    "Preconditioning",
    "Prediction",
    "alpha_bars",
    "bandwidth_scale",
    "cosine_betas",
    "edm_preconditioning",
    "edm_weight",
    "from_x0",
    "karras_sigmas",
    "kept_steps",
    "kl_diagonal",
    "kl_prior",
    "kl_standard",
    "kl_step",
    "linear_betas",
    "log_discretised_normal",
    "log_normal",
    "log_snr_steps",
    "log_standard_normal",
    "log_variances",
    "posterior",
    "posterior_coefficients",
    "previous_alpha_bars",
    "scott_factor",
    "silverman_factor",
    "to_x0",
    "x0_coefficients",
]
