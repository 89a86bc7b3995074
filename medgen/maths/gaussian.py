"""Closed forms of Gaussians, in nats, on plain tensors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["kl_diagonal", "kl_standard", "log_discretised_normal", "log_normal", "log_standard_normal"]

_LOG_2PI = math.log(2.0 * math.pi)


def log_standard_normal(x: Tensor) -> Tensor:
    """ln N(x; 0, 1), element by element.

    >>> log_standard_normal(torch.zeros(1))
    tensor([-0.9189])
    """
    return -0.5 * (x * x + _LOG_2PI)


def log_normal(x: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
    """ln N(x; mean, exp(log_var)) = -(x - mean)^2 / (2 exp(log_var)) - log_var / 2 - ln(2 pi) / 2, element by element.

    >>> log_normal(torch.ones(1), torch.zeros(1), torch.zeros(1))
    tensor([-1.4189])
    """
    return -0.5 * ((x - mean).square() * torch.exp(-log_var) + log_var + _LOG_2PI)


def kl_standard(mean: Tensor, log_var: Tensor) -> Tensor:
    """KL[N(mean, exp(log_var)) || N(0, 1)] = (mean^2 + var - 1 - ln var) / 2, element by element.

    >>> kl_standard(torch.tensor([1.0]), torch.tensor([0.0]))
    tensor([0.5000])
    """
    # expm1 keeps the small values of a nearly collapsed posterior exact
    return 0.5 * (mean.square() + torch.expm1(log_var) - log_var)


def kl_diagonal(mean: Tensor, log_var: Tensor, prior_mean: Tensor, prior_log_var: Tensor) -> Tensor:
    """KL[N(mean, exp(log_var)) || N(prior_mean, exp(prior_log_var))], element by element.

    = ((mean - prior_mean)^2 / prior_var + var / prior_var - 1 - ln(var / prior_var)) / 2

    >>> kl_diagonal(torch.zeros(1), torch.zeros(1), torch.zeros(1), torch.zeros(1))
    tensor([0.])
    """
    ratio = log_var - prior_log_var
    return 0.5 * ((mean - prior_mean).square() * torch.exp(-prior_log_var) + torch.expm1(ratio) - ratio)


def log_discretised_normal(
    x: Tensor,
    mean: Tensor,
    log_var: Tensor,
    half_width: float | Tensor = 1 / 255,
    low: float | Tensor = -1.0,
    high: float | Tensor = 1.0,
) -> Tensor:
    """ln of the mass that N(mean, exp(log_var)) puts into the bin of x, element by element: ln(Phi(b) - Phi(a)).

    a, b = (x -+ half_width - mean) / sd. The bins at `low` and `high` reach to -inf and +inf, so that the masses of all bins sum to 1.
    Exact in the tails, where the difference of the two Phi would be 0.

    Papers: DDPM (Ho et al., 2020) | https://arxiv.org/abs/2006.11239, eq. 13; Improved DDPM (Nichol, Dhariwal, 2021) |
    https://arxiv.org/abs/2102.09672

    Args:
        x: bin centres; 8-bit data in [-1, 1] lie 2 / 255 apart.
        mean, log_var: broadcasting against x.
        half_width: of a bin.
        low, high: the outermost centres.

    >>> centres = torch.linspace(-1, 1, 256)
    >>> log_discretised_normal(centres, torch.tensor(0.7), torch.tensor(-3.0)).exp().sum()
    tensor(1.0000)
    """
    scale = torch.exp(-0.5 * log_var)
    a, b = (x - half_width - mean) * scale, (x + half_width - mean) * scale
    right = a + b > 0  # work on the left of the mean, where the logarithm of Phi keeps its digits
    left_a, left_b = torch.where(right, -b, a), torch.where(right, -a, b)
    top = torch.special.log_ndtr(left_b)
    gap = (top - torch.special.log_ndtr(left_a)).clamp(min=torch.finfo(top.dtype).tiny)
    inner = top + torch.log(-torch.expm1(-gap))
    below, above = torch.special.log_ndtr(b), torch.special.log_ndtr(-a)
    return torch.where(x < low + half_width / 2, below, torch.where(x > high - half_width / 2, above, inner))
