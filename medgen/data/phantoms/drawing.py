"""What every phantom draws with: seeded generators, coordinates in mm, anti-aliased ellipsoids, smooth random fields, MR noise.

Axes are array axes throughout: a point is (row, column) or (plane, row, column), in mm from the centre of the grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgen.errors import DataError

__all__ = [
    "Array",
    "Waves",
    "bounded",
    "check_count",
    "coverage",
    "ellipsoid_distance",
    "generator",
    "grid",
    "paint",
    "rician",
    "rotation",
]

Array = NDArray[np.float64]


def generator(seed: int, i: int) -> np.random.Generator:
    """The random numbers of sample i: Philox keyed by (seed, i), so that no sample depends on how many are drawn.

    Raises:
        DataError: seed or i is negative or above 2^64 - 1.

    >>> generator(0, 5).integers(100, size=3).tolist() == generator(0, 5).integers(100, size=3).tolist()
    True
    """
    if not (0 <= seed < 2**64 and 0 <= i < 2**64):
        raise DataError(f"`seed` and `i` must be in [0, 2^64); got {seed} and {i}.")
    return np.random.Generator(np.random.Philox(key=np.array([seed, i], dtype=np.uint64)))


def check_count(**counts: int) -> None:
    """Every named count must be at least 1.

    >>> check_count(n=0)
    Traceback (most recent call last):
        ...
    medgen.errors.DataError: `n` must be at least 1; got 0.
    """
    for name, value in counts.items():
        if value < 1:
            raise DataError(f"`{name}` must be at least 1; got {value}.")


def bounded(rng: np.random.Generator, mean: float, sd: float, width: float = 2.0) -> float:
    """A normal draw folded back to mean +- width * sd, so that no sample is grotesque."""
    return mean + sd * float(np.clip(rng.standard_normal(), -width, width))


def grid(shape: Sequence[int], spacing: float | Sequence[float]) -> list[Array]:
    """Coordinates of voxel centres in mm from the centre of the grid, one broadcastable array per axis.

    x_k = (index - (n_k - 1) / 2) * spacing_k

    >>> rows, columns = grid((2, 3), 1.5)
    >>> rows.ravel().tolist(), columns.ravel().tolist()
    ([-0.75, 0.75], [-1.5, 0.0, 1.5])
    """
    steps = np.broadcast_to(np.asarray(spacing, dtype=np.float64), (len(shape),))
    axes = [(np.arange(n) - (n - 1) / 2) * step for n, step in zip(shape, steps, strict=True)]
    return [np.asarray(axis) for axis in np.meshgrid(*axes, indexing="ij", sparse=True)]


def rotation(angles: Sequence[float]) -> Array:
    """Rotation matrix of one angle (2-D) or three angles about the array axes 0, 1, 2 (3-D, applied in that order), in rad.

    >>> rotation([np.pi / 2]).round(6).tolist()
    [[0.0, -1.0], [1.0, 0.0]]
    """
    if len(angles) == 1:
        c, s = np.cos(angles[0]), np.sin(angles[0])
        return np.array([[c, -s], [s, c]])
    result = np.eye(3)
    for axis, angle in enumerate(angles):
        first, second = [k for k in range(3) if k != axis]
        turn = np.eye(3)
        turn[[first, first, second, second], [first, second, first, second]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        result = turn @ result
    return result


def ellipsoid_distance(points: Sequence[Array], centre: Sequence[float], semi_axes: Sequence[float], axes: Array | None = None) -> Array:
    """First-order signed distance to an ellipsoid, in mm, negative inside; exact for spheres.

    d = q (q - 1) / |grad (q^2 / 2)| with q^2 = sum (p_k / a_k)^2 and p the point in the frame of the ellipsoid.

    Args:
        points: one broadcastable coordinate array per axis, in mm.
        centre: in mm.
        semi_axes: a_k > 0, in mm.
        axes: its rows are the directions of the semi-axes; the array axes by default.
    """
    offset = [x - c for x, c in zip(points, centre, strict=True)]
    if axes is not None:
        offset = [np.asarray(sum(float(w) * x for w, x in zip(row, offset, strict=True))) for row in axes]
    squares = sum((p / a) ** 2 for p, a in zip(offset, semi_axes, strict=True))
    slopes = sum((p / a**2) ** 2 for p, a in zip(offset, semi_axes, strict=True))
    q, slope = np.sqrt(squares), np.sqrt(slopes)
    tiny = 1e-12  # at the very centre both vanish; the distance there is the smallest semi-axis
    return np.asarray((q - 1.0) * (q + tiny) / (slope + tiny / min(semi_axes)))


def coverage(distance: Array, pixel: float) -> Array:
    """Share of a pixel inside a surface at signed distance d: clip(1/2 - d / pixel, 0, 1).

    >>> coverage(np.array([-2.0, 0.0, 0.25]), 1.0).tolist()
    [1.0, 0.5, 0.25]
    """
    return np.clip(0.5 - distance / pixel, 0.0, 1.0)


def paint(image: Array, value: float | Array, share: Array) -> None:
    """Cover `share` of every pixel of `image` with `value`, in place."""
    image += share * (value - image)


@dataclass(frozen=True)
class Waves:
    """A smooth random field of zero mean and unit variance: f(x) = sqrt(2 / K) sum_k cos(v_k . x + phase_k).

    Defined in mm, so that the same tissue is drawn at any resolution.

    Args:
        vectors: wave vectors v_k, rad/mm, [K, D].
        phases: rad, [K].
    """

    vectors: Array
    phases: Array

    @classmethod
    def draw(cls, rng: np.random.Generator, dim: int, wavelength: float, count: int = 12, spread: float = 0.3) -> Waves:
        """Isotropic waves with lengths within a factor 1 +- spread of `wavelength` mm."""
        directions = rng.standard_normal((count, dim))
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        lengths = wavelength * rng.uniform(1 - spread, 1 + spread, (count, 1))
        return cls(2 * np.pi / lengths * directions, rng.uniform(0, 2 * np.pi, count))

    def __call__(self, points: Sequence[Array]) -> Array:
        """f at the points of a grid."""
        return self._sum(points, np.ones(len(self.phases), dtype=np.complex128))

    def slope(self, points: Sequence[Array]) -> Array:
        """|grad f| at the points of a grid, per mm."""
        parts = [self._sum(points, 1j * self.vectors[:, k]) for k in range(self.vectors.shape[1])]
        return np.sqrt(sum(part**2 for part in parts))

    def _sum(self, points: Sequence[Array], factors: NDArray[np.complexfloating[Any, Any]]) -> Array:
        # A plane wave is a product of one factor per axis, so a grid costs a matrix product, not a cosine per pixel and wave.
        waves = [np.exp(1j * np.outer(self.vectors[:, k], x.ravel())) for k, x in enumerate(points)]
        waves[0] = waves[0] * (factors * np.exp(1j * self.phases))[:, None]
        first = waves[0]
        for middle in waves[1:-1]:
            first = np.einsum("k...,kb->k...b", first, middle)
        # Plain einsum, not a BLAS product: these are small, and BLAS threads wait for each other on a busy machine.
        total = np.einsum("k...,kb->...b", first, waves[-1]) if len(waves) > 1 else first.sum(0)
        return np.asarray(np.sqrt(2 / len(self.phases)) * total.real)


def rician(rng: np.random.Generator, image: Array, sigma: float) -> Array:
    """Magnitude of a complex MR signal: |image + sigma (n_1 + i n_2)| with standard normal n_1, n_2."""
    return np.hypot(image + sigma * rng.standard_normal(image.shape), sigma * rng.standard_normal(image.shape))
