"""Volumes on their way to samples and back: orientation, voxel size (MONAI), slices, sample size. Affines are voxel-to-world, RAS+ mm.

Anatomical axes: 0 runs left-right (slices across it are sagittal), 1 front-back (coronal), 2 up-down (axial).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medgen.data.intensity import cast_like
from medgen.data.resize import resize
from medgen.data.samples import Array
from medgen.errors import DataError
from medgen.registry import require

__all__ = ["Grid", "Plan", "VolumeFile", "affine_resized", "axis_codes", "check_alike"]

_LETTERS = (("L", "R"), ("P", "A"), ("I", "S"))


@dataclass(frozen=True)
class Grid:
    """A voxel grid: shape (X, Y, Z) and 4x4 affine."""

    shape: tuple[int, ...]
    affine: Array

    @property
    def spacing(self) -> tuple[float, ...]:
        """Voxel size along each axis, in mm."""
        return tuple(float(v) for v in np.linalg.norm(self.affine[:3, :3], axis=0))


@dataclass(frozen=True)
class VolumeFile:
    """A volume that can be read: where it is, its grid, and how to load it as [C, X, Y, Z]."""

    path: Path
    grid: Grid
    channels: int
    dtype: np.dtype[Any]
    load: Callable[[], Array]
    subject: str
    unit: str = ""
    header: Any = None


def check_grids(pairs: Iterable[tuple[VolumeFile, VolumeFile]]) -> None:
    """Voxel for voxel: medgen resamples no file onto the grid of another by itself.

    Args:
        pairs: a file (a mask, the other side of a pair) and the one whose grid it must lie on.

    Raises:
        DataError: a grid that differs, naming the files.
    """
    for file, target in pairs:
        own, its = file.grid, target.grid
        if own.shape != its.shape or not np.allclose(own.affine, its.affine, rtol=0, atol=1e-3):
            raise DataError(
                f"{file.path}: must lie on the voxel grid of {target.path}, of shape {its.shape}; its own has shape "
                f"{own.shape}{' and another affine' * (own.shape == its.shape)}. Register and resample it first."
            )


def axis_codes(affine: Array) -> str:
    """The anatomical direction in which each voxel axis grows.

    >>> axis_codes(np.diag([-1.0, 1.0, 1.0, 1.0]))
    'LAS'
    """
    direction = affine[:3, :3] / np.maximum(np.linalg.norm(affine[:3, :3], axis=0), 1e-12)
    codes = [""] * 3
    left = np.abs(direction).copy()
    for _ in range(3):  # strongest match first, so that oblique axes never share a letter
        world, voxel = np.unravel_index(int(left.argmax()), (3, 3))
        codes[int(voxel)] = _LETTERS[int(world)][int(direction[world, voxel] > 0)]
        left[world, :] = left[:, voxel] = -1.0
    return "".join(codes)


def affine_resized(affine: Array, old: tuple[int, ...], new: tuple[int, ...]) -> Array:
    """The affine after resizing with the field of view kept: voxel i lies where (i + 1/2) old/new - 1/2 lay.

    >>> affine_resized(np.eye(4), (4, 4, 4), (2, 4, 4))[0].tolist()
    [2.0, 0.0, 0.0, 0.5]
    """
    ratio = np.array(old) / np.array(new)
    step = np.diag([*ratio, 1.0])
    step[:3, 3] = (ratio - 1) / 2
    resized: Array = affine @ step
    return resized


@dataclass(frozen=True)
class Plan:
    """What is done to every volume, in this order; `undo` goes back.

    Args:
        codes: orientation, e.g. "RAS"; None leaves the volume as stored.
        spacing: voxel size after resampling, per axis of the oriented volume; NaN keeps that axis; None keeps all.
        axis: axis of the oriented volume across which slices are cut, or None.
        size: shape of a sample, or None for what comes.
        labels: nearest neighbours, never a mixture of labels.
        same_view: volumes whose field of view is `size` times `spacing`, up to a voxel, are resized at once instead of resampled.
    """

    codes: str | None = None
    spacing: tuple[float, ...] | None = None
    axis: int | None = None
    size: tuple[int, ...] | None = None
    labels: bool = False
    same_view: bool = False

    def turned(self, grid: Grid) -> Grid:
        """The grid after orientation."""
        if self.codes is None or self.codes == axis_codes(grid.affine):
            return grid
        shape, affine = _oriented(np.empty((1, *grid.shape), np.uint8), grid.affine, self.codes)
        return Grid(shape.shape[1:], affine)

    def wanted(self, grid: Grid) -> tuple[float, ...] | None:
        """Voxel size of the resampled grid, or None where nothing is to be resampled."""
        if self.spacing is None:
            return None
        wanted = tuple(old if np.isnan(new) else new for old, new in zip(grid.spacing, self.spacing, strict=True))
        if np.allclose(wanted, grid.spacing, rtol=1e-3) or (self.same_view and self._views(grid, wanted)):
            return None
        return wanted

    def spaced(self, grid: Grid) -> Grid:
        """The grid after orientation and resampling."""
        turned = self.turned(grid)
        wanted = self.wanted(turned)
        if wanted is None:
            return turned
        values, affine = _spaced(np.zeros((1, *turned.shape), np.uint8), turned.affine, wanted, labels=True)
        return Grid(values.shape[1:], affine)

    def _views(self, grid: Grid, spacing: tuple[float, ...]) -> bool:
        size = list(self.size or ())
        if self.axis is not None:
            size.insert(self.axis, grid.shape[self.axis])
        extents = zip(size, spacing, grid.shape, grid.spacing, strict=True)
        return all(abs(n * new - old_n * old) <= max(new, old) for n, new, old_n, old in extents)

    def cut(self, file: VolumeFile) -> tuple[Array, Grid]:
        """The samples of a volume, [n, C, *S], in its dtype, and the grid that they form."""
        values = file.load()
        grid = file.grid
        if self.codes is not None and self.codes != axis_codes(grid.affine):
            values, affine = _oriented(values, grid.affine, self.codes)
            grid = Grid(values.shape[1:], affine)
        if (wanted := self.wanted(grid)) is not None:
            values, affine = _spaced(values, grid.affine, wanted, self.labels)
            grid = Grid(values.shape[1:], affine)
        samples = values[None] if self.axis is None else np.moveaxis(values, self.axis + 1, 0)
        samples = np.ascontiguousarray(samples)
        if self.size is None or self.size == samples.shape[2:]:
            return samples, grid
        samples = resize(samples, self.size, labels=self.labels)
        shape = list(self.size)
        if self.axis is not None:
            shape.insert(self.axis, grid.shape[self.axis])
        return samples, Grid(tuple(shape), affine_resized(grid.affine, grid.shape, tuple(shape)))

    def undo(self, samples: Array, file: VolumeFile) -> Array:
        """Samples [n, C, *S] of one volume, all its slices in order, back to [C, X, Y, Z] on the grid of the file."""
        turned, spaced = self.turned(file.grid), self.spaced(file.grid)
        plane = spaced.shape if self.axis is None else tuple(s for k, s in enumerate(spaced.shape) if k != self.axis)
        samples = resize(samples, plane, labels=self.labels)
        values = samples[0] if self.axis is None else np.moveaxis(samples, 0, self.axis + 1)
        if self.wanted(turned) is not None:
            values = _resampled(values, spaced.affine, turned, self.labels)
        return _oriented(values, turned.affine, axis_codes(file.grid.affine))[0]

    def with_axis_of(self, anatomical: int | None, codes: str) -> Plan:
        """The plan that cuts across the voxel axis nearest to an anatomical one."""
        if anatomical is None:
            return replace(self, axis=None)
        return replace(self, axis=next(k for k, letter in enumerate(codes) if letter in _LETTERS[anatomical]))


def _oriented(values: Array, affine: Array, codes: str) -> tuple[Array, Array]:
    """MONAI's Orientation: flips and permutations only, so that any dtype survives."""
    if axis_codes(affine) == codes:
        return values, affine
    transforms, data = require("monai.transforms", "imaging"), require("monai.data", "imaging")
    # Indices into the flat volume are turned instead of the values: exact whatever the dtype.
    index = np.arange(int(np.prod(values.shape[1:]))).reshape(1, *values.shape[1:])
    done = transforms.Orientation(axcodes=codes, labels=_LETTERS)(data.MetaTensor(torch.from_numpy(index), affine=torch.from_numpy(affine)))
    turned = np.asarray(done.as_tensor().numpy(), dtype=np.int64)[0]
    return values.reshape(len(values), -1)[:, turned], np.asarray(done.affine.numpy(), dtype=np.float64)


