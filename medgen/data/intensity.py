"""Between stored units (HU, grey levels, mV, label numbers) and the units that a model sees."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from medgen.data.samples import Array
from medgen.errors import DataError
from medgen.registry import ImageSpec

__all__ = ["cast_like", "label_values", "to_model", "to_stored"]


def label_values(spec: ImageSpec) -> tuple[float, ...]:
    """The stored number of each class of a label map: `intensity.low`, or 0..K-1 where that holds a single value."""
    low = spec.intensity.low
    return low if len(low) == spec.channels else tuple(float(k) for k in range(spec.channels))


def to_model(stored: Tensor, spec: ImageSpec) -> Tensor:
    """x = a + (stored - low) / (high - low) * (b - a), per channel, clipped to [a, b] where the spec says so.

    Label maps become one-hot instead.

    Args:
        stored: [B, C, *S] of any dtype; label maps [B, 1, *S].
        spec: gives (low, high) and (a, b).

    Returns:
        float32 [B, C, *S].

    Raises:
        DataError: a wrong shape, or a label that the spec does not know.

    >>> from medgen.registry import Intensity
    >>> lung = ImageSpec(channels=1, shape=(3,), intensity=Intensity(low=(-600,), high=(1400,), range=(-1, 1), dtype="int16"))
    >>> to_model(torch.tensor([[[-1000, 400, 1400]]], dtype=torch.int16), lung)
    tensor([[[-1.,  0.,  1.]]])
    """
    expected = (1, *spec.shape) if spec.content == "labels" else spec.size
    if tuple(stored.shape[1:]) != expected:
        raise DataError(f"`stored` must have shape [B, {', '.join(map(str, expected))}]; got {tuple(stored.shape)}.")
    if spec.content == "labels":
        return _one_hot(stored, spec)
    # In NumPy: one thread is faster than waking many for a batch of small images.
    x = stored.detach().cpu().numpy().astype(np.float32)
    rule, (a, b) = spec.intensity, spec.intensity.range
    per_channel = (1, -1, *[1] * spec.dim)
    # Subtract first: stored values may lie far from zero in a narrow window.
    if any(rule.low):
        x -= np.array(rule.low, np.float32).reshape(per_channel)
    x *= np.array([rule.scale(c) for c in range(len(rule.low))], np.float32).reshape(per_channel)
    if a:
        x += np.float32(a)
    if rule.clip and not _fits(stored.dtype, spec):
        np.clip(x, a, b, out=x)
    return torch.from_numpy(x).to(stored.device)


def _fits(dtype: torch.dtype, spec: ImageSpec) -> bool:
    """Whether no stored value can lie outside the window."""
    return dtype == torch.uint8 and max(spec.intensity.low) <= 0 and min(spec.intensity.high) >= 255


def to_stored(x: Tensor, spec: ImageSpec) -> Array:
    """stored = low + (x - a) / (b - a) * (high - low), the inverse of `to_model`, in the stored dtype.

    Values outside [a, b] are clipped where the spec says so; integers are rounded and clipped to their dtype. Label maps are the arg max
    over channels, [B, 1, *S].

    >>> from medgen.registry import Intensity
    >>> grey = ImageSpec(channels=1, shape=(3,), intensity=Intensity(low=(0,), high=(255,), dtype="uint8"))
    >>> to_stored(torch.tensor([[[0.0, 0.5, 1.2]]]), grey)
    array([[[  0, 128, 255]]], dtype=uint8)
    """
    if tuple(x.shape[1:]) != spec.size:
        raise DataError(f"`x` must have shape [B, {', '.join(map(str, spec.size))}]; got {tuple(x.shape)}.")
    rule = spec.intensity
    if spec.content == "labels":
        levels = np.asarray(label_values(spec))
        dtype = np.dtype(rule.dtype) if rule.dtype != "float32" else np.dtype("uint8" if levels.max() < 256 else "int32")
        labels: Array = levels.astype(dtype)[x.argmax(1, keepdim=True).cpu().numpy()]
        return labels
    a, b = rule.range
    per_channel = (1, -1, *[1] * spec.dim)
    low, high = np.asarray(rule.low).reshape(per_channel), np.asarray(rule.high).reshape(per_channel)
    values = x.detach().to("cpu", torch.float64).numpy()
    if rule.clip:
        values = values.clip(a, b)
    stored = low + (values - a) / (b - a) * (high - low)
    return cast_like(stored, np.dtype(rule.dtype))


def cast_like(values: Array, dtype: np.dtype[Any]) -> Array:
    """`values` in `dtype`; integers are rounded and clipped to what the dtype holds.

    >>> cast_like(np.array([-3.0, 7.6, 300.0]), np.dtype("uint8"))
    array([  0,   8, 255], dtype=uint8)
    """
    if dtype.kind not in "iu":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    return np.clip(np.rint(values), limits.min, limits.max).astype(dtype)


def _one_hot(stored: Tensor, spec: ImageSpec) -> Tensor:
    levels = np.asarray(label_values(spec))
    values = stored.detach().cpu().numpy()
    out = np.zeros((len(values), *spec.size), np.float32)
    for k, level in enumerate(levels):
        out[:, k] = values[:, 0] == level
    if not (out.sum(1) == 1).all():
        stray = sorted(set(np.unique(values).tolist()) - set(levels.tolist()))
        raise DataError(f"labels must be among {[int(v) for v in levels]}; got {stray[:40]}.")
    return torch.from_numpy(out).to(stored.device)
