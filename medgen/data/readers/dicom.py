"""DICOM series: a folder of slices becomes one volume, sorted in space, in rescaled units (HU for CT)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from medgen.data.config import DataConfig
from medgen.data.geometry import Grid, VolumeFile
from medgen.data.readers.volumes import subject_of
from medgen.data.samples import Array
from medgen.errors import DataError
from medgen.registry import require

__all__ = ["is_dicom", "read_folders"]

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def is_dicom(path: Path) -> bool:
    """By suffix, or by the four letters behind the preamble."""
    if path.suffix.lower() == ".dcm":
        return True
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def read_folders(folders: Sequence[Sequence[Path]], config: DataConfig) -> list[VolumeFile]:
    """One volume per group of files.

    Raises:
        DataError: corrupt, several series in one folder, slices that form no grid; naming the file or folder.
    """
    return [_series(list(paths), config) for paths in folders]


def _series(paths: list[Path], config: DataConfig) -> VolumeFile:
    headers = [_header(path) for path in paths]
    folder = paths[0].parent
    uids = sorted({str(h.get("SeriesInstanceUID", "")) for h in headers})
    if len(uids) > 1:
        raise DataError(f"{folder}: must hold one series; got {len(uids)}: {', '.join(uids)}. Put each into a folder of its own.")
    order, grid = _grid(headers, paths)
    first = headers[0]
    whole = all(_is_whole(h) for h in headers)
    patient = str(first.get("PatientID", ""))
    return VolumeFile(
        path=folder,
        grid=grid,
        channels=1,
        dtype=np.dtype(np.int16 if whole else np.float32),
        load=lambda: _load([paths[k] for k in order], grid.shape, whole),
        subject=patient if config.subjects == "auto" and patient else subject_of(folder, config),
        unit="HU" if first.get("Modality") == "CT" else "",
    )


def _header(path: Path) -> Any:
    pydicom = require("pydicom", "imaging")
    try:
        header = pydicom.dcmread(path, stop_before_pixels=True)
        needed = ("Rows", "Columns", "PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient")
        missing = [name for name in needed if name not in header]
        frames, samples = int(header.get("NumberOfFrames", 1) or 1), int(header.get("SamplesPerPixel", 1))
    except Exception as error:  # pydicom raises many kinds
        raise DataError(f"{path}: must be a readable DICOM file; {type(error).__name__}: {error}") from error
    if frames > 1 or samples > 1:
        raise DataError(f"{path}: must hold one grey slice; got {frames} frames of {samples} colours. Convert it to NIfTI.")
    if missing:
        raise DataError(f"{path}: a slice of a series must have {', '.join(missing)}. Single radiographs can be read as PNG or TIFF.")
    return header


def _grid(headers: list[Any], paths: list[Path]) -> tuple[list[int], Grid]:
    """Order of the slices along their normal, and their grid [column, row, slice] in RAS."""
    first = headers[0]
    cosines = np.array(first.ImageOrientationPatient, dtype=np.float64)
    size = (int(first.Columns), int(first.Rows))
    between_rows, between_columns = (float(v) for v in first.PixelSpacing)
    for header, path in zip(headers, paths, strict=True):
        if (int(header.Columns), int(header.Rows)) != size:
            raise DataError(f"{path}: slices must be {size[1]} x {size[0]} like {paths[0].name}; got {header.Rows} x {header.Columns}.")
        if not np.allclose(np.array(header.ImageOrientationPatient, dtype=np.float64), cosines, atol=1e-3):
            raise DataError(f"{path}: slices must be parallel to {paths[0].name}; this one is not (a localizer?).")
    along_row, along_column = cosines[:3], cosines[3:]
    normal = np.cross(along_row, along_column)
    positions = np.array([h.ImagePositionPatient for h in headers], dtype=np.float64)
    heights = positions @ normal
    order = np.argsort(heights, kind="stable").tolist()
    step = _step(heights[order], [paths[k] for k in order], first)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = along_row * between_columns, along_column * between_rows
    # A tilted gantry shifts the slices: take the step from the positions themselves.
    last = positions[order[-1]] - positions[order[0]]
    affine[:3, 2] = last / (len(order) - 1) if len(order) > 1 else normal * step
    affine[:3, 3] = positions[order[0]]
    return [int(k) for k in order], Grid((*size, len(order)), _LPS_TO_RAS @ affine)


def _step(heights: Array, paths: list[Path], first: Any) -> float:
    if len(heights) == 1:
        return float(first.get("SpacingBetweenSlices") or first.get("SliceThickness") or 1.0)
    gaps = np.diff(heights)
    if (gaps < 1e-3).any():
        k = int(np.flatnonzero(gaps < 1e-3)[0])
        raise DataError(f"{paths[k + 1]}: lies where {paths[k].name} lies; a series of several times or echoes must be split.")
    if gaps.max() > 1.5 * gaps.min():
        k = int(gaps.argmax())
        raise DataError(f"{paths[k + 1]}: a slice is missing before it; the gap is {gaps[k]:g} mm where others are {gaps.min():g} mm.")
    return float(gaps.mean())


def _is_whole(header: Any) -> bool:
    """Rescaled values are integers within int16."""
    slope, intercept = float(header.get("RescaleSlope", 1)), float(header.get("RescaleIntercept", 0))
    bits = int(header.get("BitsStored", 16))
    signed = int(header.get("PixelRepresentation", 0)) == 1
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    extremes = (low * slope + intercept, high * slope + intercept)
    return slope == int(slope) and intercept == int(intercept) and min(extremes) >= -32768 and max(extremes) <= 32767


def _load(paths: list[Path], shape: tuple[int, ...], whole: bool) -> Array:
    pydicom = require("pydicom", "imaging")
    out = np.empty((1, *shape), np.int16 if whole else np.float32)
    for k, path in enumerate(paths):
        try:
            slice_ = pydicom.dcmread(path)
            pixels = slice_.pixel_array.astype(np.float64)
        except Exception as error:  # decoders raise many kinds
            raise DataError(f"{path}: its pixels cannot be read; {type(error).__name__}: {error}") from error
        values = pixels * float(slice_.get("RescaleSlope", 1)) + float(slice_.get("RescaleIntercept", 0))
        out[0, :, :, k] = values.T
    return out
