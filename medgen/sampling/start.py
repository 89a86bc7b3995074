"""What every sampler begins with: x_T, and the streams from which its steps draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from medgen.errors import ConfigError
from medgen.interfaces import Noise
from medgen.ops import StepTable

__all__ = ["BACK", "KNOWN", "STEP", "VISIT", "Callback", "first", "float64", "mean_only", "noising_table", "numbers", "told", "wide"]

Callback = Callable[[int, Tensor], Any]
"""(steps left, x), called after each step; x is the working buffer: clone what is to be kept."""

# Streams of a sample's noise. x_T is stream 0; step k, visited again by resampling, draws from its own.
STEP, KNOWN, BACK, VISIT = 1, 2**30, 2**31, 2**20


def first(x: Tensor | Sequence[int], noise: Noise | None, scale: float = 1.0) -> Tensor:
    """The working buffer: a copy of x, or scale N(0, 1) of the shape of one sample.

    Raises:
        ConfigError: noise for another number of samples, or none to draw from.
    """
    if isinstance(x, Tensor):
        if noise is not None and len(noise) != len(x):
            raise ConfigError(f"`noise` must be for {len(x)} samples; got noise for {len(noise)}.")
        return x.clone(memory_format=torch.contiguous_format)
    if noise is None:
        raise ConfigError(f"`noise` must be given to draw x from, since `x` is a shape, {tuple(x)}; got None.")
    return noise.normal(*x).mul_(scale)


def numbers(values: Tensor | Sequence[float], name: str) -> list[float]:
    """Levels or times as Python numbers, which steps are worked out with: then a compiler, given numbers, knows them.

    Raises:
        ConfigError: they are not one row.
    """
    row = values.detach().double().tolist() if isinstance(values, Tensor) else values
    try:
        return [float(value) for value in row]
    except TypeError:
        raise ConfigError(f"`{name}` must be one row of numbers; got {row!r}.") from None


def float64(values: Sequence[float]) -> Tensor:
    """[S] on the CPU."""
    return torch.tensor(values, dtype=torch.float64)


def told(values: Tensor, x: Tensor) -> tuple[Tensor, ...]:
    """What a network is told at each step: S values -> S views [B], moved to the samples' device once."""
    return values.to(x.device, wide(x) if values.is_floating_point() else None)[:, None].expand(-1, len(x)).unbind(0)


def mean_only(output: Tensor, x: Tensor) -> Tensor:
    """Without the variance that a network with twice the channels predicts beside the mean."""
    return output[:, : x.shape[1]] if output.dim() > 1 and output.shape[1] == 2 * x.shape[1] else output


def noising_table(signal: Tensor, level: Tensor, x: Tensor) -> StepTable:
    """x' = signal_k x + level_k z as the steps of `ddpm_step`, so that noise is made and added in one pass, in place."""
    values = torch.zeros(len(signal), 8, dtype=torch.float64)
    values[:, 0], values[:, 6] = signal, level
    rows = torch.arange(len(signal))
    return StepTable(values, rows, rows, False, None).to(x.device, wide(x))


def wide(x: Tensor | Sequence[int]) -> torch.dtype:
    """In which coefficients are kept: float64 for float64, else float32; half precision goes through that."""
    return torch.float64 if isinstance(x, Tensor) and x.dtype == torch.float64 else torch.float32
