"""The measures of label maps in NumPy and SciPy: what they mean, and what runs where there is no compiler.

A structure is a boolean mask [H, W]. What lies outside the image is neither structure nor background, unless it is said otherwise;
neighbours are 8 unless it is said otherwise; an artefact is an area below H W / 2^14 pixels, 4 in an image of 256 x 256.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = [
    "MEASURES",
    "circularity",
    "concavity",
    "convex_hull",
    "disconnectivity",
    "distance",
    "erosion_ratio",
    "frontier",
    "frontier_ratio",
    "gap",
    "holes",
    "holes_besides",
    "perimeter",
    "width_ratio",
]

Mask = NDArray[np.bool_]
Spacing = tuple[float, float]

_EIGHT = np.ones((3, 3), dtype=bool)
_FOUR = ndimage.generate_binary_structure(2, 1)


def holes(a: Mask) -> int:
    """Pixels of the parts of the complement that do not reach the border of the image."""
    return int(_hole_mask(a).sum())


def holes_besides(a: Mask, b: Mask) -> int:
    """Pixels of the holes of a that are not b's."""
    return int((_hole_mask(a) & ~b).sum())


def _hole_mask(a: Mask) -> Mask:
    parts, _ = ndimage.label(np.pad(~a, 1, constant_values=True), _EIGHT)
    outer: Mask = (parts != 0) & (parts != parts[0, 0])
    return outer[1:-1, 1:-1]


def disconnectivity(a: Mask) -> int:
    """Pixels outside the largest connected part."""
    parts, _ = ndimage.label(a, _EIGHT)
    areas = np.bincount(parts.ravel())[1:]
    return int(areas.sum() - areas.max())


def gap(a: Mask, b: Mask) -> int:
    """Pixels between two structures: what their union does not cover and does not connect, by 4 neighbours, to pixel (0, 0), after the
    holes of each that hold nothing of the other are filled; 0 for an artefact. Where pixel (0, 0) is a structure's, nothing is outside.
    """
    rest = ~(a | b | _own_holes(a, b) | _own_holes(b, a))
    count = int((rest & ~_connected_to_corner(rest)).sum())
    return count if count > a.size / 2**14 else 0


def _own_holes(a: Mask, b: Mask) -> Mask:
    inside = ~a & ~_connected_to_corner(~a)
    parts, _ = ndimage.label(inside, _FOUR)
    own: Mask = inside & ~np.isin(parts, np.unique(parts[inside & b]))
    return own


def _connected_to_corner(mask: Mask) -> Mask:
    parts, _ = ndimage.label(mask, _FOUR)
    connected: Mask = mask & (parts == parts[0, 0])
    return connected


def distance(a: Mask, b: Mask, spacing: Spacing) -> float:
    """Smallest distance in mm from a, dilated by 3 x 3 pixels, to b."""
    grown = ndimage.binary_dilation(a, _EIGHT)
    return float(ndimage.distance_transform_edt(~b, sampling=spacing)[grown].min())


def frontier(a: Mask, b: Mask) -> int:
    """Pixels of a in the 3 x 3 dilation of b; a single one counts as none."""
    count = int((a & ndimage.binary_dilation(b, _EIGHT)).sum())
    return count if count > 1 else 0


def frontier_ratio(a: Mask, b: Mask) -> float:
    """`frontier` over the width of a, in columns."""
    columns = np.flatnonzero(a.any(axis=0))
    return frontier(a, b) / int(columns[-1] - columns[0] + 1)


def erosion_ratio(a: Mask) -> float:
    """Number of 3 x 3 erosions until a is not exactly one connected part any more, over its largest distance to the outside in pixels.

    After each erosion 4-connected artefacts are removed. Where a has several parts from the start, those that are artefacts do not count.
    Infinite where a fills the image.
    """
    if a.all():
        return math.inf
    least = a.size / 2**14
    parts, n = ndimage.label(a, _EIGHT)
    left = a if n == 1 else a & (np.bincount(parts.ravel())[parts] >= least)
    erosions = 0
    while ndimage.label(left, _EIGHT)[1] == 1:
        left = _eroded(left)
        parts, _ = ndimage.label(left, _FOUR)
        left &= np.bincount(parts.ravel())[parts] >= least
        erosions += 1
    return erosions / float(ndimage.distance_transform_edt(a).max())


def _eroded(a: Mask) -> Mask:
    eroded: Mask = ndimage.binary_erosion(a, _EIGHT, border_value=1)
    return eroded


