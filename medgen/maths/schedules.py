"""Noise schedules of diffusion models, in float64: betas, their running products, and the steps that a shorter chain keeps.

Steps count from 0 as networks see them: alpha_bar[t] is the papers' abar_{t+1}, and the step "before 0" is clean data, abar = 1.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from medgen.errors import ConfigError

__all__ = ["Spacing", "alpha_bars", "cosine_betas", "kept_steps", "linear_betas", "log_snr_steps", "previous_alpha_bars"]

Spacing = Literal["uniform", "linspace", "trailing", "quadratic"]


def linear_betas(steps: int = 1000, *, start: float = 1e-4, end: float = 2e-2) -> Tensor:
    """Betas [T] that rise linearly from start * 1000 / T to end * 1000 / T.

    Paper: Denoising Diffusion Probabilistic Models (Ho et al., 2020) | https://arxiv.org/abs/2006.11239; the factor 1000 / T, which keeps
    the noise at the end of a chain of another length, is that of Improved DDPM.

    Args:
        steps: T.
        start, end: of the chain of 1000 steps.

    Raises:
        ConfigError: steps < 1, or a beta outside (0, 1).

    >>> print(alpha_bars(linear_betas())[[0, 499, 999]].numpy())
    [9.99900000e-01 7.85872429e-02 4.03582977e-05]
    """
    _positive(steps)
    betas = torch.linspace(start, end, steps, dtype=torch.float64) * (1000 / steps)
    if not (betas.min() > 0 and betas.max() < 1):
        raise ConfigError(f"betas must be in (0, 1); got {float(betas.min()):.3g} to {float(betas.max()):.3g}. Take more steps.")
    return betas


def cosine_betas(steps: int = 1000, *, offset: float = 0.008, largest: float = 0.999) -> Tensor:
    """Betas [T] of abar(t) = f(t) / f(0), f(t) = cos^2((t / T + offset) / (1 + offset) pi / 2), at most `largest`.

    Paper: Improved Denoising Diffusion Probabilistic Models (Nichol, Dhariwal, 2021) | https://arxiv.org/abs/2102.09672

    Raises:
        ConfigError: steps < 1.

    >>> print(cosine_betas()[[0, 999]].numpy())
    [4.12842248e-05 9.99000000e-01]
    """
    _positive(steps)
    t = torch.arange(steps + 1, dtype=torch.float64) / steps
    f = torch.cos((t + offset) / (1 + offset) * (math.pi / 2)).square()
    return (1 - f[1:] / f[:-1]).clamp(max=largest)


def alpha_bars(betas: Tensor) -> Tensor:
    """abar_t = prod_{i <= t} (1 - beta_i): [T] -> [T]."""
    return (1 - betas.double()).cumprod(0)


def kept_steps(total: int, kept: int, spacing: Spacing = "uniform") -> Tensor:
    """The steps, ascending, int64 [kept], that a shorter chain keeps of a chain of `total`.

    - "uniform": 0, total // kept, ...; the original DDIM. Its noisiest step is total - total // kept.
    - "linspace": evenly from 0 to total - 1, both kept; Improved DDPM.
    - "trailing": evenly, ending at total - 1, where x_T is closest to pure noise.
    - "quadratic": i^2, up to 0.8 total; DDIM's alternative, denser near the data.

    Paper: Denoising Diffusion Implicit Models (Song, Meng, Ermon, 2021) | https://arxiv.org/abs/2010.02502

    Raises:
        ConfigError: not 1 <= kept <= total; or two of the squares fall on one step.

    >>> kept_steps(1000, 4).tolist(), kept_steps(1000, 4, "trailing").tolist(), kept_steps(1000, 4, "quadratic").tolist()
    ([0, 250, 500, 750], [249, 499, 749, 999], [0, 88, 355, 800])
    """
    if not 1 <= kept <= total:
        raise ConfigError(f"`kept` must be in [1, {total}]; got {kept}.")
    i = torch.arange(kept, dtype=torch.float64)
    if spacing == "uniform":
        return i.long() * (total // kept)
    if spacing == "trailing":
        return ((i + 1) * (total / kept)).round().long() - 1
    last = i / max(kept - 1, 1)
    if spacing == "linspace":
        return (last * (total - 1)).round().long()
    if spacing != "quadratic":
        raise ConfigError(f"`spacing` must be uniform, linspace, trailing or quadratic; got {spacing!r}.")
    steps = (last.square() * min(0.8 * total, total - 1)).long()
    if len(steps.unique()) < kept:
        raise ConfigError(f"{kept} quadratic steps of {total} fall on each other; take fewer, or another spacing.")
    return steps


def log_snr_steps(alpha_bar: Tensor, kept: int) -> Tensor:
    """The steps, ascending, int64 [kept], whose ln(abar / (1 - abar)) lie as evenly as a chain allows; its two ends are kept.

    What `dpm_solver` wants: its error depends on the largest step in the logarithm of the signal-to-noise ratio. Near the data, where a
    chain of T steps is too coarse for that, neighbouring steps are kept.

    Paper: DPM-Solver (Lu et al., 2022) | https://arxiv.org/abs/2206.00927, section 3.4

    Raises:
        ConfigError: not 1 <= kept <= T.

    >>> log_snr_steps(alpha_bars(linear_betas()), 6).tolist()
    [0, 17, 138, 492, 785, 999]
    """
    total = len(alpha_bar)
    if not 1 <= kept <= total:
        raise ConfigError(f"`kept` must be in [1, {total}]; got {kept}.")
    if kept == 1:
        return torch.tensor([total - 1])
    bar, i = alpha_bar.detach().double().cpu(), torch.arange(kept)
    log_snr = bar.log() - torch.log1p(-bar)
    wanted = torch.lerp(log_snr[0], log_snr[-1], i.double() / (kept - 1))
    right = torch.searchsorted(-log_snr, -wanted).clamp(1, total - 1)
    nearest = torch.where((log_snr[right - 1] - wanted) < (wanted - log_snr[right]), right - 1, right)
    steps = i + (nearest - i).cummax(0).values  # no two on one step
    return torch.minimum(steps, total - kept + i)


def previous_alpha_bars(alpha_bar: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """(abar_t, abar_s) of every kept step t and of the kept step s before it; abar_s = 1 for the first.

    A strided chain steps from t to s, not to t - 1: what the chain left out lies between.

    >>> at, before = previous_alpha_bars(torch.tensor([0.75, 0.5, 0.25]), torch.tensor([0, 2]))
    >>> at.tolist(), before.tolist()
    ([0.75, 0.25], [1.0, 0.75])
    """
    at = alpha_bar[kept]
    return at, torch.cat((at.new_ones(1), at[:-1]))


def _positive(steps: int) -> None:
    if steps < 1:
        raise ConfigError(f"`steps` must be at least 1; got {steps}.")
