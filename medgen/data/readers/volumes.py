"""Volumes, whatever the file format, as samples: whole, or cut into slices; in memory, or read when needed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medgen.data.config import DataConfig
from medgen.data.geometry import Grid, Plan, VolumeFile, axis_codes, check_alike
from medgen.data.samples import Array, ArrayStore, LazyStore, Samples, Store
from medgen.errors import DataError

__all__ = ["MEMORY_LIMIT", "Volumes", "gather_volumes", "subject_of"]

MEMORY_LIMIT = 2 << 30
"""Bytes of samples that are held in memory; larger sets are read file by file."""


@dataclass(frozen=True)
class Volumes:
    """Which sample came from where: for `save_like`."""

    files: tuple[VolumeFile, ...]
    plan: Plan
    file: Array
    place: Array


def gather_volumes(files: Sequence[VolumeFile], source: str, config: DataConfig, plan: Plan | None = None) -> Samples:
    """The samples of all volumes.

    Args:
        files: at least one.
        source: path of the whole.
        config: how to cut them.
        plan: instead of what the config and the first volume say, for `open_like`.

    Raises:
        DataError: volumes that do not fit together, naming the file.
    """
    files = list(files)
    check_alike(files)
    fitted = plan or plan_for(files, config)
    dtype = np.result_type(*(f.dtype for f in files))
    store, number, place, grid = _cut_all(files, fitted, config, dtype)
    axis = fitted.axis
    spacing = grid.spacing if axis is None else tuple(s for k, s in enumerate(grid.spacing) if k != axis)
    names = [f.path.name for f in files]
    subjects = np.array([f.subject for f in files])[number]
    return Samples(
        store=store,
        origins=lambda i: names[number[i]] + ("" if axis is None else f" slice {place[i]}"),
        source=source,
        subjects=None if config.subjects == "none" else subjects,
        ordered=axis is not None,
        spacing=spacing,
        affine=tuple(float(v) for v in grid.affine.reshape(-1)),
        slice_axis=axis,
        unit=files[0].unit,
        geometry=Volumes(tuple(files), fitted, number, place),
        warnings=_warnings(files, fitted),
    )


def plan_for(files: Sequence[VolumeFile], config: DataConfig) -> Plan:
    """What the config asks for; volumes that lie differently are turned like the first."""
    own = axis_codes(files[0].grid.affine)
    codes = config.orientation or own
    labels = config.content == "labels" or (config.content == "auto" and _are_labels(files[0]))
    plan = Plan(codes=codes, size=config.size, labels=labels).with_axis_of(config.axis, codes)
    if config.spacing is None:
        return plan
    spacing = list(config.spacing)
    if plan.axis is not None and len(spacing) == 2:
        spacing.insert(plan.axis, float("nan"))  # slices stay as far apart as they are
    if len(spacing) != 3:
        raise DataError(f"`spacing` must give 3 numbers, or 2 where volumes are cut into slices; got {config.spacing}.")
    return Plan(plan.codes, tuple(spacing), plan.axis, plan.size, plan.labels)


def _are_labels(file: VolumeFile) -> bool:
    if file.dtype.kind not in "iu" or file.channels != 1:
        return False
    values = file.load()
    return int(values.min()) >= 0 and 0 < int(values.max()) <= 31


def _cut_all(files: Sequence[VolumeFile], plan: Plan, config: DataConfig, dtype: np.dtype[np.generic]) -> tuple[Store, Array, Array, Grid]:
    """The store, the file number and slice number of each sample, and the grid of the first volume."""
    lazy = _bytes(files, plan, dtype) > MEMORY_LIMIT
    parts, numbers, places = [], [], []
    first: Grid | None = None
    shape: tuple[int, ...] = ()
    for k, file in enumerate(files):
        samples, grid = plan.cut(file)
        if first is None:
            first, shape = grid, samples.shape[1:]
        if samples.shape[1:] != shape:
            raise DataError(
                f"{file.path}: samples must have shape {shape[1:]} like those of {files[0].path.name}; got {samples.shape[2:]}. "
                "Give `size` (and `spacing`) to bring them together."
            )
        kept = _with_foreground(samples, config.min_foreground, plan)
        numbers.append(np.full(len(kept), k))
        places.append(kept)
        parts += [] if lazy else [samples[kept].astype(dtype, copy=False)]
    assert first is not None
    number, place = np.concatenate(numbers), np.concatenate(places)
    if not len(number):
        raise DataError(f"{files[0].path}: no slice has {config.min_foreground:g} foreground. Lower `min_foreground`.")
    if not lazy:
        return ArrayStore(parts[0] if len(parts) == 1 else np.concatenate(parts)), number, place, first
    read = lambda k: plan.cut(files[k])[0].astype(dtype, copy=False)  # noqa: E731
    return LazyStore(read, file=number, place=place, shape=shape, dtype=np.dtype(dtype)), number, place, first


def _bytes(files: Sequence[VolumeFile], plan: Plan, dtype: np.dtype[np.generic]) -> int:
    total = 0
    for file in files:
        shape = list(file.grid.shape)
        if plan.spacing is not None:
            ratio = [1.0 if np.isnan(new) else old / new for old, new in zip(file.grid.spacing, plan.spacing, strict=True)]
            shape = [round(s * r) for s, r in zip(shape, ratio, strict=True)]
        sample = int(np.prod(plan.size)) * (1 if plan.axis is None else shape[plan.axis]) if plan.size else int(np.prod(shape))
        total += sample * file.channels * dtype.itemsize
    return total


def _with_foreground(samples: Array, fraction: float, plan: Plan) -> Array:
    """Numbers of the slices to keep."""
    if fraction == 0 or plan.axis is None:
        return np.arange(len(samples))
    level = 0 if plan.labels else float(samples.mean(dtype=np.float64))
    return np.flatnonzero((samples > level).reshape(len(samples), -1).mean(1) >= fraction)


def _warnings(files: Sequence[VolumeFile], plan: Plan) -> list[str]:
    lines = []
    codes = sorted({axis_codes(f.grid.affine) for f in files})
    if len(codes) > 1:
        lines.append(f"volumes lie differently ({', '.join(codes)}); all are turned to {plan.codes}.")
    spacings = np.array([plan.turned(f.grid).spacing for f in files])
    if plan.spacing is None and not np.allclose(spacings, spacings[0], rtol=1e-2):
        low, high = spacings.min(0).round(3).tolist(), spacings.max(0).round(3).tolist()
        lines.append(f"voxel sizes differ between volumes ({low} to {high} mm); give `spacing` to resample them.")
    return lines


def subject_of(path: Path, config: DataConfig) -> str:
    r"""The regex's group on the file name, else the file's own name: each file its own subject.

    >>> subject_of(Path("sub-07_ses-2_T1w.nii.gz"), DataConfig(subjects=r"sub-(\d+)"))
    '07'

    Raises:
        DataError: the regex does not match, naming the file.
    """
    if config.subjects in ("auto", "none"):
        return path.name
    try:
        match = re.search(config.subjects, str(path))
    except re.error as error:
        raise DataError(f"`subjects` must be a regular expression with one group for files; got {config.subjects!r}: {error}.") from error
    if match is None or len(match.groups()) != 1 or match.group(1) is None:
        raise DataError(f"{path}: `subjects` must match with one group; {config.subjects!r} does not.")
    return match.group(1)
