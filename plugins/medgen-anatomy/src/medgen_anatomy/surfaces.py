"""Triangle surfaces with at most one open end: welding, closing, volume, the long axis, cuts by parallel planes, filling of the cuts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from medgen.errors import DataError

__all__ = ["Frame", "Surface", "cut", "fill", "long_axis", "surface", "volume"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Surface:
    """Triangles over vertices; `surface` makes one and checks it. `dataclasses.replace(s, vertices=...)` is another shape of the same mesh.

    Args:
        vertices: [P, 3] in mm.
        faces: [F, 3] vertex numbers, without degenerate triangles, all turned the same way.
        rim: vertex numbers along the open end, in order; empty for a closed surface.
    """

    vertices: Array
    faces: Array
    rim: Array

    def closed(self) -> tuple[Array, Array]:
        """Vertices and faces with the open end closed by a fan around the centre of the rim."""
        if not len(self.rim):
            return self.vertices, self.faces
        centre = self.vertices[self.rim].mean(0)
        hub = np.full(len(self.rim), len(self.vertices))
        fan = np.stack([np.roll(self.rim, -1), self.rim, hub], 1)  # against the sense in which the faces run along the rim
        return np.vstack([self.vertices, centre]), np.vstack([self.faces, fan])


def surface(vertices: Array, faces: Array, tolerance: float = 1e-6) -> Surface:
    """A checked surface; vertices nearer than `tolerance` times the extent become one, so that seams and poles close.

    Raises:
        DataError: arrays of another form, triangles that do not form an oriented surface, or several open ends.

    >>> tetrahedron = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1.0]]), np.array([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]])
    >>> volume(surface(*tetrahedron))  # 1/6
    0.1666...
    >>> surface(tetrahedron[0], tetrahedron[1][:3]).rim  # without the oblique side
    array([1, 3, 2])
    """
    vertices, faces = np.asarray(vertices, dtype=np.float64), np.asarray(faces)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or not np.isfinite(vertices).all():
        raise DataError(f"`vertices` must be finite numbers [P, 3] in mm; got shape {vertices.shape}.")
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype.kind not in "iu" or not len(faces):
        raise DataError(f"`faces` must be vertex numbers [F, 3]; got {faces.dtype} of shape {faces.shape}.")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise DataError(f"`faces` must be in 0..{len(vertices) - 1}; got {faces.min()}..{faces.max()}.")
    faces = _welded(vertices, tolerance)[faces.astype(np.int64)]
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(1)]
    return Surface(vertices, faces, _rim(faces, len(vertices)))


def _welded(vertices: Array, tolerance: float) -> Array:
    """The number of the first vertex at the same place, for each vertex."""
    pairs = cKDTree(vertices).query_pairs(tolerance * float(np.ptp(vertices, axis=0).max()), output_type="ndarray")
    first = np.arange(len(vertices))
    np.minimum.at(first, pairs.max(1), pairs.min(1))
    while (first != first[first]).any():
        first = first[first]
    return first


def _rim(faces: Array, count: int) -> Array:
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    key, reverse = edges[:, 0] * count + edges[:, 1], edges[:, 1] * count + edges[:, 0]
    if len(np.unique(key)) != len(key):
        raise DataError("`faces` must form one oriented surface: two triangles run along an edge in the same sense, or three share it.")
    following = dict(edges[~np.isin(key, reverse)].tolist())
    if not following:
        return np.empty(0, np.int64)
    loop = [min(following)]
    while (after := following.get(loop[-1], loop[0])) != loop[0] and len(loop) <= len(following):
        loop.append(after)
    if len(loop) != len(following):
        raise DataError(f"a surface must have at most one open end; got {len(following)} open edges, {len(loop)} of them in one loop.")
    return np.array(loop)


def volume(shape: Surface) -> float:
    """|sum of v0 . (v1 x v2)| / 6 over the triangles of the closed surface, in mm^3 (divergence theorem)."""
    vertices, faces = shape.closed()
    a, b, c = (vertices[faces[:, k]] - vertices.mean(0) for k in range(3))
    return float(abs(np.einsum("ij,ij->", a, np.cross(b, c))) / 6.0)


@dataclass(frozen=True)
class Frame:
    """The heart's own axes: `origin` is the middle of the base; `axes` has the unit vectors s (to the apex), v (rows), u (columns)."""

    origin: Array
    axes: Array

    def __call__(self, vertices: Array) -> Array:
        """Coordinates (s, v, u) of `vertices` [P, 3], in mm."""
        turned: Array = (vertices - self.origin) @ self.axes.T
        return turned


