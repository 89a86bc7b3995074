"""NIfTI files (.nii, .nii.gz): one volume each; 4-D ones only where `channels` says which of their last axis are meant."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgen.data.checks import whole_numbers
from medgen.data.config import DataConfig
from medgen.data.geometry import Grid, VolumeFile
from medgen.data.readers.volumes import subject_of
from medgen.data.samples import Array
from medgen.errors import DataError
from medgen.registry import require

__all__ = ["SUFFIXES", "read_files"]

SUFFIXES = (".nii", ".nii.gz")


def read_files(paths: Sequence[Path], config: DataConfig) -> list[VolumeFile]:
    """The headers of all files; values are read on demand.

    Raises:
        DataError: corrupt, 4-D without `channels`, or not scalar, naming the file.
    """
    return [_describe(path, config) for path in paths]


def _describe(path: Path, config: DataConfig) -> VolumeFile:
    nibabel = require("nibabel", "imaging")
    try:
        image = nibabel.load(path)
        header, affine = image.header.copy(), np.asarray(image.affine, dtype=np.float64)
        shape, stored = tuple(int(s) for s in image.shape), image.get_data_dtype()
        slope, intercept = image.dataobj.slope, image.dataobj.inter
    except Exception as error:  # nibabel, gzip and the OS raise many kinds
        raise DataError(f"{path}: must be a readable NIfTI file; {type(error).__name__}: {error}") from error
    space, channels = _shape(shape, path, config)
    if stored.kind not in "biuf":
        raise DataError(f"{path}: voxels must be real numbers; got {stored}.")
    if not (np.isfinite(affine).all() and abs(np.linalg.det(affine[:3, :3])) > 1e-12):
        raise DataError(f"{path}: the voxel-to-world matrix must be invertible; got {affine.tolist()}.")
    dtype = _native(stored, scaled=slope not in (None, 1) or intercept not in (None, 0), labels=config.content == "labels")
    keep = config.channels if len(shape) == 4 else None
    return VolumeFile(
        path=path,
        grid=Grid(space, affine),
        channels=channels,
        dtype=dtype,
        load=lambda: _load(path, space, keep, dtype),
        subject=subject_of(path, config),
        header=header,
    )


def _native(stored: np.dtype[Any], *, scaled: bool, labels: bool) -> np.dtype[Any]:
    """The dtype that values are held in: label maps are often saved as floats."""
    if stored.kind == "f" or scaled:
        return np.dtype(np.int16 if labels else np.float32)
    return np.dtype(np.uint8) if stored.kind == "b" else stored.newbyteorder("=")


def _shape(shape: tuple[int, ...], path: Path, config: DataConfig) -> tuple[tuple[int, ...], int]:
    """(X, Y, Z) and the number of channels."""
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) < 3:
        shape = (*shape, *[1] * (3 - len(shape)))
    if len(shape) == 4 and config.channels is not None:
        if max(config.channels) >= shape[3] or min(config.channels) < 0:
            raise DataError(f"{path}: `channels` must be in 0..{shape[3] - 1}; got {config.channels}.")
        return shape[:3], len(config.channels)
    if len(shape) != 3:
        raise DataError(
            f"{path}: must be a 3-D volume; got shape {shape}. Give `channels` (e.g. 0) to choose from the last axis, or split the file."
        )
    return shape, 1


def _load(path: Path, space: tuple[int, ...], keep: tuple[int, ...] | None, dtype: np.dtype[np.generic]) -> Array:
    nibabel = require("nibabel", "imaging")
    try:
        values = np.asarray(nibabel.load(path).dataobj)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read, it may be truncated; {type(error).__name__}: {error}") from error
    if dtype.kind in "iu" and values.dtype.kind == "f":
        values = whole_numbers(values, str(path))
    values = values.reshape(1, *space) if keep is None else np.moveaxis(values, 3, 0)[list(keep)]
    return np.ascontiguousarray(values, dtype=dtype)
