"""Samples to files: one per sample, named by its number, written whole or not at all."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from medgen.data.intensity import cast_like, to_stored
from medgen.data.samples import Array
from medgen.errors import DataError
from medgen.files import atomic_path
from medgen.registry import ImageSpec, require

__all__ = [
    "DESCRIPTION",
    "FORMATS",
    "Format",
    "nifti_image",
    "save_samples",
    "write_csv",
    "write_nifti",
    "write_npz",
    "write_png",
]

Format = Literal["nifti", "npz", "png", "csv"]
FORMATS: tuple[Format, ...] = ("nifti", "npz", "png", "csv")
DESCRIPTION = "medgen synthetic; not for diagnosis"
"""What the header of every written volume says."""

_SUFFIX = {"nifti": ".nii.gz", "npz": ".npz", "png": ".png", "csv": ".csv"}


def save_samples(x: Tensor, spec: ImageSpec, folder: str | os.PathLike[str], start: int = 0, format: Format = "npz") -> list[Path]:
    """Write samples in stored units, one file each, e.g. sample_000042.nii.gz.

    NIfTI: with the spec's affine; a 2-D slice is a volume of one slice on the right axis; several channels lie along the fourth axis.
    PNG: grey levels span the spec's window, 8 bit, or 16 bit where the stored type is finer; label maps hold class numbers; of volumes
    the three middle slices side by side. CSV: tables and 1-D signals, a column per channel. npz: key "x", [C, *S].

    Args:
        x: [B, C, *S] in model units.
        spec: of x.
        folder: made where missing.
        start: number of the first sample.
        format: one of "nifti", "npz", "png", "csv".

    Raises:
        DataError: a format that cannot hold these samples.
    """
    if format not in FORMATS:
        raise DataError(f"`format` must be one of {', '.join(FORMATS)}; got {format!r}.")
    write: dict[str, Callable[[Array, ImageSpec, Path], None]] = {"nifti": _nifti, "npz": _npz, "png": _png, "csv": _csv}
    needs = {"nifti": (2, 3), "png": (2, 3), "csv": (0, 1), "npz": (0, 1, 2, 3)}[format]
    if spec.dim not in needs:
        raise DataError(f"format {format!r} must be used with {' or '.join(f'{d}-D' for d in needs)} samples; got {spec.dim}-D. Use 'npz'.")
    paths = []
    for number, values in enumerate(to_stored(x, spec), start):
        path = Path(folder) / f"sample_{number:06d}{_SUFFIX[format]}"
        write[format](values, spec, path)
        paths.append(path)
    return paths


def nifti_image(values: Array, affine: Array, header: Any = None) -> Any:
    """A NIfTI image of [C, X, Y, Z]; one channel becomes 3-D. A given header keeps its coordinate codes and units."""
    nibabel = require("nibabel", "imaging")
    array = values[0] if len(values) == 1 else np.moveaxis(values, 0, 3)
    if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
        array = array.astype(np.int32)
    image = nibabel.Nifti1Image(array, affine, header=header, dtype=array.dtype)
    image.header.set_data_dtype(array.dtype)
    image.header["cal_min"] = image.header["cal_max"] = 0
    image.header["descrip"] = DESCRIPTION.encode()
    if header is None:
        image.header.set_xyzt_units("mm")
    return image


def write_nifti(values: Array, affine: Array, path: Path, header: Any = None) -> None:
    """Write [C, X, Y, Z] as .nii or .nii.gz."""
    image = nifti_image(values, affine, header)
    with atomic_path(path) as temporary:
        image.to_filename(temporary)


def _nifti(values: Array, spec: ImageSpec, path: Path) -> None:
    affine = np.eye(4) if spec.affine is None else np.array(spec.affine).reshape(4, 4)
    if spec.affine is None and spec.spacing is not None:
        affine = np.diag([*spec.spacing, *[1.0] * (4 - spec.dim)])
    if spec.dim == 2:
        values = np.expand_dims(values, (2 if spec.slice_axis is None else spec.slice_axis) + 1)
    write_nifti(values, affine, path)


def _npz(values: Array, spec: ImageSpec, path: Path) -> None:
    write_npz({"x": values} if spec.affine is None else {"x": values, "affine": np.array(spec.affine).reshape(4, 4)}, path)


def write_npz(arrays: dict[str, Any], path: Path) -> None:
    """Write arrays by name, compressed."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _csv(values: Array, spec: ImageSpec, path: Path) -> None:
    names = spec.channel_names or tuple(f"channel_{c}" for c in range(spec.channels))
    write_csv(values[None] if spec.dim == 0 else values.T, names, path)


def write_csv(rows: Array, names: tuple[str, ...], path: Path) -> None:
    """Rows [N, D] under a header; digits enough to read back the same floats."""
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if names:
            writer.writerow(names)
        writer.writerows([[str(v) for v in row] for row in rows])


def _png(values: Array, spec: ImageSpec, path: Path) -> None:
    write_png(_montage(values) if spec.dim == 3 else values, spec, path)


def _montage(volume: Array) -> Array:
    """The three middle slices of [C, X, Y, Z], side by side, each padded to the tallest."""
    planes = [np.take(volume, volume.shape[k + 1] // 2, axis=k + 1) for k in range(3)]
    height = max(p.shape[1] for p in planes)
    padded = [np.pad(p, ((0, 0), (0, height - p.shape[1]), (0, 0)), mode="constant", constant_values=p.min()) for p in planes]
    return np.concatenate(padded, 2)


def write_png(values: Array, spec: ImageSpec, path: Path) -> None:
    """Stored values [C, H, W] as PNG: 8 and 16 bit integers as they are, others spread over 16 bit (8 bit for colour).

    Of other than 1, 3 or 4 channels, the channels are put side by side.
    """
    pillow = require("PIL.Image", "imaging")
    if len(values) not in (1, 3, 4):
        values = np.concatenate(list(values), 1)[None]
    colour = len(values) > 1
    kept = spec.content == "labels" or values.dtype == np.uint8 or (values.dtype == np.uint16 and not colour)
    if not kept:
        low, high = min(spec.intensity.low), max(spec.intensity.high)
        top = 255 if colour else 65535
        values = cast_like((values.astype(np.float64) - low) / (high - low) * top, np.dtype(np.uint8 if colour else np.uint16))
    elif values.dtype not in (np.uint8, np.uint16):
        values = cast_like(values, np.dtype(np.uint8 if values.max(initial=0) < 256 else np.uint16))
    picture = pillow.fromarray(np.moveaxis(values, 0, 2) if colour else values[0])
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")
