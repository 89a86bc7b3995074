"""The posterior of one diffusion step, q(x_s | x_t, x_0), and the terms of the bound that it makes."""

from __future__ import annotations

import torch
from torch import Tensor

from medgen.maths.gaussian import kl_diagonal, kl_standard

__all__ = ["kl_prior", "kl_step", "log_variances", "posterior", "posterior_coefficients"]


def posterior_coefficients(at: Tensor, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(c_0, c_t, btilde) of q(x_s | x_t, x_0) = N(c_0 x_0 + c_t x_t, btilde), s < t.

    With beta = 1 - abar_t / abar_s: c_0 = beta sqrt(abar_s) / (1 - abar_t), c_t = sqrt(1 - beta) (1 - abar_s) / (1 - abar_t),
    btilde = beta (1 - abar_s) / (1 - abar_t).

    Paper: Denoising Diffusion Probabilistic Models (Ho et al., 2020) | https://arxiv.org/abs/2006.11239, eq. 7

    Args:
        at, before: abar_t < abar_s <= 1, [*]; see `previous_alpha_bars`.

    >>> posterior_coefficients(torch.tensor(0.5), torch.tensor(0.8))
    (tensor(0.6708), tensor(0.3162), tensor(0.1500))
    """
    beta, noise = 1 - at / before, 1 - at
    return beta * before.sqrt() / noise, (1 - before) * (at / before).sqrt() / noise, beta * (1 - before) / noise


def posterior(x0: Tensor, x: Tensor, at: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of q(x_s | x_t = x, x_0); `at` and `before` broadcast against x."""
    on_x0, on_x, variance = posterior_coefficients(at, before)
    return on_x0 * x0 + on_x * x, variance


def log_variances(at: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """(ln btilde, ln beta) [S]: the ends between which a learned variance lies, ln var = v ln beta + (1 - v) ln btilde.

    btilde of the first step is 0, since it ends at clean data; it is given the second step's, or beta where there is no second.

    Paper: Improved Denoising Diffusion Probabilistic Models (Nichol, Dhariwal, 2021) | https://arxiv.org/abs/2102.09672

    >>> from medgen.maths import alpha_bars, linear_betas, previous_alpha_bars
    >>> low, high = log_variances(*previous_alpha_bars(alpha_bars(linear_betas()), torch.arange(1000)))
    >>> print(low[:2].exp().numpy(), high[:2].exp().numpy())
    [5.45318766e-05 5.45318766e-05] [1.0000000e-04 1.1991992e-04]
    """
    beta = 1 - at / before
    low = posterior_coefficients(at, before)[2]
    first = low[1:2] if len(low) > 1 else beta
    return torch.cat((first, low[1:])).log(), beta.log()


def kl_prior(x0: Tensor, last: Tensor | float) -> Tensor:
    """L_T = KL[q(x_T | x_0) || N(0, 1)], element by element, in nats.

    Args:
        x0: data.
        last: abar_T.

    >>> float(kl_prior(torch.ones(1, dtype=torch.float64), 4.0358e-5)) / 0.6931  # bits
    2.91...e-05
    """
    last = torch.as_tensor(last, dtype=x0.dtype, device=x0.device)
    return kl_standard(last.sqrt() * x0, torch.log1p(-last))


def kl_step(x0: Tensor, predicted: Tensor, at: Tensor, before: Tensor, log_var: Tensor | None = None) -> Tensor:
    """KL[q(x_s | x_t, x_0) || p(x_s | x_t)], element by element, in nats, where p has the posterior's mean at the predicted x_0.

    With the posterior variance it is (SNR_s - SNR_t) (x_0 - predicted)^2 / 2, SNR = abar / (1 - abar). The first step, to clean data, has
    no such term: its part of the bound is the decoder, `log_discretised_normal` or `log_normal`.

    Papers: DDPM (Ho et al., 2020) | https://arxiv.org/abs/2006.11239; Variational Diffusion Models (Kingma et al., 2021) |
    https://arxiv.org/abs/2107.00630

    Args:
        x0: data.
        predicted: the network's x_0.
        at, before: abar_t < abar_s < 1, broadcasting against x0.
        log_var: ln of p's variance; the posterior's by default.

    >>> kl_step(torch.tensor(1.0), torch.tensor(0.5), torch.tensor(0.5), torch.tensor(0.8))  # (4 - 1) / 8
    tensor(0.3750)
    """
    on_x0, _, variance = posterior_coefficients(at, before)
    low = variance.log()
    return kl_diagonal(on_x0 * (x0 - predicted), low, torch.zeros_like(low), low if log_var is None else log_var)
