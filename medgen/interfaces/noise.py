"""`Noise`: the random numbers of a batch of samples, as a value."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medgen.errors import ConfigError
from medgen.ops import philox_integers, philox_normal, philox_uniform

__all__ = ["Noise", "as_noise"]


@dataclass(frozen=True)
class Noise:
    """Counter-based noise for the samples numbered `index`. Neither holds nor touches any RNG state.

    A draw is a pure function of (seed, sample number, stream, element): ask twice, get the same; use another `stream` for other draws.

    Args:
        seed: in [0, 2^64).
        index: absolute sample numbers, int64 [B].

    >>> alone, batch = Noise.of(0, [5]), Noise.of(0, range(64))
    >>> bool((alone.normal(3)[0] == batch.normal(3)[5]).all())
    True
    """

    seed: int
    index: Tensor

    @classmethod
    def of(cls, seed: int, index: Iterable[int], device: torch.device | str = "cpu") -> Noise:
        """From a seed and sample numbers."""
        return cls(seed, torch.tensor(list(index), dtype=torch.int64, device=device))

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: Any) -> Noise:
        """The noise of some of the samples."""
        return Noise(self.seed, torch.atleast_1d(self.index[rows]))

    def to(self, device: torch.device | str) -> Noise:
        """The same noise, drawn on another device."""
        return Noise(self.seed, self.index.to(device))

    def normal(self, *shape: int, stream: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
        """Standard normals [B, *shape]."""
        return philox_normal(self.seed, self.index, shape, stream=stream, dtype=dtype)

    def uniform(self, *shape: int, stream: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
        """Uniforms on (0, 1) [B, *shape]."""
        return philox_uniform(self.seed, self.index, shape, stream=stream, dtype=dtype)

    def integers(self, high: int, *shape: int, stream: int = 0) -> Tensor:
        """Integers in [0, high) [B, *shape], int64."""
        return philox_integers(self.seed, self.index, shape, high=high, stream=stream)


def as_noise(noise: Noise | int, n: int, device: torch.device | str) -> Noise:
    """A seed becomes the noise of samples 0..n-1; a `Noise` must have n samples."""
    if not isinstance(noise, Noise):
        return Noise(operator.index(noise), torch.arange(n, device=device))
    if len(noise) != n:
        raise ConfigError(f"`noise` must be for {n} samples; got noise for {len(noise)}.")
    return noise.to(device)
