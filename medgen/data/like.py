"""Reading files for a trained model (`open_like`) and putting its results back where the files were (`save_like`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from medgen.data.assemble import fingerprint
from medgen.data.checks import check_labels, scan
from medgen.data.config import DataConfig
from medgen.data.dataset import Dataset
from medgen.data.dispatch import listed, read
from medgen.data.geometry import Plan, axis_codes, check_grids
from medgen.data.intensity import label_values, to_stored
from medgen.data.open import is_location, registered
from medgen.data.readers import npz
from medgen.data.readers.images import picture_shape
from medgen.data.readers.volumes import Volumes
from medgen.data.resize import resize
from medgen.data.samples import Array, ArrayStore, Samples
from medgen.data.stores import JoinedStore
from medgen.data.writers import write_csv, write_nifti, write_npz, write_png
from medgen.errors import DataError
from medgen.registry import ConditionSpec, ImageSpec

__all__ = ["open_like", "open_source", "save_like"]

Paste = Callable[[int, Array], Array]


def open_like(path: str | os.PathLike[str], image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = (), **options: Any) -> Dataset:
    """Open files the way a model's training data was read: its intensity, slicing, orientation, voxel size and shape; nothing is fitted.

    Volumes are turned and resampled to the spec's axes and voxel size, then resized to its shape where that still differs. All samples
    are in the split "test", in the order of the file, none left out.

    Args:
        path: as in `open_data`; also a registered dataset, where its samples fit.
        image_spec: the model's.
        conditions: the model's; labels and attributes that the file has are mapped to the same classes and scale.
        options: fields of `DataConfig` that say what to read, e.g. `select`, `key`, `length`; those of the training may all be passed:
            `spacing` is then repeated exactly, and what only made sense there is ignored.

    Raises:
        DataError: the file cannot be brought to the spec.
    """
    config = _config(image_spec, options)
    location, resampled = Path(path).expanduser(), DataConfig.parse(options).spacing
    samples = read(location, config, _plan(image_spec, config, resampled)) if is_location(path) else registered(os.fspath(path)).samples
    return _dataset(_fitting(samples, image_spec), image_spec, conditions, config, Path(path).name.split(".")[0])


def open_source(
    paths: Sequence[str | os.PathLike[str]],
    source_spec: ImageSpec,
    conditions: Sequence[ConditionSpec] = (),
    *,
    whole: bool = False,
    **options: Any,
) -> Dataset:
    """Open the input of a translator as its training source was read, one file or several whose channels are joined.

    Args:
        paths: one file per contrast, in the order of the training; each holds the same samples. Or one file with all channels.
        source_spec: the model's.
        conditions: as in `open_like`.
        whole: the model works on patches: samples keep the shape that they have after resampling.
        options: those of the training.

    Raises:
        DataError: files that do not lie on one grid, or do not have the channels of the spec.
    """
    told = DataConfig.parse(options)
    config = _config(source_spec, {k: v for k, v in options.items() if k not in _OF_TARGET}).model_copy(
        update={"channels": told.source_channels, "labels": "none"}
    )
    if whole:
        config = config.model_copy(update={"size": told.size})
    plan = _plan(source_spec, config, told.spacing)
    if whole and plan is not None:
        plan = replace(plan, size=told.size, same_view=False)
    parts = [part for path in paths for part in _parts(Path(path).expanduser(), config, plan, told)]
    first, channels = parts[0], 1 if source_spec.content == "labels" else source_spec.channels
    if {p.store.shape[0] for p in parts} != {len(first)} or {p.store.shape[2:] for p in parts} != {first.store.shape[2:]}:
        raise DataError(f"{', '.join(map(str, paths))}: inputs must hold the same samples; got {[p.store.shape for p in parts]}.")
    for other in parts[1:]:
        if isinstance(first.geometry, Volumes) and isinstance(other.geometry, Volumes):
            check_grids(zip(other.geometry.files, first.geometry.files, strict=True))
    samples = replace(first, store=JoinedStore([p.store for p in parts]) if len(parts) > 1 else first.store)
    if samples.store.shape[1] != channels:
        names = f" ({', '.join(source_spec.channel_names)})" if source_spec.channel_names else ""
        raise DataError(
            f"{samples.source}: this model translates {channels} channel(s){names}; got {samples.store.shape[1]} from {len(paths)} file(s)."
            " Give one file per channel, in this order."
        )
    spec = replace(source_spec, shape=samples.store.shape[2:]) if whole else source_spec
    return _dataset(_fitting(samples, spec), spec, conditions, config, Path(paths[0]).name.split(".")[0])


_OF_TARGET = ("channels", "select", "columns", "labels", "attributes", "key", "unit")


def _parts(path: Path, config: DataConfig, plan: Plan | None, told: DataConfig) -> list[Samples]:
    """One input file; of an npz the arrays that the training source came from, where it has them."""
    if not path.exists():
        raise DataError(f"there is no file or folder {path}.")
    if listed(path, config)[0] != "npz":
        return [read(path, config, plan)]
    held = set(npz.load(path))
    keys = [key for key in told.source or () if key in held] if path.suffix != ".npy" else []
    if len(keys) <= 1 or len(keys) < len(told.source or ()):
        return [read(path, config.model_copy(update={"key": keys[0] if len(keys) == len(told.source or ()) else None}), plan)]
    every = [read(path, config.model_copy(update={"key": key, "channels": None}), plan) for key in keys]
    if told.source_channels is None:
        return every
    values = np.concatenate([part.store.gather(np.arange(len(part))) for part in every], 1)
    return [replace(every[0], store=ArrayStore(values[:, list(told.source_channels)]))]


def _dataset(samples: Samples, spec: ImageSpec, conditions: Sequence[ConditionSpec], config: DataConfig, name: str) -> Dataset:
    """All samples, in the split "test", in the order of the file."""
    everything = np.arange(len(samples), dtype=np.int64)
    found = scan(samples.store, samples, everything)
    if spec.content == "labels" and (found.levels is None or set(found.levels.tolist()) - set(label_values(spec))):
        levels = None if found.levels is None else found.levels.tolist()
        raise DataError(f"{samples.source}: labels must be among {[int(v) for v in label_values(spec)]}; got {levels}.")
    splits = {"train": everything[:0], "val": everything[:0], "test": everything}
    samples, kept = _conditioned(samples, conditions)
    return Dataset(
        name=name,
        image_spec=spec,
        conditions=kept,
        splits=splits,
        fingerprint=fingerprint(replace(samples, images={}), [found], splits, config),
        subjects=samples.subjects,
        warnings=(*samples.warnings, *_far(samples, spec)),
        config=config,
        source=samples.source,
        samples=samples,
    )


_FROM_SPEC = ("window", "percentiles", "range", "size", "spacing", "orientation", "min_foreground", "dim", "content")
_OF_TRAINING = (
    *("source", "source_channels", "source_window", "source_content", "pairing", "regions", "patch", "patches", "patch_foreground"),
    *("val_subjects", "test_subjects"),
)


def _config(spec: ImageSpec, options: Mapping[str, Any]) -> DataConfig:
    """The options that say what to read, with the spec's shape."""
    fixed: dict[str, Any] = {"dim": spec.dim, "content": "labels" if spec.content == "labels" else "intensity"}
    if spec.dim == 1:
        fixed["length"] = spec.shape[0]
    elif spec.dim > 1:
        fixed["size"] = spec.shape
    DataConfig.parse(options)  # unknown keys and wrong types are errors even where the spec decides
    left_out = (*_FROM_SPEC, *_OF_TRAINING)
    return DataConfig.parse({**{key: value for key, value in options.items() if key not in left_out}, **fixed})