def width_ratio(a: Mask, b: Mask) -> float:
    """Pixels of a over pixels of b on the row of the centre of mass of both, rounded down; NaN where one has none there."""
    rows = np.nonzero(a | b)[0]
    row = int(rows.sum()) // len(rows)
    of_a, of_b = int(a[row].sum()), int(b[row].sum())
    return of_a / of_b if of_a and of_b else math.nan


def concavity(a: Mask, spacing: Spacing) -> float:
    """Depth of the deepest dent in mm: a filled, subtracted from its convex hull, eroded by 3 x 3; the largest distance there to the
    outside of the hull. Infinite where the hull fills the image.
    """
    filled = ndimage.binary_fill_holes(a)
    hull = convex_hull(filled)
    dents = _eroded(hull & ~filled)
    if not dents.any():
        return 0.0
    return math.inf if hull.all() else float(ndimage.distance_transform_edt(hull, sampling=spacing)[dents].max())


def convex_hull(a: Mask) -> Mask:
    """The pixels whose centres lie in the convex hull of the edge midpoints of a's pixels, or on it
    (`skimage.morphology.convex_hull_image`, here in whole numbers: twice the coordinates).
    """
    rows, columns = np.nonzero(a)
    steps = np.array([(-1, 0), (1, 0), (0, -1), (0, 1)])
    points = np.unique((2 * np.stack([rows, columns], axis=1)[:, None] + steps).reshape(-1, 2), axis=0).tolist()
    corners = _half_hull(points)[:-1] + _half_hull(points[::-1])[:-1]
    hull = np.zeros(a.shape, dtype=bool)
    box = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)
    y, x = 2 * np.mgrid[box]
    inside = np.ones(y.shape, dtype=bool)
    for (y0, x0), (y1, x1) in zip(corners, corners[1:] + corners[:1], strict=True):
        inside &= (y1 - y0) * (x - x0) - (x1 - x0) * (y - y0) >= 0
    hull[box] = inside
    return hull


def _half_hull(points: list[list[int]]) -> list[list[int]]:
    """Andrew's monotone chain."""
    chain: list[list[int]] = []
    for p in points:
        while len(chain) > 1:
            (y0, x0), (y1, x1) = chain[-2:]
            if (y1 - y0) * (p[1] - x0) - (x1 - x0) * (p[0] - y0) > 0:
                break
            chain.pop()
        chain.append(p)
    return chain


def circularity(a: Mask) -> float:
    """4 pi area / perimeter^2 of a filled, in pixels; NaN where the perimeter is 0, as that of a single pixel."""
    filled = ndimage.binary_fill_holes(a)
    length = perimeter(filled)
    return 4 * math.pi * int(filled.sum()) / length**2 if length > 0 else math.nan


def perimeter(a: Mask) -> float:
    """Length of the border by the estimator of Benkrid and Crookes with 4 neighbours (`skimage.measure.perimeter`): a border pixel adds 1,
    sqrt 2, (1 + sqrt 2) / 2 or 0, which depends on how many of its 4 + 4 neighbours are border pixels too. The image is surrounded by
    background here.
    """
    border = a & ~ndimage.binary_erosion(a, _FOUR, border_value=0)
    code = ndimage.convolve(border.astype(np.int64), [[10, 2, 10], [2, 1, 2], [10, 2, 10]], mode="constant")[border]
    straight, diagonal, mixed = (int(np.isin(code, codes).sum()) for codes in ((5, 7, 15, 17, 25, 27), (21, 33), (13, 23)))
    return straight + math.sqrt(2) * diagonal + (1 + math.sqrt(2)) / 2 * mixed


class Measure(NamedTuple):
    """A measure: its function, whether it takes a second structure, and whether it takes the spacing."""

    function: Callable[..., float]
    pair: bool = False
    in_mm: bool = False

    def __call__(self, a: Mask, b: Mask | None, spacing: Spacing) -> float:
        """The value."""
        return self.function(a, *([b] if self.pair else []), *([spacing] if self.in_mm else []))


MEASURES: Mapping[str, Measure] = {
    "holes": Measure(holes),
    "holes_besides": Measure(holes_besides, pair=True),
    "disconnectivity": Measure(disconnectivity),
    "gap": Measure(gap, pair=True),
    "distance": Measure(distance, pair=True, in_mm=True),
    "frontier": Measure(frontier, pair=True),
    "frontier_ratio": Measure(frontier_ratio, pair=True),
    "erosion_ratio": Measure(erosion_ratio),
    "width_ratio": Measure(width_ratio, pair=True),
    "concavity": Measure(concavity, in_mm=True),
    "circularity": Measure(circularity),
}
