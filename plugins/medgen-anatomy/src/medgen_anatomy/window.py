"""Maps of any grid on the grid of a model and back: the part of each map that the model sees."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

__all__ = ["seen_by", "to_map", "to_model_grid"]

Array = NDArray[Any]

_LEAST = 1e-30  # below, probabilities have no logarithm in float32


def seen_by(maps: Array, view: tuple[float, float] | None, *, centre: bool = False) -> Array:
    """Windows [B, 4]: first row and column, height and width, in pixels of the maps [B, H, W], whole pixels or not.

    A window lies in the middle of the map, or, with `centre`, around the middle of the bounding box of the largest connected part that is
    labelled: registration by translation.

    Args:
        maps: labels.
        view: height and width in pixels of what the model sees; None for the whole map.
        centre: see above.

    >>> seen_by(np.zeros((1, 16, 16), int), (8.0, 8.0))
    array([[4., 4., 8., 8.]])
    """
    shape = np.array(maps.shape[1:], dtype=np.float64)
    extent = shape if view is None else np.array(view)
    middle = np.tile(shape / 2, (len(maps), 1))
    if centre:
        for k, one in enumerate(maps):
            parts, count = ndimage.label(one, np.ones((3, 3)))
            if count:
                found = np.argwhere(parts == np.bincount(parts.ravel())[1:].argmax() + 1)
                middle[k] = (found.min(0) + found.max(0) + 1) / 2
    return np.concatenate([middle - extent / 2, np.tile(extent, (len(maps), 1))], 1)


def to_model_grid(maps: Array, windows: Array, size: tuple[int, ...]) -> Array:
    """What the model sees of label maps [B, H, W], [B, *size]: the pixel that holds the centre of each of its own; beyond a map it is 0.

    >>> to_model_grid(np.arange(16).reshape(1, 4, 4), np.array([[0.0, 0.0, 4.0, 4.0]]), (2, 2))
    array([[[ 5,  7],
            [13, 15]]])
    """
    out = np.zeros((len(maps), *size), maps.dtype)
    for one, (top, left, height, width), target in zip(maps, windows, out, strict=True):
        rows, columns = (
            np.floor(start + (np.arange(n) + 0.5) * length / n).astype(int)
            for start, length, n in ((top, height, size[0]), (left, width, size[1]))
        )
        inside = np.ix_((rows >= 0) & (rows < one.shape[0]), (columns >= 0) & (columns < one.shape[1]))
        target[inside] = one[np.ix_(rows[inside[0][:, 0]], columns[inside[1][0]])]
    return out


def to_map(probabilities: Array, windows: Array, shape: tuple[int, int]) -> Array:
    """The likeliest class of each pixel of maps [B, *shape] from the probabilities [B, K, h, w] on the model's grid; 0 outside the windows.

    Logarithms of probabilities are interpolated linearly between pixel centres, so that outlines stay smooth on finer grids, where nearest
    neighbours would make steps. On the model's own grid nothing is interpolated.
    """
    whole = np.array([0.0, 0.0, *shape])
    if probabilities.shape[2:] == tuple(shape) and bool((windows == whole).all()):
        return probabilities.argmax(1)
    scores = np.log(np.maximum(probabilities, _LEAST, dtype=np.float32))
    out = np.zeros((len(scores), *shape), np.int64)
    for one, (top, left, height, width), target in zip(scores, windows, out, strict=True):
        rows, above = _weights(shape[0], top, height, one.shape[1])
        columns, beside = _weights(shape[1], left, width, one.shape[2])
        target[np.ix_(rows, columns)] = (above @ one @ beside.T).argmax(0)
    return out


def _weights(pixels: int, start: float, length: float, n: int) -> tuple[Array, Array]:
    """Pixels whose centre lies in a window, and the weights [their number, n] of the model's pixels in each."""
    centres = np.arange(pixels) + 0.5
    inside = np.flatnonzero((centres >= start) & (centres < start + length))
    place = np.clip((centres[inside] - start) * n / length - 0.5, 0, n - 1)
    return inside, np.maximum(0.0, 1.0 - np.abs(place[:, None] - np.arange(n))).astype(np.float32)
