"""Counter-based uniform and normal noise: value (sample, stream, element) is a pure function of the seed.

The noise of sample i is the same alone, in any batch, on any rank, and on any device up to rounding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from medgen.errors import ConfigError
from medgen.ops._define import define, ensure_native
from medgen.ops._key import check_key, signed
from medgen.ops._vmap import by_rows
from medgen.ops.reference import philox as reference

__all__ = ["philox_integers", "philox_normal", "philox_uniform"]


def _normal(index: Tensor, count: int, seed: int, stream: int, dtype: torch.dtype) -> Tensor:
    bits = reference.philox_bits(seed, index, stream, count + count % 2)
    return reference.normal_from_bits(bits, dtype)[:, :count].contiguous()


def _uniform(index: Tensor, count: int, seed: int, stream: int, dtype: torch.dtype) -> Tensor:
    return reference.uniform_from_bits(reference.philox_bits(seed, index, stream, count), dtype)


def _bits(index: Tensor, count: int, seed: int, stream: int) -> Tensor:
    return reference.philox_bits(seed, index, stream, count).contiguous()


def _fake(index: Tensor, count: int, _seed: int, _stream: int, dtype: torch.dtype = torch.int64) -> Tensor:
    return index.new_empty((index.shape[0], count), dtype=dtype)


_normal_op = define(
    "philox_normal(Tensor index, SymInt count, int seed, int stream, ScalarType dtype) -> Tensor",
    reference=_normal,
    fake=_fake,
    vmap=by_rows("philox_normal", 0),
)
_uniform_op = define(
    "philox_uniform(Tensor index, SymInt count, int seed, int stream, ScalarType dtype) -> Tensor",
    reference=_uniform,
    fake=_fake,
    vmap=by_rows("philox_uniform", 0),
)
_bits_op = define(
    "philox_bits(Tensor index, SymInt count, int seed, int stream) -> Tensor", reference=_bits, fake=_fake, vmap=by_rows("philox_bits", 0)
)


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
    return _draw(_normal_op, seed, index, shape, stream=stream, dtype=dtype)


def philox_uniform(seed: int, index: Tensor, shape: Sequence[int], *, stream: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Uniforms [B, *shape], strictly inside (0, 1), odd multiples of 2^-24. Arguments as in `philox_normal`.

    >>> philox_uniform(0, torch.tensor([0]), (3,))
    tensor([[0.3990, 0.8805, 0.7357]])
    """
    return _draw(_uniform_op, seed, index, shape, stream=stream, dtype=dtype)


def philox_integers(seed: int, index: Tensor, shape: Sequence[int], *, high: int, stream: int = 0) -> Tensor:
    """Integers [B, *shape] in [0, high): floor(word * high / 2^32). Arguments as in `philox_normal`; high <= 2^31.

    >>> philox_integers(0, torch.tensor([0, 1]), (4,), high=10)
    tensor([[3, 8, 7, 6],
            [5, 9, 0, 5]])
    """
    if not 1 <= high <= 2**31:
        raise ConfigError(f"`high` must be in [1, 2^31]; got {high}.")
    check_key(seed, index, stream)
    ensure_native(index.device)
    values = (_bits_op(index.contiguous(), math.prod(shape), signed(seed), stream) * high) >> 32
    return values.reshape(len(index), *shape)


def _draw(op: Any, seed: int, index: Tensor, shape: Sequence[int], *, stream: int, dtype: torch.dtype) -> Tensor:
    check_key(seed, index, stream)
    ensure_native(index.device)
    wide = dtype if dtype in (torch.float32, torch.float64) else torch.float32
    values: Tensor = op(index.contiguous(), math.prod(shape), signed(seed), stream, wide)
    return values.reshape(len(index), *shape).to(dtype)
