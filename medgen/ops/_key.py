"""The key of counter-based noise, shared by every op that draws."""

from __future__ import annotations

import torch
from torch import Tensor

from medgen.errors import ConfigError

__all__ = ["check_key", "signed"]


def signed(seed: int) -> int:
    """A 64-bit seed as the int64 that an op's schema has; the reference masks it and C++ casts it back."""
    return seed - 2**64 if seed >= 2**63 else seed


def check_key(seed: int, index: Tensor, stream: int) -> None:
    """Raise ConfigError unless seed and stream are in range and index is int64 [B]."""
    if not 0 <= seed < 2**64:
        raise ConfigError(f"`seed` must be in [0, 2^64); got {seed}.")
    if not 0 <= stream < 2**32:
        raise ConfigError(f"`stream` must be in [0, 2^32); got {stream}.")
    if index.dtype != torch.int64 or index.dim() != 1:
        raise ConfigError(f"`index` must be int64 of shape [B]; got {index.dtype} of shape {tuple(index.shape)}.")
