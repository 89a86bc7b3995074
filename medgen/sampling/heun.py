"""The samplers of EDM: Heun's method over noise levels, with or without churn."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from medgen.errors import ConfigError
from medgen.interfaces import Noise
from medgen.ops import ddpm_step
from medgen.sampling.known import Known, Replacement
from medgen.sampling.start import STEP, VISIT, Callback, first, float64, noising_table, numbers, told

__all__ = ["heun"]


@torch.no_grad()
def heun(
    denoise: Callable[[Tensor, Tensor], Tensor],
    x: Tensor | Sequence[int],
    sigmas: Tensor | Sequence[float],
    *,
    noise: Noise | None = None,
    churn: float = 0.0,
    churn_range: tuple[float, float] = (0.0, math.inf),
    churn_noise: float = 1.0,
    known: Known | None = None,
    callback: Callback | None = None,
) -> Tensor:
    """dx / dsigma = (x - D(x; sigma)) / sigma by Heun's method; x_0 [B, *S]. Of second order; 2 S - 1 calls where the end is clean data.

    With churn (algorithm 2) each step first raises sigma to (1 + gamma) sigma by fresh noise, gamma = min(churn / S, sqrt(2) - 1).
    One buffer beside x.

    Paper: Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022) | https://arxiv.org/abs/2206.00364

    Args:
        denoise: D: (x [B, *S], sigma [B]) -> x_0 [B, *S], for x = x_0 + sigma eps; it must not change x.
        x: x at sigmas[0], left as it is, or the shape of one sample, drawn as sigmas[0] N(0, 1).
        sigmas: [S + 1], descending, the last may be 0; see `medgen.maths.karras_sigmas`. As numbers, a compiler knows them.
        noise: where x is a shape, something is known, or churn > 0.
        churn: S_churn, at least 0; 0 is the deterministic algorithm 1.
        churn_range: (S_min, S_max): levels at which noise is added.
        churn_noise: S_noise: sd of that noise.
        known: values to keep, for inpainting.
        callback: called with (k, x), k the steps left.

    Raises:
        ConfigError: a shape or range does not fit.

    >>> from medgen.maths import karras_sigmas
    >>> heun(lambda x, sigma: torch.full_like(x, 0.25), (2,), karras_sigmas(10), noise=Noise.of(0, [0]))
    tensor([[0.2500, 0.2500]])
    """
    levels = _checked(sigmas, churn, churn_noise)
    x = first(x, noise, levels[0])
    levels.reverse()  # step k is from k + 1 to k
    ends, factor = levels[:-1], 1 + min(churn / (len(levels) - 1), math.sqrt(2) - 1)
    raised = [factor * at if churn_range[0] <= at <= churn_range[1] else at for at in levels[1:]]
    if churn and noise is None:
        raise ConfigError("`noise` must be given where churn > 0; got None.")
    noise = noise if noise is None or not churn else noise.to(x.device)
    sds = [churn_noise * math.sqrt(up * up - at * at) for up, at in zip(raised, levels[1:], strict=True)]
    added = noising_table(torch.ones(len(sds)), float64(sds), x)
    replacement = None if known is None else Replacement(known, x, noise, torch.ones(len(levels)), float64(levels))
    at_start, at_end, euler = told(float64(raised), x), told(float64(ends), x), torch.empty_like(x)
    for k in range(len(ends) - 1, -1, -1):
        for visit in range(replacement.rounds if replacement is not None and k else 1):
            if visit and replacement is not None:
                replacement.back(k, x, visit)
            if raised[k] > levels[k + 1] and noise is not None:
                ddpm_step(x, x, added, k, seed=noise.seed, index=noise.index, stream=STEP + visit * VISIT, out=x)
            _step(denoise, x, euler, (raised[k], ends[k]), (at_start[k], at_end[k]))
            if replacement is not None:
                replacement(k, x, visit)
        if callback is not None:
            callback(k, x)
    return x


def _step(
    denoise: Callable[[Tensor, Tensor], Tensor], x: Tensor, euler: Tensor, span: tuple[float, float], at: tuple[Tensor, Tensor]
) -> None:
    """One step of x in place. What the network returned is used up before the next call, which may write to the same memory."""
    start, stop = span
    x0 = denoise(x, at[0])
    if x0.shape != x.shape:
        raise ConfigError(f"`denoise` must return x_0 of shape {tuple(x.shape)}; got {tuple(x0.shape)}.")
    ratio = stop / start
    if stop == 0:
        x.copy_(x0)
        return
    torch.mul(x, ratio, out=euler).add_(x0, alpha=1 - ratio)
    half = (ratio - 1) / 2  # (stop - start) / (2 start)
    x.mul_(1 + half).add_(x0, alpha=-half)
    half = (1 - start / stop) / 2  # (stop - start) / (2 stop)
    x.add_(euler, alpha=half).add_(denoise(euler, at[1]), alpha=-half)


def _checked(sigmas: Tensor | Sequence[float], churn: float, churn_noise: float) -> list[float]:
    levels = numbers(sigmas, "sigmas")
    if len(levels) < 2 or any(not stop < start for start, stop in pairwise(levels)) or not levels[-1] >= 0:
        raise ConfigError(f"`sigmas` must be [S + 1], descending, at least 0; got {levels[:8]}.")
    if not churn >= 0 or not churn_noise >= 0:
        raise ConfigError(f"`churn` and `churn_noise` must be at least 0; got {churn} and {churn_noise}.")
    return levels
