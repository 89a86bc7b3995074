"""Noise levels and preconditioning of EDM, in float64: x = x0 + sigma eps.

Paper: Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022) | https://arxiv.org/abs/2206.00364
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from medgen.errors import ConfigError

__all__ = ["Preconditioning", "edm_preconditioning", "edm_weight", "karras_sigmas"]


def karras_sigmas(steps: int, *, smallest: float = 0.002, largest: float = 80.0, rho: float = 7.0) -> Tensor:
    """sigma_i = (largest^(1/rho) + i / (S - 1) (smallest^(1/rho) - largest^(1/rho)))^rho, i < S, and 0: [S + 1], descending (eq. 5).

    Args:
        steps: S, the calls of a first-order sampler.
        smallest, largest: noise levels.
        rho: 1 spaces them evenly; 7 puts most of them near the data.

    Raises:
        ConfigError: steps < 1, rho <= 0, or not 0 < smallest < largest.

    >>> print(karras_sigmas(5).numpy().round(3))
    [8.0000e+01 1.7528e+01 2.5150e+00 1.7000e-01 2.0000e-03 0.0000e+00]
    """
    if steps < 1 or not rho > 0 or not 0 < smallest < largest:
        raise ConfigError(f"`steps`, `rho` and 0 < smallest < largest must hold; got {steps}, {rho}, {smallest}, {largest}.")
    ramp = torch.arange(steps, dtype=torch.float64) / max(steps - 1, 1)
    top, bottom = largest ** (1 / rho), smallest ** (1 / rho)
    return torch.cat(((top + ramp * (bottom - top)).pow(rho), ramp.new_zeros(1)))


class Preconditioning(NamedTuple):
    """D(x; sigma) = skip x + out F(scale x, noise), F the network (eq. 7)."""

    skip: Tensor
    out: Tensor
    scale: Tensor
    noise: Tensor


def edm_preconditioning(sigma: Tensor, data_sd: float = 0.5) -> Preconditioning:
    """c_skip, c_out, c_in and c_noise of table 1: the network's input and its target have unit variance at every sigma.

    c_skip = sd^2 / (sigma^2 + sd^2), c_out = sigma sd / sqrt(sigma^2 + sd^2), c_in = 1 / sqrt(sigma^2 + sd^2), c_noise = ln(sigma) / 4.

    Args:
        sigma: positive, [*].
        data_sd: of the data.

    >>> skip, out, scale, noise = edm_preconditioning(torch.tensor(0.5))
    >>> skip, out, scale, noise
    (tensor(0.5000), tensor(0.3536), tensor(1.4142), tensor(-0.1733))
    """
    total = sigma * sigma + data_sd**2
    return Preconditioning(data_sd**2 / total, sigma * data_sd * total.rsqrt(), total.rsqrt(), sigma.log() / 4)


def edm_weight(sigma: Tensor, data_sd: float = 0.5) -> Tensor:
    """lambda = (sigma^2 + sd^2) / (sigma sd)^2 = 1 / c_out^2 of the loss |D(x; sigma) - x_0|^2.

    >>> edm_weight(torch.tensor(0.5))
    tensor(8.)
    """
    return (sigma * sigma + data_sd**2) / (sigma * data_sd).square()