def _plan(spec: ImageSpec, config: DataConfig, resampled: tuple[float, ...] | None) -> Plan | None:
    """How volumes are brought to the spec: as in training where its `spacing` is told, else resampled only for another field of view."""
    labels = spec.content == "labels"
    if spec.dim not in (2, 3):
        return None
    if spec.affine is None:
        return Plan(axis=None if spec.dim == 3 else 2 if config.axis is None else config.axis, size=spec.shape, labels=labels)
    affine = np.array(spec.affine).reshape(4, 4)
    spacing = [float(v) for v in np.linalg.norm(affine[:3, :3], axis=0)]
    if spec.slice_axis is not None:
        spacing[spec.slice_axis] = float("nan")  # slices stay as far apart as they are
    if resampled is not None:
        told = iter(resampled)
        spacing = [next(told) if len(resampled) == 3 or k != spec.slice_axis else float("nan") for k in range(3)]
    return Plan(axis_codes(affine), tuple(spacing), spec.slice_axis, spec.shape, labels, same_view=resampled is None)


def _fitting(samples: Samples, spec: ImageSpec) -> Samples:
    """`samples`, if they have the channels and shape of the spec."""
    channels = 1 if spec.content == "labels" else spec.channels
    found = samples.store.shape[1:]
    if found[0] != channels or len(found) - 1 != spec.dim:
        raise DataError(f"{samples.source}: samples [C, *S] must have shape {(channels, *spec.shape)} for this model; got {found}.")
    if found[1:] != spec.shape:
        raise DataError(f"{samples.source}: samples must have shape {spec.shape} for this model; got {found[1:]}.")
    return samples


def _conditioned(samples: Samples, conditions: Sequence[ConditionSpec]) -> tuple[Samples, tuple[ConditionSpec, ...]]:
    """The model's own condition specs, as far as the file has their values."""
    kept = []
    for spec in conditions:
        if spec.kind == "label" and samples.labels is not None:
            samples = _relabelled(samples, spec)
            kept.append(spec)
        elif spec.kind == "attributes" and set(spec.names) <= set(samples.attributes):
            kept.append(spec)
    return replace(samples, images={}), tuple(kept)


