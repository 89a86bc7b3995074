"""NumPy archives: MedMNIST's layout (train_images, train_labels, val_...), plain arrays, and single .npy files. Never pickle."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from medgen.data.arrays import as_classes, as_samples
from medgen.data.config import DataConfig
from medgen.data.readers.signals import Recording, windows
from medgen.data.resize import resize
from medgen.data.samples import Array, ArrayStore, Samples
from medgen.data.splits import SPLITS
from medgen.data.stores import region_map
from medgen.errors import DataError
from medgen.registry import suggestion

__all__ = ["read"]

Arrays = Mapping[str, Array]

VALUES = ("images", "image", "x", "X", "data", "volumes", "signals", "samples", "ecg", "scores", "arr_0", "")
LABELS = ("labels", "label", "y", "targets")
SUBJECTS = ("subjects", "subject", "patients", "patient", "patient_id", "subject_id")


def read(path: Path, config: DataConfig) -> Samples:
    """The samples of one .npz or .npy file.

    Raises:
        DataError: the file cannot be read, or does not say which array is meant.
    """
    arrays = load(path)
    key = _find_values(arrays, config, path)
    parts = _parts(arrays, key)
    raw = [arrays[name] for name in parts.values()]
    if len({(r.shape[1:], r.dtype) for r in raw}) > 1:
        raise DataError(f"{path}: arrays of all splits must have one shape and type; got {[(r.shape, str(r.dtype)) for r in raw]}.")
    whole = np.concatenate(raw) if len(raw) > 1 else raw[0]
    if whole.dtype.kind in "biuf" and _is_signal(whole, config):
        return _signal(whole, path, config)
    values = as_samples(whole, config, f"{path} array {next(iter(parts.values()))!r}")
    count = len(values)
    labels, class_names, warnings = _labels(arrays, parts, count, config, path)
    bounds = np.cumsum([0, *(len(r) for r in raw)])
    splits = None if len(raw) == 1 and "" in parts else {s: np.arange(a, b) for s, a, b in zip(parts, bounds, bounds[1:], strict=False)}
    store = ArrayStore(_resized(values, config))
    images, image_names = _images(arrays, parts, config, values.ndim - 2, path)
    return Samples(
        store=store,
        origins=_origins(path, parts, bounds),
        source=str(path),
        labels=labels,
        class_names=class_names,
        attributes=_attributes(arrays, parts, count, config, path),
        splits=splits,
        subjects=_subjects(arrays, parts, count, config, path),
        images=images,
        image_names=image_names,
        channel_names=_channel_names(arrays, values.shape[1], config),
        geometry=("npz", path, values.shape),
        warnings=warnings,
    )


def load(path: Path) -> dict[str, Array]:
    """The arrays of a file by name; a .npy file holds one, called "x".

    Raises:
        DataError: not a NumPy file, truncated, or it holds pickled objects.
    """
    try:
        found = np.load(path, allow_pickle=False)
        if isinstance(found, np.ndarray):
            return {"x": found}
        with found:
            return {name: found[name] for name in found.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: must be a readable NumPy file without pickled objects; {type(error).__name__}: {error}") from error
    except Exception as error:  # zlib.error and the like have no common parent
        raise DataError(f"{path}: cannot be read, it may be truncated; {type(error).__name__}: {error}") from error


def _name(split: str, key: str) -> str:
    return f"{split}_{key}" if key else split


def _parts(arrays: Arrays, key: str) -> dict[str, str]:
    """Split -> array name: {"train": "train_images", ...}, or {"": "images"} where the file has no splits."""
    if key in arrays:
        return {"": key}
    return {split: _name(split, key) for split in SPLITS if _name(split, key) in arrays}


def _find_values(arrays: Arrays, config: DataConfig, path: Path) -> str:
    if config.key is not None:
        if config.key not in arrays and _name("train", config.key) not in arrays:
            raise DataError(f"{path}: there is no array {config.key!r}{suggestion(config.key, arrays)}")
        return config.key
    for key in VALUES:
        if key in arrays or _name("train", key) in arrays:
            return key
    numeric = [name for name, a in arrays.items() if a.dtype.kind in "biuf" and a.ndim >= 2]
    if len(numeric) == 1:
        return numeric[0]
    shapes = ", ".join(f"{name} {a.shape}" for name, a in arrays.items()) or "none"
    raise DataError(f"{path}: the option `key` must say which array to learn; there are: {shapes}.")


def _column(arrays: Arrays, parts: Mapping[str, str], name: str, count: int, path: Path) -> Array | None:
    """The array `name`, or train_name, val_name and so on joined; None where it is missing."""
    names = [name] if "" in parts else [_name(split, name) for split in parts]
    if any(n not in arrays for n in names):
        return None
    joined = np.concatenate([np.atleast_1d(arrays[n]) for n in names])
    if len(joined) != count:
        raise DataError(f"{path}: array {name!r} must have one row for each of {count} samples; got shape {joined.shape}.")
    return joined


def _required(arrays: Arrays, parts: Mapping[str, str], name: str, count: int, path: Path) -> Array:
    column = _column(arrays, parts, name, count, path)
    if column is None:
        raise DataError(f"{path}: there is no array {name!r}{suggestion(name, arrays)}")
    return column


def _labels(
    arrays: Arrays, parts: Mapping[str, str], count: int, config: DataConfig, path: Path
) -> tuple[Array | None, tuple[str, ...], list[str]]:
    if config.labels == "none":
        return None, (), []
    if config.labels == "auto":
        found = next((c for name in LABELS if (c := _column(arrays, parts, name, count, path)) is not None), None)
    else:
        found = _required(arrays, parts, config.labels, count, path)
    if found is None:
        return None, (), []
    if config.labels == "auto" and found.ndim == 2 and found.shape[1] > 1:
        return None, (), [f"{path.name}: labels of shape {found.shape} are not one class per sample and are left out; see `attributes`."]
    names = arrays.get("class_names")
    return (*as_classes(found, None if names is None else names.astype(str).tolist(), str(path)), [])


def _attributes(arrays: Arrays, parts: Mapping[str, str], count: int, config: DataConfig, path: Path) -> dict[str, Array]:
    out: dict[str, Array] = {}
    for name in config.attributes:
        column = _required(arrays, parts, name, count, path)
        if column.dtype.kind not in "biuf" or column.ndim > 2:
            raise DataError(f"{path}: attribute {name!r} must be numbers [N] or [N, A]; got {column.dtype} of shape {column.shape}.")
        wide = column.astype(np.float64).reshape(count, -1)
        out |= {name: wide[:, 0]} if wide.shape[1] == 1 else {f"{name}_{k}": wide[:, k] for k in range(wide.shape[1])}
    return out


def _subjects(arrays: Arrays, parts: Mapping[str, str], count: int, config: DataConfig, path: Path) -> Array | None:
    if config.subjects == "none":
        return None
    if config.subjects != "auto":
        return _required(arrays, parts, config.subjects, count, path).astype(str)
    return next((c.astype(str) for n in SUBJECTS if (c := _column(arrays, parts, n, count, path)) is not None and c.ndim == 1), None)


def _images(
    arrays: Arrays, parts: Mapping[str, str], config: DataConfig, dim: int, path: Path
) -> tuple[dict[str, ArrayStore], dict[str, tuple[str, ...]]]:
    """The source and the regions, on the grid of the samples, and the names of their channels and classes."""
    images, names = dict[str, ArrayStore](), dict[str, tuple[str, ...]]()
    if config.source is not None and config.pairing != "unpaired":
        own_config = config.model_copy(update={"content": config.source_content})
        each = [_beside(arrays, parts, name, own_config, dim, path) for name in config.source]
        if len({(e.shape, e.dtype) for e in each}) > 1:
            raise DataError(f"{path}: arrays of `source` must have one shape and type; got {[(e.shape, str(e.dtype)) for e in each]}.")
        values = np.concatenate(each, 1) if len(each) > 1 else each[0]
        own = _names(arrays, values.shape[1]) or (config.source if len(each) == values.shape[1] else ())
        if (keep := config.source_channels) is not None:
            if not all(0 <= c < values.shape[1] for c in keep):
                raise DataError(f"{path}: `source_channels` must be in 0..{values.shape[1] - 1}; got {keep}.")
            values, own = values[:, list(keep)], tuple(own[c] for c in keep) if own else ()
        images["source"] = ArrayStore(_resized(values, own_config))
        names["source"] = own if values.shape[1] > 1 else ()
    if config.regions:
        as_read = config.model_copy(update={"content": "auto"})
        masks = [_beside(arrays, parts, name, as_read, dim, path) for name in config.regions]
        found = [resize(m, config.size, labels=True) if config.size else m for m in masks]
        images["regions"] = ArrayStore(region_map(found, config.regions, str(path)))
        names["regions"] = ("other", *config.regions)
    return images, names


def _beside(arrays: Arrays, parts: Mapping[str, str], name: str, config: DataConfig, dim: int, path: Path) -> Array:
    each = [name] if "" in parts else [_name(split, name) for split in parts]
    if missing := [n for n in each if n not in arrays]:
        raise DataError(f"{path}: there is no array {missing[0]!r}{suggestion(name, arrays)}")
    joined = np.concatenate([arrays[n] for n in each])
    update = {"channels": None, "dim": dim}
    return as_samples(joined, config.model_copy(update=update), f"{path} {each[0]!r}")


def _resized(values: Array, config: DataConfig) -> Array:
    return resize(values, config.size, labels=_are_labels(values, config)) if config.size else values


def _channel_names(arrays: Arrays, channels: int, config: DataConfig) -> tuple[str, ...]:
    names = _names(arrays)
    kept = names if config.channels is None else tuple(names[c] for c in config.channels if c < len(names))
    return kept if len(kept) == channels and channels > 1 else ()


def _names(arrays: Arrays, channels: int | None = None) -> tuple[str, ...]:
    """The file's names of channels, where there are as many."""
    for name in ("channel_names", "channels", "index_names"):
        found = arrays.get(name)
        if found is not None and found.dtype.kind in "US" and found.ndim == 1:
            return tuple(found.astype(str).tolist()) if channels in (None, len(found)) else ()
    return ()