def _spaced(values: Array, affine: Array, spacing: tuple[float, ...], labels: bool) -> tuple[Array, Array]:
    """MONAI's Spacing: trilinear, or nearest for labels; integers are rounded back to their dtype."""
    transforms, data = require("monai.transforms", "imaging"), require("monai.data", "imaging")
    spacer = transforms.Spacing(
        pixdim=spacing, mode="nearest" if labels else "bilinear", padding_mode="border", align_corners=False, dtype=torch.float64
    )
    done = spacer(data.MetaTensor(torch.from_numpy(values.astype(np.float64)), affine=torch.from_numpy(affine)))
    return cast_like(done.as_tensor().numpy(), values.dtype), np.asarray(done.affine.numpy(), dtype=np.float64)


def _resampled(values: Array, affine: Array, to: Grid, labels: bool) -> Array:
    transforms, data = require("monai.transforms", "imaging"), require("monai.data", "imaging")
    mode = "nearest" if labels else "bilinear"
    resampler = transforms.SpatialResample(mode=mode, padding_mode="border", align_corners=False, dtype=torch.float64)
    source = data.MetaTensor(torch.from_numpy(values.astype(np.float64)), affine=torch.from_numpy(affine))
    done = resampler(source, dst_affine=torch.from_numpy(to.affine), spatial_size=to.shape)
    return cast_like(done.as_tensor().numpy(), values.dtype)


def check_alike(files: list[VolumeFile]) -> None:
    """Volumes of one dataset must hold the same kind of values.

    Raises:
        DataError: integers beside floating values, or different numbers of channels, naming the file.
    """
    first = files[0]
    for file in files[1:]:
        if (file.dtype.kind == "f") != (first.dtype.kind == "f"):
            raise DataError(
                f"{file.path}: is {file.dtype} while {first.path.name} is {first.dtype}; images and label maps cannot be mixed. "
                "Choose files with the option `select`."
            )
        if file.channels != first.channels:
            raise DataError(f"{file.path}: must have {first.channels} channel(s) like {first.path.name}; got {file.channels}.")
