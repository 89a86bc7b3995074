"""Counter-based uniform and normal noise: value (sample, stream, element) is a pure function of the seed.

The noise of sample i is the same alone, in any batch, on any rank, and on any device up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from medgen.errors import ConfigError
from medgen.ops.reference.philox import normal_from_bits, philox_bits, uniform_from_bits

__all__ = ["philox_integers", "philox_normal", "philox_uniform"]


def philox_normal(seed: int, index: Tensor, shape: Sequence[int], *, stream: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normals [B, *shape] by Box-Muller on Philox4x32-10.

    Args:
        seed: in [0, 2^64).
        index: absolute sample numbers, int64 [B]; the result lies on its device.
        shape: of one sample.
        stream: which of a sample's 2^32 independent streams.
        dtype: floating; the same draws whatever the dtype, rounded.

    Raises:
        ConfigError: seed or stream out of range, or index not int64 [B].

    >>> philox_normal(0, torch.tensor([0, 1]), (2,))
    tensor([[ 0.9911, -0.9247],
            [ 1.0676, -0.4253]])
    """
    _check(seed, index, stream)
    count = math.prod(shape)
    bits = philox_bits(seed, index, stream, count + count % 2)
    return normal_from_bits(bits, dtype)[:, :count].unflatten(1, tuple(shape)) if shape else normal_from_bits(bits, dtype)[:, 0]


def philox_uniform(seed: int, index: Tensor, shape: Sequence[int], *, stream: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Uniforms [B, *shape], strictly inside (0, 1), odd multiples of 2^-24. Arguments as in `philox_normal`.

    >>> philox_uniform(0, torch.tensor([0]), (3,))
    tensor([[0.3990, 0.8805, 0.7357]])
    """
    _check(seed, index, stream)
    values = uniform_from_bits(philox_bits(seed, index, stream, math.prod(shape)), dtype)
    return values.unflatten(1, tuple(shape)) if shape else values[:, 0]


def philox_integers(seed: int, index: Tensor, shape: Sequence[int], *, high: int, stream: int = 0) -> Tensor:
    """Integers [B, *shape] in [0, high): floor(word * high / 2^32). Arguments as in `philox_normal`; high <= 2^31.

    >>> philox_integers(0, torch.tensor([0, 1]), (4,), high=10)
    tensor([[3, 8, 7, 6],
            [5, 9, 0, 5]])
    """
    _check(seed, index, stream)
    if not 1 <= high <= 2**31:
        raise ConfigError(f"`high` must be in [1, 2^31]; got {high}.")
    values = (philox_bits(seed, index, stream, math.prod(shape)) * high) >> 32
    return values.unflatten(1, tuple(shape)) if shape else values[:, 0]


def _check(seed: int, index: Tensor, stream: int) -> None:
    if not 0 <= seed < 2**64:
        raise ConfigError(f"`seed` must be in [0, 2^64); got {seed}.")
    if not 0 <= stream < 2**32:
        raise ConfigError(f"`stream` must be in [0, 2^32); got {stream}.")
    if index.dtype != torch.int64 or index.dim() != 1:
        raise ConfigError(f"`index` must be int64 of shape [B]; got {index.dtype} of shape {tuple(index.shape)}.")