def _relabelled(samples: Samples, spec: ConditionSpec) -> Samples:
    """Class numbers of the file as numbers of the model's classes of the same names."""
    assert samples.labels is not None
    labels = samples.labels
    if set(samples.class_names) <= set(spec.names):
        labels = np.array([spec.names.index(name) for name in samples.class_names], dtype=np.int64)[labels]
    elif not all(name.isdigit() for name in samples.class_names):
        raise DataError(
            f"{samples.source}: classes must be among {list(spec.names)}; got {list(samples.class_names)}. Or give labels='none'."
        )
    check_labels(labels, spec.names, samples)
    return replace(samples, labels=labels, class_names=spec.names)


def _far(samples: Samples, spec: ImageSpec) -> list[str]:
    """A warning where resizing, not resampling, made the shapes agree."""
    place = samples.geometry
    if not isinstance(place, Volumes) or spec.spacing is None or samples.spacing is None:
        return []
    ratio = np.array(samples.spacing) / np.array(spec.spacing)
    if np.abs(ratio - 1).max() < 0.05:
        return []
    return [
        f"{samples.source}: another field of view than the training data; voxels are {ratio.round(2).tolist()} times as large as there."
    ]


def save_like(
    x: Tensor,
    dataset: Dataset,
    out: str | os.PathLike[str],
    spec: ImageSpec | None = None,
    *,
    paste: Paste | None = None,
) -> list[Path]:
    """Write results for all samples of `dataset` on the grid and in the format of its files.

    Volumes (NIfTI, DICOM): slices are stacked, sample size, voxel size and orientation undone; NIfTI with the affine, shape and header of
    each file. Pictures: PNG of the same names and sizes. npz: "x" in the order of the file. Tables: CSV. Signals: npz of windows.

    Args:
        x: [N, C, *S] in model units, for samples 0..N-1 of `dataset`.
        dataset: from `open_like`, or any that was opened from files.
        out: folder.
        spec: of x, where it is not the dataset's: the output side of a translator.
        paste: called with the number of a volume or picture (else 0) and the stored values on its grid; what it returns is written.

    Raises:
        DataError: another number of samples.
    """
    spec = spec or dataset.image_spec
    if len(x) != len(dataset):
        raise DataError(f"`x` must hold one result for each of {len(dataset)} samples; got {len(x)}.")
    stored, folder, paste = to_stored(x, spec), Path(out), paste or (lambda _number, values: values)
    place = dataset.samples.geometry
    if isinstance(place, Volumes):
        return _save_volumes(stored, place, folder, spec, paste)
    kind, where, extra = place if isinstance(place, tuple) else ("npz", Path(dataset.name), None)
    if kind == "images":
        return _save_pictures(stored, where, extra, folder, spec, paste)
    path = folder / f"{Path(where).name.split('.')[0]}{'.csv' if kind == 'table' else '.npz'}"
    if kind == "table":
        write_csv(paste(0, stored), spec.channel_names or extra, path)
        return [path]
    shape = extra[2:] if kind == "npz" and extra is not None else stored.shape[2:]
    resized = resize(stored, shape, labels=spec.content == "labels") if stored.ndim > 2 else stored
    write_npz({"x": paste(0, resized)}, path)
    return [path]


def _save_volumes(stored: Array, place: Volumes, folder: Path, spec: ImageSpec, paste: Paste) -> list[Path]:
    plan = replace(place.plan, labels=spec.content == "labels")
    paths = []
    for k, file in enumerate(place.files):
        rows = np.flatnonzero(place.file == k)
        slices = stored[rows]
        if plan.axis is not None:
            # Slices that were left out in training come back as background.
            count = plan.spaced(file.grid).shape[plan.axis]
            full = np.full((count, *slices.shape[1:]), min(spec.intensity.low), slices.dtype)
            full[place.place[rows]] = slices
            slices = full
        name = file.path.name if file.path.name.endswith((".nii", ".nii.gz")) else f"{file.path.name}.nii.gz"
        path = folder / _free(name, file.path, [f.path for f in place.files])
        write_nifti(paste(k, plan.undo(slices, file)), file.grid.affine, path, file.header)
        paths.append(path)
    return paths


def _free(name: str, path: Path, every: list[Path]) -> str:
    """`name`, below its own folder where several files have it."""
    return name if sum(p.name == path.name for p in every) == 1 else f"{path.parent.name}/{name}"


def _save_pictures(stored: Array, files: Sequence[Path], root: Path, folder: Path, spec: ImageSpec, paste: Paste) -> list[Path]:
    paths = []
    for number, (values, file) in enumerate(zip(stored, files, strict=True)):
        path = (folder / file.relative_to(root)).with_suffix(".png")
        shape = picture_shape(file)
        write_png(paste(number, resize(values[None], shape, labels=spec.content == "labels")[0]), spec, path)
        paths.append(path)
    return paths
