"""Fetal skulls as nested ellipsoids: volumes, thickness and biometrics known, three orthogonal planes as in a scan."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from medgen.data.phantoms.drawing import Array, bounded, ellipsoid_distance, grid, rotation

__all__ = ["SHAPES", "STRUCTURES", "Skull", "draw_skull", "skull_volume", "three_planes"]

SHAPES = ("dolichocephaly", "mesocephaly", "brachycephaly")
"""Long, ordinary and short heads: cephalic index below 0.75, from 0.75 to 0.85, above 0.85."""

STRUCTURES = ("background", "skull", "brain", "ventricles")


@dataclass(frozen=True, kw_only=True)
class Skull:
    """The truth about one skull; lengths in mm, angles in rad. Axes: 0 right to left, 1 back to front, 2 feet to head.

    The skull lies between ellipsoids with semi-axes `outer` and `outer - thickness`; each of the two ventricles is an ellipsoid.

    Args:
        gestational_age: in weeks.
        outer: semi-axes (biparietal, occipitofrontal, vertical) / 2.
        thickness: of the bone along each axis.
        centre: of the head, from the centre of the grid.
        angles: of the head about the three axes.
        ventricle: semi-axes of one ventricle.
        ventricle_offset: distance of its centre from the midline.
    """

    gestational_age: float
    outer: tuple[float, float, float]
    thickness: float
    centre: tuple[float, float, float]
    angles: tuple[float, float, float]
    ventricle: tuple[float, float, float]
    ventricle_offset: float

    @property
    def inner(self) -> tuple[float, float, float]:
        """Semi-axes of the inner surface."""
        a, b, c = (axis - self.thickness for axis in self.outer)
        return a, b, c

    @property
    def cephalic_index(self) -> float:
        """Biparietal over occipitofrontal diameter."""
        return self.outer[0] / self.outer[1]

    @property
    def shape_class(self) -> int:
        """Index into `SHAPES`."""
        return int(self.cephalic_index >= 0.75) + int(self.cephalic_index > 0.85)

    @property
    def skull_volume(self) -> float:
        """Of the bone, 4/3 pi (a b c - (a - t)(b - t)(c - t)), in ml."""
        return _volume(self.outer) - _volume(self.inner)

    @property
    def cranial_volume(self) -> float:
        """Inside the bone, in ml."""
        return _volume(self.inner)

    @property
    def ventricular_volume(self) -> float:
        """Of both ventricles, in ml."""
        return 2.0 * _volume(self.ventricle)


def _volume(semi_axes: tuple[float, float, float]) -> float:
    return 4.0 / 3.0 * math.pi * math.prod(semi_axes) / 1000.0


def draw_skull(rng: np.random.Generator) -> Skull:
    """A random skull of 20 to 36 weeks, turned by up to 10 degrees about each axis and off centre by up to 3 mm."""
    age = float(rng.uniform(20.0, 36.0))
    biparietal = 47.0 + 2.6 * (age - 20.0) + bounded(rng, 0.0, 1.5)
    index = bounded(rng, 0.80, 0.05, 2.5)
    half = 0.5 * biparietal
    outer = (half, half / index, half * bounded(rng, 1.1, 0.04))
    return Skull(
        gestational_age=age,
        outer=outer,
        thickness=bounded(rng, 2.8 + 0.06 * (age - 20.0), 0.2),
        centre=_three(rng.uniform(-3.0, 3.0, 3)),
        angles=_three(np.radians(rng.uniform(-10.0, 10.0, 3))),
        ventricle=_three(half * np.array([0.12, 0.55, 0.22]) * rng.uniform(0.8, 1.2)),
        ventricle_offset=0.3 * half,
    )


def _three(values: Array) -> tuple[float, float, float]:
    a, b, c = (float(v) for v in values)
    return a, b, c


def skull_volume(skull: Skull, size: int, spacing: float, *, inside: bool = False) -> NDArray[np.uint8]:
    """Label volume [size, size, size], an index into `STRUCTURES` at each voxel's centre.

    Args:
        skull: the truth.
        size: voxels per side.
        spacing: mm per voxel.
        inside: label brain and ventricles too, not the bone alone.
    """
    points, axes = grid((size, size, size), spacing), rotation(skull.angles).T
    labels = (ellipsoid_distance(points, skull.centre, skull.outer, axes) < 0).astype(np.uint8)
    cavity = ellipsoid_distance(points, skull.centre, skull.inner, axes) < 0
    labels[cavity] = 2 if inside else 0
    if inside:
        for side in (-1.0, 1.0):
            centre = np.array(skull.centre) + side * skull.ventricle_offset * axes[0]
            labels[ellipsoid_distance(points, centre.tolist(), skull.ventricle, axes) < 0] = 3
    return labels


def three_planes(volumes: NDArray[np.uint8], at: tuple[int, int, int] | None = None) -> NDArray[np.uint8]:
    """Axial, sagittal and coronal planes [..., 3, S, S] of cubes [..., S, S, S].

    Args:
        volumes: axes right to left, back to front, feet to head.
        at: index of the sagittal, coronal and axial plane; the middle ones by default.

    >>> cube = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    >>> three_planes(cube).tolist()
    [[[1, 3], [5, 7]], [[4, 5], [6, 7]], [[2, 3], [6, 7]]]
    """
    i, j, k = at or (volumes.shape[-1] // 2,) * 3
    return np.stack([volumes[..., :, :, k], volumes[..., i, :, :], volumes[..., :, j, :]], axis=-3)
