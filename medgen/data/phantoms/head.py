"""A head made of implicit surfaces, in 2-D (an axial slice) or 3-D: the tissue shares from which MR contrasts and CT are computed.

The cortex is procedural: sulci are the zero set of a field of random waves, grey matter is what lies within a cortical thickness of a
sulcus or of the brain's surface. Shares are anti-aliased, so that a mixed voxel has the mixed signal of its tissues, as in a scan.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medgen.data.phantoms.drawing import Array, Waves, bounded, coverage, ellipsoid_distance, grid, paint

__all__ = ["TISSUES", "Ellipsoid", "Head", "draw_head", "tissue_shares"]

TISSUES = ("air", "fat", "muscle", "bone", "marrow", "csf", "grey", "white", "lesion")
_INDEX = {name: k for k, name in enumerate(TISSUES)}


@dataclass(frozen=True)
class Ellipsoid:
    """Centre and semi-axes in mm; axes: 0 up-down in the image (front to back), 1 left to right, 2 through plane."""

    centre: tuple[float, ...]
    semi_axes: tuple[float, ...]

    def distance(self, points: Sequence[Array]) -> Array:
        """Signed distance in mm, negative inside."""
        return ellipsoid_distance(points, self.centre, self.semi_axes)


@dataclass(frozen=True, kw_only=True)
class Head:
    """The truth about one head; lengths in mm.

    Args:
        brain: the outer surface of the brain.
        csf: thickness of the fluid around the brain.
        bone: thickness of the skull.
        scalp: thickness of the soft tissue on it.
        cortex: thickness of grey matter.
        sulcus_depth: how deep sulci go.
        folds: the waves whose zeros are the sulci.
        ventricles, nuclei: fluid-filled ventricles and deep grey matter.
        lesions: in the white matter.
        severity: share of white matter that a lesion replaces.
        sinus: air cavity in the frontal bone.
    """

    brain: Ellipsoid
    csf: float
    bone: float
    scalp: float
    cortex: float
    sulcus_depth: float
    folds: Waves
    ventricles: tuple[Ellipsoid, ...]
    nuclei: tuple[Ellipsoid, ...]
    lesions: tuple[Ellipsoid, ...]
    severity: float
    sinus: Ellipsoid

    @property
    def dim(self) -> int:
        """2 or 3."""
        return len(self.brain.semi_axes)


def draw_head(
    rng: np.random.Generator, dim: int = 2, lesions: tuple[int, int] = (0, 0), severity: tuple[float, float] = (0.6, 0.95)
) -> Head:
    """A random head with a number of lesions in lesions[0]..lesions[1].

    Args:
        rng: source of every random number.
        dim: 2 for an axial slice through the ventricles, 3 for a volume.
        lesions: smallest and largest number of white-matter lesions.
        severity: least and largest share of white matter that they replace.
    """
    size = bounded(rng, 1.0, 0.035)
    centre = tuple(float(v) for v in rng.normal(0.0, 1.5, dim))
    brain = Ellipsoid(centre, tuple(v * size for v in (bounded(rng, 82.0, 1.5), bounded(rng, 66.0, 1.5), 62.0))[:dim])
    wide = bounded(rng, 1.0, 0.2)
    ventricles, nuclei = [], []
    for side in (-1.0, 1.0):
        for offset, semi in (
            ((-17.0, 8.5), (15.0, 4.0 * wide, 11.0)),
            ((16.0, 13.0), (15.0, 4.5 * wide, 10.0)),
        ):
            ventricles.append(_place(brain, (offset[0] * size, side * offset[1] * size, 2.0), semi))
        nuclei.append(_place(brain, (-16.0 * size, side * 18.0 * size, -2.0), (9.0, 4.0, 8.0)))
        nuclei.append(_place(brain, (-1.0 * size, side * 23.0 * size, -4.0), (14.0, 5.5, 10.0)))
        nuclei.append(_place(brain, (8.0 * size, side * 9.0 * size, -4.0), (9.0, 6.5, 8.0)))
    count = int(rng.integers(lesions[0], lesions[1] + 1))
    return Head(
        brain=brain,
        csf=bounded(rng, 3.0, 0.6),
        bone=bounded(rng, 6.5, 0.8),
        scalp=bounded(rng, 5.5, 0.8),
        cortex=bounded(rng, 3.2, 0.2),
        sulcus_depth=bounded(rng, 14.0, 1.5),
        folds=Waves.draw(rng, dim, 40.0, 16, spread=0.2),
        ventricles=tuple(ventricles),
        nuclei=tuple(nuclei),
        lesions=tuple(_lesion(rng, brain, size, dim) for _ in range(count)),
        severity=float(rng.uniform(*severity)),
        sinus=_place(brain, (-brain.semi_axes[0] - 6.5, bounded(rng, 0.0, 3.0), -12.0), (3.5, 12.0, 10.0)),
    )


def _place(brain: Ellipsoid, offset: tuple[float, float, float], semi: tuple[float, float, float]) -> Ellipsoid:
    dim = len(brain.centre)
    return Ellipsoid(tuple(c + o for c, o in zip(brain.centre, offset[:dim], strict=True)), semi[:dim])


def _lesion(rng: np.random.Generator, brain: Ellipsoid, size: float, dim: int) -> Ellipsoid:
    # Around the ventricles, in the deep white matter, where multiple sclerosis puts them.
    side = float(rng.choice([-1.0, 1.0]))
    row, column = rng.uniform(-44.0, 44.0) * size, side * rng.uniform(17.0, 36.0) * size
    semi = rng.uniform(2.5, 6.5) * rng.uniform(0.75, 1.3, 3)
    place = _place(brain, (row, column, float(rng.uniform(-12.0, 18.0))), (float(semi[0]), float(semi[1]), float(semi[2])))
    return Ellipsoid(place.centre[:dim], place.semi_axes[:dim])


def tissue_shares(head: Head, size: int, spacing: float) -> Array:
    """Share of each tissue in each voxel, [len(TISSUES), *S] with S = size per axis; the shares of a voxel sum to 1.

    Args:
        head: the truth.
        size: voxels per side.
        spacing: mm per voxel.
    """
    points = grid((size,) * head.dim, spacing)
    shares = np.zeros((len(TISSUES), *(size,) * head.dim))
    shares[_INDEX["air"]] = 1.0
    surface = head.brain.distance(points)
    skull, marrow = head.csf + head.bone, 0.32 * head.bone
    _fill(shares, "fat", coverage(surface - skull - head.scalp, spacing))
    _fill(shares, "muscle", coverage(surface - skull - 0.35 * head.scalp, spacing))
    _fill(shares, "bone", coverage(surface - skull, spacing))
    _fill(shares, "marrow", coverage(np.abs(surface - head.csf - 0.5 * head.bone) - 0.5 * marrow, spacing))
    sinus = head.sinus.distance(points)
    _fill(shares, "bone", coverage(sinus - 1.5, spacing) * coverage(surface - skull, spacing))
    _fill(shares, "air", coverage(sinus, spacing) * coverage(surface - skull + 1.5, spacing))
    _fill(shares, "csf", coverage(surface - head.csf, spacing))
    _fill_brain(shares, head, points, surface, spacing)
    return shares


def _fill_brain(shares: Array, head: Head, points: list[Array], surface: Array, spacing: float) -> None:
    # The field's zeros lie |f| / |grad f| away to first order; the fissure between the hemispheres is a sulcus too.
    waves = np.abs(head.folds(points)) / (head.folds.slope(points) + 0.02)
    fissure = np.abs(points[1] - head.brain.centre[1]) + np.zeros_like(surface)
    depth = -surface
    sulcus = np.hypot(waves, np.maximum(0.0, depth - head.sulcus_depth))
    sulcus = np.minimum(sulcus, np.hypot(fissure, np.maximum(0.0, depth - 2.2 * head.sulcus_depth)))
    _fill(shares, "grey", coverage(surface, spacing))
    _fill(shares, "csf", coverage(sulcus - 0.9, spacing) * coverage(surface, spacing))
    _fill(shares, "white", coverage(head.cortex + 0.9 - np.minimum(sulcus, depth + 0.9), spacing))
    for nucleus in head.nuclei:
        _fill(shares, "grey", coverage(nucleus.distance(points), spacing))
    in_white = shares[_INDEX["white"]].copy()
    if head.lesions:  # their union at once, since lesions that overlap are not more severe
        nearest = np.minimum.reduce([lesion.distance(points) for lesion in head.lesions])
        _fill(shares, "lesion", head.severity * coverage(nearest, spacing) * in_white)
    for ventricle in head.ventricles:
        _fill(shares, "csf", coverage(ventricle.distance(points), spacing))


def _fill(shares: Array, tissue: str, share: Array) -> None:
    for k, layer in enumerate(shares):
        paint(layer, float(k == _INDEX[tissue]), share)
