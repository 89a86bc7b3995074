"""DPM-Solver++(2M): a deterministic sampler of second order with one call of the network per step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medgen.errors import ConfigError
from medgen.interfaces import Noise
from medgen.maths import Prediction, x0_coefficients
from medgen.ops import step_table
from medgen.ops.ddpm_sample import Denoiser
from medgen.sampling.chain import chain_levels
from medgen.sampling.known import Known, Replacement
from medgen.sampling.start import Callback, first, mean_only, told

__all__ = ["dpm_solver"]


@torch.no_grad()
def dpm_solver(
    denoiser: Denoiser,
    x: Tensor | Sequence[int],
    alpha_bar: Tensor,
    *,
    noise: Noise | None = None,
    kept: Tensor | None = None,
    prediction: Prediction = "eps",
    clip: float | None = None,
    known: Known | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """x_s = (sigma_s / sigma_t) x_t - sqrt(abar_s) expm1(-h) ((1 + w) x_0 - w x_0'), w = h / (2 h'); x_0 [B, *S].

    sigma = sqrt(1 - abar), h = lambda_s - lambda_t with lambda = ln(sqrt(abar) / sigma); x_0' and h' are those of the step before. The
    first step, and the last one to clean data, where h is infinite, have w = 0. Two buffers beside x; per step five passes in place.

    Paper: DPM-Solver++ (Lu et al., 2022) | https://arxiv.org/abs/2211.01095, algorithm 2

    Args:
        noise: where x is a shape, or something is known.
        denoiser, x, alpha_bar, kept, prediction, clip, known, callback: as in `ancestral`. `kept` is best even in the logarithm of the
            signal-to-noise ratio (`medgen.maths.log_snr_steps`): one long step makes w large and overshoots.

    Raises:
        ConfigError: a shape or range does not fit.

    >>> from medgen.maths import alpha_bars, linear_betas, log_snr_steps
    >>> bar = alpha_bars(linear_betas())
    >>> def denoiser(x, t):  # the exact eps of data that are all 0.25
    ...     at = bar[t][:, None]
    ...     return (x - at.sqrt() * 0.25) / (1 - at).sqrt()
    >>> dpm_solver(denoiser, torch.tensor([[-1.0, 0.5]]), bar, kept=log_snr_steps(bar, 10))
    tensor([[0.2500, 0.2500]])
    """
    table = step_table(alpha_bar, kept, prediction=prediction, clip=clip)
    x = first(x, noise)
    levels = chain_levels(alpha_bar, table.t)
    replacement = None if known is None else Replacement(known.once("dpm_solver"), x, noise, *levels)
    coefficients = _coefficients(*levels, prediction)
    at = told(table.t, x)
    x0, previous = torch.empty_like(x), torch.zeros_like(x)
    for k in range(len(table) - 1, -1, -1):
        on_x, on_output, from_x, from_x0, from_previous = coefficients[k]
        output = mean_only(denoiser(x, at[k]), x)
        if output.shape != x.shape:
            raise ConfigError(f"`denoiser` must return {tuple(x.shape)}; got {tuple(output.shape)}.")
        torch.mul(x, on_x, out=x0).add_(output, alpha=on_output)
        if clip is not None:
            x0.clamp_(-clip, clip)
        x.mul_(from_x).add_(x0, alpha=from_x0).add_(previous, alpha=from_previous)
        x0, previous = previous, x0
        if replacement is not None:
            replacement(k, x)
        if callback is not None:
            callback(k, x)
    return x


def _coefficients(signal: Tensor, noise: Tensor, prediction: Prediction) -> list[tuple[float, ...]]:
    """Per step: x_0 on x and output; the next x on x, x_0 and the x_0 before. Python numbers, so that a step copies nothing."""
    on_x, on_output = x0_coefficients(signal[1:], noise[1:], prediction)
    log_snr = signal.log() - noise.log()  # lambda: infinite at clean data
    h = log_snr[:-1] - log_snr[1:]
    w = torch.zeros_like(h)
    w[1:-1] = h[1:-1] / (2 * h[2:])
    x0 = -signal[:-1] * torch.expm1(-h)
    rows = torch.stack((on_x, on_output, noise[:-1] / noise[1:], x0 * (1 + w), -x0 * w), dim=1)
    return [tuple(float(value) for value in row) for row in rows]