def long_axis(endocardium: Surface, up: tuple[float, float, float] = (0.0, 0.0, 1.0)) -> Frame:
    """From the centre of the open base to the vertex farthest from the base plane, which is the plane of the rim's area vector.

    Args:
        endocardium: open at its base.
        up: the direction that slices show upwards, as far as it lies in their plane.

    Raises:
        DataError: the surface has no open end, or `up` points along the axis.
    """
    if not len(endocardium.rim):
        raise DataError("the long axis is found from the open base; this surface is closed. Give a `Frame`.")
    rim = endocardium.vertices[endocardium.rim]
    base = rim.mean(0)
    normal = np.cross(rim - base, np.roll(rim, -1, axis=0) - base).sum(0)
    points = endocardium.vertices[np.unique(endocardium.faces)]  # each place once
    depth = np.abs((points - base) @ normal)
    apex = points[depth >= (1 - 1e-6) * depth.max()].mean(0)  # of a flat end, its middle
    s = (apex - base) / np.linalg.norm(apex - base)
    v = s * (s @ np.array(up)) - np.array(up, dtype=np.float64)  # rows run downwards
    if np.linalg.norm(v) < 1e-3 * np.linalg.norm(up):
        raise DataError(f"`up` must not point along the long axis {s.round(3).tolist()}; got {up}.")
    v /= np.linalg.norm(v)
    return Frame(base, np.stack([s, v, np.cross(s, v)]))


def cut(points: Array, faces: Array, levels: Array) -> tuple[Array, Array]:
    """The segments in which the planes s = levels meet the triangles.

    Args:
        points: [P, 3], coordinates (s, v, u).
        faces: [F, 3].
        levels: [K].

    Returns:
        Number of the level of each segment [M], and its two ends (v, u) [M, 2, 2]. Segments of neighbouring triangles share their
        ends to the bit, so that the outlines of a closed surface have no gaps.
    """
    above = points[:, 0] > np.asarray(levels)[:, None]
    corners = above[:, faces]
    level, face = np.nonzero(corners.any(2) & ~corners.all(2))
    starts, ends = faces[face], np.roll(faces[face], -1, axis=1)
    up = np.take_along_axis(above[level], starts, 1)
    crossed = up != np.take_along_axis(above[level], ends, 1)  # exactly two of the three edges
    # From the lower to the upper end, whichever way the triangle runs along the edge: neighbours compute the same numbers.
    low, high = np.where(up, ends, starts)[crossed], np.where(up, starts, ends)[crossed]
    t = (np.repeat(np.asarray(levels)[level], 2) - points[low, 0]) / (points[high, 0] - points[low, 0])
    crossing = points[low, 1:] + t[:, None] * (points[high, 1:] - points[low, 1:])
    return level, crossing.reshape(-1, 2, 2)


def fill(level: Array, segments: Array, levels: int, rows: Array, columns: Array) -> NDArray[np.bool_]:
    """Even-odd filling of closed outlines: which points (rows[i], columns[j]) lie inside, [levels, H, W].

    Each row is a ray: a point is inside where an odd number of segments cross the ray before it.

    Args:
        level, segments: from `cut`.
        levels: K.
        rows, columns: coordinates of pixel centres, increasing and evenly spaced.

    >>> square = np.array([[[0, 0], [0, 2]], [[0, 2], [2, 2]], [[2, 2], [2, 0]], [[2, 0], [0, 0.0]]])
    >>> fill(np.zeros(4, int), square, 1, np.array([-1, 0.5, 1.5]), np.array([-1, 0.5, 1.5, 2.5])).astype(int)
    array([[[0, 0, 0, 0],
            [0, 1, 1, 0],
            [0, 1, 1, 0]]])
    """
    v, u = segments[..., 0], segments[..., 1]
    segment, row = np.nonzero((v[:, :1] <= rows) != (v[:, 1:] <= rows))
    v0, v1, u0, u1 = v[segment, 0], v[segment, 1], u[segment, 0], u[segment, 1]
    crossing = u0 + (rows[row] - v0) / (v1 - v0) * (u1 - u0)
    column = np.searchsorted(columns, crossing)  # the first pixel behind it
    width = len(columns) + 1
    place = (level[segment] * len(rows) + row) * width + column
    counts = np.bincount(place, minlength=levels * len(rows) * width).reshape(levels, len(rows), width)
    inside: NDArray[np.bool_] = np.cumsum(counts, axis=2)[..., :-1] % 2 == 1
    return inside
