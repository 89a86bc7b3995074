"""Attributes of the left ventricle in apical (long-axis) label maps: areas, base, length, orientation, centre.

Rows are y and grow downwards, columns are x; the apex is above the base. Distances are in pixels, between pixel centres.
After Echocardiography Segmentation with Enforced Temporal Consistency (Painchaud et al., 2022) | https://arxiv.org/abs/2112.02102
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import gaussian_filter1d

from medgen.errors import DataError

__all__ = ["ATTRIBUTES", "CAMUS_BOUNDS", "cardiac_attributes", "scaled"]

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

CAMUS_BOUNDS: Mapping[str, tuple[float, float]] = {
    "lv_area": (19632.0, 112404.0),
    "lv_base_width": (53.76, 172.88),
    "lv_length": (301.4, 612.9),
    "lv_orientation": (-7.04, 15.26),
    "myo_area": (23228.0, 64134.0),
    "epi_center_x": (183.4, 479.4),
    "epi_center_y": (285.9, 609.2),
}
"""Least and largest value of each attribute over the CAMUS annotations, in pixels of the original frames; the orientation in degrees."""

ATTRIBUTES: tuple[str, ...] = tuple(CAMUS_BOUNDS)
"""Names of the columns of `cardiac_attributes`."""

_SMOOTHING = 0.05  # sd of the Gaussian over the contour's polar radius, as a share of the contour's length


def cardiac_attributes(maps: ArrayLike, *, lv: int | Sequence[int] = 1, myo: int | Sequence[int] = 2) -> Array:
    """The seven `ATTRIBUTES` of each label map, [B, 7]; NaN where a structure they need is missing.

    - lv_area, myo_area: pixels.
    - lv_base_width: distance of the two base points: pixels of the LV whose 3 x 3 neighbourhood holds MYO and what is neither, on either
      side of the mean column of all of them, the lowest in the image, and there the outermost.
    - lv_length: from the middle of the base to the apex: the highest peak of the contour's polar radius about the LV's centre, above that
      centre, after smoothing by a Gaussian (sd 5 % of the contour).
    - lv_orientation: angle of the LV's principal axis of inertia to the vertical, in degrees in (-90, 90], positive where the upper end
      leans to the right.
    - epi_center_x, epi_center_y: centre of mass of LV and MYO together.

    Args:
        maps: integers [B, H, W].
        lv, myo: labels of the structures.

    Raises:
        DataError: not a batch of label maps.

    >>> square = np.pad(np.full((1, 4, 2), 1), ((0, 0), (2, 2), (3, 3)))
    >>> dict(zip(ATTRIBUTES, cardiac_attributes(square)[0].tolist(), strict=True))["lv_area"]
    8.0
    """
    labels = np.asarray(maps)
    if labels.ndim != 3 or labels.dtype.kind not in "iu":
        raise DataError(f"`maps` must be integers [B, H, W]; got {labels.dtype} {labels.shape}. One-hot maps: argmax over the classes.")
    left, wall = np.isin(labels, lv), np.isin(labels, myo)
    both = left | wall
    out = np.full((len(labels), len(ATTRIBUTES)), np.nan)
    out[:, 0], out[:, 4] = _area(left), _area(wall)
    out[:, 3] = _orientation(left)
    out[:, 5], out[:, 6] = _centre(both)[:, ::-1].T
    bases = _base(left, wall)
    out[:, 1] = np.linalg.norm(bases[:, 1] - bases[:, 0], axis=1)
    apexes = np.array([_apex(mask) for mask in left]).reshape(-1, 2)
    out[:, 2] = np.linalg.norm(apexes - bases.mean(1), axis=1)
    return out


def scaled(values: ArrayLike, bounds: Mapping[str, tuple[float, float]] = CAMUS_BOUNDS) -> Array:
    """(value - low) / (high - low) of each column, [B, A]: in [0, 1] between the bounds.

    >>> scaled([[low for low, _ in CAMUS_BOUNDS.values()]]).tolist()
    [[0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]]
    """
    limits = np.array(list(bounds.values()), dtype=np.float64)
    return (np.asarray(values, dtype=np.float64) - limits[:, 0]) / (limits[:, 1] - limits[:, 0])


def _area(mask: Mask) -> Array:
    pixels = mask.sum((1, 2)).astype(np.float64)
    return np.where(pixels > 0, pixels, np.nan)


def _centre(mask: Mask) -> Array:
    """(row, column) of the centre of mass, [B, 2]."""
    rows, columns = np.arange(mask.shape[1]), np.arange(mask.shape[2])
    area = _area(mask)
    return np.stack([(mask.sum(2) * rows).sum(1) / area, (mask.sum(1) * columns).sum(1) / area], 1)


def _orientation(mask: Mask) -> Array:
    """With up = -row and right = column: half the angle of (up^2 - right^2, 2 up right), summed over the structure."""
    centre, area = _centre(mask), _area(mask)
    rows, columns = np.arange(mask.shape[1]), np.arange(mask.shape[2])
    up2 = (mask.sum(2) * rows**2).sum(1) / area - centre[:, 0] ** 2
    right2 = (mask.sum(1) * columns**2).sum(1) / area - centre[:, 1] ** 2
    mixed = -(np.einsum("bhw,h,w->b", mask, rows, columns) / area - centre[:, 0] * centre[:, 1])
    return np.degrees(0.5 * np.arctan2(2.0 * mixed, up2 - right2))


def _dilated(mask: Mask) -> Mask:
    """By a 3 x 3 square."""
    wide = mask.copy()
    wide[:, 1:] |= mask[:, :-1]
    wide[:, :-1] |= mask[:, 1:]
    out = wide.copy()
    out[:, :, 1:] |= wide[:, :, :-1]
    out[:, :, :-1] |= wide[:, :, 1:]
    return out


def _base(left: Mask, wall: Mask) -> Array:
    """(row, column) of the left and the right base point, [B, 2, 2]; NaN where there is none on one side."""
    candidates = left & _dilated(wall) & _dilated(~(left | wall))
    height, width = left.shape[1:]
    rows, columns = np.arange(height)[:, None], np.arange(width)[None]
    middle = _centre(candidates)[:, 1][:, None, None]
    out = np.full((len(left), 2, 2), np.nan)
    for side, (half, outward) in enumerate(((columns < middle, -columns), (columns >= middle, columns))):
        here = candidates & half
        score = np.where(here, rows * (2 * width) + outward + width, -1).reshape(len(left), -1)
        place = score.argmax(1)
        found = here.any((1, 2))
        out[found, side] = np.stack(np.unravel_index(place[found], (height, width)), 1)
    return out


def _apex(mask: Mask) -> Any:
    """(row, column) of the highest peak of the smoothed polar radius in the upper half; NaN where there is none."""
    if not mask.any():
        return np.full(2, np.nan)
    padded = np.pad(mask, 1)
    inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    contour = np.argwhere(mask & ~inner)
    offset = contour - np.argwhere(mask).mean(0)
    angle = np.arctan2(offset[:, 0], offset[:, 1])
    order = np.argsort(angle, kind="stable")
    # The contour is closed: its first point follows its last.
    radius = gaussian_filter1d(np.hypot(*offset[order].T), _SMOOTHING * len(contour), mode="wrap")
    peak = (radius >= np.roll(radius, 1)) & (radius >= np.roll(radius, -1)) & (angle[order] < 0)
    return contour[order][np.where(peak, radius, -1).argmax()] if peak.any() else np.full(2, np.nan)
