"""Philox4x32-10 in PyTorch: counter-based random integers, and uniforms and normals made from them.

Paper: Parallel random numbers: as easy as 1, 2, 3 (Salmon, Moraes, Dror, Shaw, 2011) | https://doi.org/10.1145/2063384.2063405
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["normal_from_bits", "philox4x32", "philox_bits", "uniform_from_bits"]

_MASK = 0xFFFFFFFF
_M0, _M1 = 0xD2511F53, 0xCD9E8D57  # multipliers of the paper
_W0, _W1 = 0x9E3779B9, 0xBB67AE85  # Weyl increments of the key


def philox4x32(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int], rounds: int = 10) -> tuple[Tensor, ...]:
    """Four 32-bit words per counter, each held in an int64 tensor with values in [0, 2^32).

    Args:
        counter: four broadcastable int64 tensors with values in [0, 2^32).
        key: two integers in [0, 2^32).
        rounds: 10 is the standard.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(rounds):
        # The product of two 32-bit words wraps around int64's sign bit; its 64 bits are right all the same, and the masks drop the sign.
        p0, p1 = c0 * _M0, c2 * _M1
        c0, c1, c2, c3 = (
            ((p1 >> 32) & _MASK) ^ c1 ^ k0,
            p1 & _MASK,
            ((p0 >> 32) & _MASK) ^ c3 ^ k1,
            p0 & _MASK,
        )
        k0, k1 = (k0 + _W0) & _MASK, (k1 + _W1) & _MASK
    return c0, c1, c2, c3


def philox_bits(seed: int, index: Tensor, stream: int, count: int) -> Tensor:
    """The first `count` words of each sample's noise: [B, count] int64 in [0, 2^32).

    Word e of sample i in stream s is word e mod 4 of Philox(counter = (e div 4, s, i mod 2^32, i div 2^32), key = seed).

    Args:
        seed: in [0, 2^64).
        index: absolute sample numbers, int64 [B].
        stream: in [0, 2^32).
        count: words per sample.
    """
    block = torch.arange((count + 3) // 4, dtype=torch.int64, device=index.device)[None, :]
    lo, hi = (index & _MASK)[:, None], ((index >> 32) & _MASK)[:, None]
    words = philox4x32((block, torch.full_like(block, stream), lo, hi), (seed & _MASK, (seed >> 32) & _MASK))
    return torch.stack(torch.broadcast_tensors(*words), dim=-1).flatten(1)[:, :count]


def uniform_from_bits(bits: Tensor, dtype: torch.dtype) -> Tensor:
    """u = (word div 2^9 + 1/2) / 2^23, strictly inside (0, 1), exact in float32 and float64."""
    return (((bits >> 9).to(torch.float64) + 0.5) * 2.0**-23).to(dtype)


def normal_from_bits(bits: Tensor, dtype: torch.dtype) -> Tensor:
    """Box-Muller on consecutive pairs of words (a, b), computed in float64 and rounded once to `dtype`.

    r = sqrt(-2 ln((a + 1/2) / 2^32)), phi = 2 pi b / 2^32; the pair becomes (r cos phi, r sin phi). |value| <= 6.77.

    Args:
        bits: [B, count] with `count` even.
        dtype: of the result.
    """
    a, b = bits.to(torch.float64).unflatten(1, (-1, 2)).unbind(-1)
    radius = ((a + 0.5) * 2.0**-32).log().mul(-2.0).sqrt()
    angle = b * (2.0 * math.pi * 2.0**-32)
    return torch.stack((radius * angle.cos(), radius * angle.sin()), dim=-1).flatten(1).to(dtype)