def _are_labels(values: Array, config: DataConfig) -> bool:
    small = values.dtype.kind in "iu" and values.shape[1] == 1 and int(values.min()) >= 0 and 0 < int(values.max()) <= 31
    return config.content == "labels" or (config.content == "auto" and small)


def _is_signal(values: Array, config: DataConfig) -> bool:
    """One long recording [T], or recordings that are to be cut into windows."""
    if values.ndim == 1:
        return config.dim != 0
    return config.length is not None and config.dim in (None, 1) and values.ndim in (2, 3) and values.shape[-1] != config.length


def _signal(values: Array, path: Path, config: DataConfig) -> Samples:
    rows = values[None, None] if values.ndim == 1 else values[:, None] if values.ndim == 2 else values
    return windows([Recording(f"{path.name}[{k}]" if len(rows) > 1 else path.name, row) for k, row in enumerate(rows)], str(path), config)


def _origins(path: Path, parts: Mapping[str, str], bounds: Array) -> Origins:
    return Origins(path.name, tuple(parts.values()), tuple(int(b) for b in bounds))


class Origins:
    """i -> "file.npz train_images[3]"."""

    def __init__(self, file: str, names: tuple[str, ...], bounds: tuple[int, ...]) -> None:
        self._file, self._names, self._bounds = file, names, bounds

    def __call__(self, i: int) -> str:
        part = int(np.searchsorted(self._bounds, i, side="right")) - 1
        return f"{self._file} {self._names[part]}[{i - self._bounds[part]}]"
