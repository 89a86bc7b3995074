"""How near label maps are to others: Dice and Hausdorff distance of each structure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["dice", "hausdorff"]


def dice(a: NDArray[Any], b: NDArray[Any], labels: Sequence[int]) -> NDArray[np.float64]:
    """2 |A and B| / (|A| + |B|) of each structure, [B, len(labels)], of maps [B, H, W]; 1 where neither map has it.

    >>> dice(np.array([[[1, 1, 2]]]), np.array([[[1, 2, 2]]]), [1, 2, 3])
    array([[0.66666667, 0.66666667, 1.        ]])
    """
    out = np.ones((len(a), len(labels)))
    for k, label in enumerate(labels):
        one, two = a == label, b == label
        total = one.sum((1, 2)) + two.sum((1, 2))
        shared = (one & two).sum((1, 2))
        out[:, k] = np.where(total > 0, 2 * shared / np.maximum(total, 1), 1.0)
    return out


def hausdorff(a: NDArray[Any], b: NDArray[Any], labels: Sequence[int], spacing: tuple[float, float]) -> NDArray[np.float64]:
    """max(max over A of the distance to B, max over B of that to A) of each structure, in mm, exact, [B, len(labels)].

    0 where neither map has the structure, NaN where one has it.

    >>> hausdorff(np.array([[[1, 0, 0]]]), np.array([[[1, 1, 1]]]), [1, 2], (1.0, 1.5))
    array([[3., 0.]])
    """
    out = np.zeros((len(a), len(labels)))
    for i, k in np.ndindex(out.shape):
        one, two = a[i] == labels[k], b[i] == labels[k]
        if one.any() and two.any():
            out[i, k] = max(ndimage.distance_transform_edt(~y, sampling=spacing)[x].max() for x, y in ((one, two), (two, one)))
        elif one.any() or two.any():
            out[i, k] = np.nan
    return out
