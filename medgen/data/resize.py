"""Resizing of whole batches: separable linear with antialiasing for intensities, nearest for labels. Field of view is kept."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from medgen.data.intensity import cast_like
from medgen.data.samples import Array
from medgen.errors import DataError

__all__ = ["resize"]


def resize(values: Array, shape: Sequence[int], *, labels: bool) -> Array:
    """[N, C, *S] to [N, C, *shape], in the same dtype; pixel centres follow (i + 1/2) * old/new - 1/2.

    >>> resize(np.array([[[0.0, 10.0, 20.0, 30.0]]], dtype=np.float32), (2,), labels=False)
    array([[[ 7.142857, 22.857143]]], dtype=float32)
    >>> resize(np.array([[[0, 0, 3, 3]]], dtype=np.uint8), (2,), labels=True)
    array([[[0, 3]]], dtype=uint8)
    """
    old = values.shape[2:]
    if len(shape) != len(old):
        raise DataError(f"`size` must have one number per axis of samples of shape {old}; got {tuple(shape)}.")
    if tuple(shape) == old:
        return values
    if labels:
        for axis, (n, m) in enumerate(zip(old, shape, strict=True)):
            nearest = np.minimum(((np.arange(m) + 0.5) * n / m).astype(np.int64), n - 1)
            values = values.take(nearest, axis + 2)
        return values
    out = np.empty((*values.shape[:2], *shape), values.dtype)
    step = max(1, (1 << 24) // max(1, int(np.prod(values.shape[1:]))))
    for start in range(0, len(values), step):
        part = _linear(torch.from_numpy(values[start : start + step].astype(np.float32)), shape)
        out[start : start + step] = cast_like(part.numpy(), values.dtype)
    return out


def _linear(x: Tensor, shape: Sequence[int]) -> Tensor:
    for axis, size in enumerate(shape):
        if x.shape[axis + 2] != size:
            lines = x.movedim(axis + 2, -1)
            flat = lines.reshape(1, -1, 1, lines.shape[-1])
            done = interpolate(flat, size=(1, size), mode="bilinear", antialias=True, align_corners=False)
            x = done.reshape(*lines.shape[:-1], size).movedim(-1, axis + 2)
    return x
