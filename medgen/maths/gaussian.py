"""Closed forms of Gaussians, in nats, on plain tensors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["kl_diagonal", "kl_standard", "log_normal", "log_standard_normal"]

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
