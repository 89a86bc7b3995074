"""The optimal noise predictor of Gaussian data, for the tests of reverse chains."""

from __future__ import annotations

from medgen.maths import alpha_bars, linear_betas

BAR = alpha_bars(linear_betas())
MEAN, SD = 0.3, 0.5


def oracle(x, t):
    """The optimal eps for data from N(MEAN, SD^2)."""
    bar = BAR.to(x.dtype)[t].reshape(-1, *[1] * (x.dim() - 1))
    return (1 - bar).sqrt() * (x - bar.sqrt() * MEAN) / (bar * SD**2 + 1 - bar)
