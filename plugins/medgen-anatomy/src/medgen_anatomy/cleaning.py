"""Repair of label maps before they are encoded: one blob per structure, no holes, no gaps."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medgen.errors import DataError

__all__ = ["cleaned"]

_EIGHT = np.ones((3, 3), bool)


def cleaned(maps: NDArray[Any], *, lv: int, myo: int) -> NDArray[Any]:
    """Label maps [T, H, W] after the steps of Painchaud et al. 2022 (TMI 41), in this order.

    1. Of each structure only its largest blob stays (8 neighbours).
    2. Holes of MYO become MYO, then holes of every other structure become that structure: pixels of the background that the structure
       encloses (4 neighbours).
    3. Gaps between LV and MYO become MYO: background that both enclose together.

    >>> ring = np.array([[0, 2, 2, 2, 0], [0, 2, 0, 2, 0], [0, 2, 3, 2, 0], [0, 2, 2, 2, 0], [0, 0, 0, 0, 3]])
    >>> cleaned(ring[None], lv=3, myo=2)[0]
    array([[0, 2, 2, 2, 0],
           [0, 2, 2, 2, 0],
           [0, 2, 3, 2, 0],
           [0, 2, 2, 2, 0],
           [0, 0, 0, 0, 0]])
    """
    if maps.ndim != 3 or maps.dtype.kind not in "iu":
        raise DataError(f"label maps must be integers [T, H, W]; got {maps.dtype} of shape {maps.shape}.")
    out = maps.copy()
    for frame in out:
        labels = [myo, *(int(v) for v in np.unique(frame) if v not in (0, myo))]
        for label in labels:
            blobs, count = ndimage.label(frame == label, _EIGHT)
            if count > 1:
                frame[(blobs > 0) & (blobs != np.bincount(blobs.ravel())[1:].argmax() + 1)] = 0
        for label in labels:
            frame[_enclosed(frame, frame == label)] = label
        frame[_enclosed(frame, (frame == lv) | (frame == myo))] = myo
    return out


def _enclosed(frame: NDArray[Any], wall: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Background in holes of `wall`; holes that hold another structure are none, nor is the background between that and the wall."""
    holes, count = ndimage.label(~np.pad(wall, 1))
    if count < 2:
        return np.zeros_like(wall)
    holes = holes[1:-1, 1:-1]
    other = np.unique(holes[(frame != 0) & ~wall])
    inside: NDArray[np.bool_] = (holes > 1) & ~np.isin(holes, other)  # number 1 holds the corner
    return inside
