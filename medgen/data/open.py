"""`open_data`: from a path or a name to a `Dataset`; what the path is decides who reads it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from medgen.data.assemble import assemble
from medgen.data.config import DataConfig
from medgen.data.dataset import Dataset
from medgen.data.pairing import read_sides
from medgen.data.patches import patched
from medgen.errors import ConfigError, DataError, UnknownNameError
from medgen.registry import DatasetSpec, find, get_host, resolve, suggestion

__all__ = ["is_location", "open_data", "registered"]


def open_data(path: str | os.PathLike[str], *, default_range: tuple[float, float] = (0.0, 1.0), **options: Any) -> Dataset:
    """Open a file, a folder, a glob pattern, or a registered dataset such as "cardiac_phantom?n=500&size=64".

    Args:
        path: .npz, .npy, NIfTI, a folder of NIfTI, DICOM, PNG or TIFF files, .csv(.gz), WFDB .hea/.dat, or a name from `medgen list`.
        default_range: model units where `range` is not given; the family's own when called by `medgen train`.
        options: fields of `DataConfig`.

    Raises:
        DataError: nothing there, or the input cannot be used; names the file.
        ConfigError: an option that `DataConfig` does not know.
    """
    config = DataConfig.parse(options)
    if is_location(path):
        location = Path(path).expanduser()
        return patched(assemble(read_sides(location, config), config, default_range, _short(location)))
    dataset = registered(os.fspath(path))
    _check_effective(os.fspath(path), options)
    samples = replace(dataset.samples, labels=None, class_names=()) if options.get("labels") == "none" else dataset.samples
    fields = dataset.config.to_json()
    if "window" in options or "percentiles" in options:  # the user's rule replaces the dataset's, whichever of the two that is
        fields |= {"window": None, "percentiles": None}
    config = DataConfig.parse({**fields, **options})
    opened = patched(assemble(samples, config, default_range, dataset.name))
    own = dataset.image_spec.intensity
    if own.rule != "identity" or {"window", "percentiles", "range"} & set(options):
        return opened
    # Samples that come in model units (toy densities with a known formula) stay in them.
    return replace(opened, image_spec=replace(opened.image_spec, intensity=own))


_OF_DRAWN = {
    "window",
    "source_window",
    "source_content",
    "percentiles",
    "range",
    "content",
    "split",
    "split_seed",
    "val_subjects",
    "test_subjects",
    "patch",
    "patches",
    "patch_foreground",
    "unit",
}
"""Options that act on samples in memory; all others say how files are read."""


def _check_effective(text: str, options: Mapping[str, Any]) -> None:
    """An option that would be ignored is an error."""
    name = text.partition("?")[0]
    idle = [
        k for k, v in options.items() if k not in _OF_DRAWN and v != DataConfig.model_fields[k].default and (k, v) != ("labels", "none")
    ]
    if idle:
        own = find("medgen_datasets", name).spec.options
        hint = f" Say {name}?{idle[0]}=..." if idle[0] in own else f" It takes {', '.join(own)}: {name}?{next(iter(own), 'n')}=..."
        raise ConfigError(f"`{idle[0]}` is for files and has no effect on the dataset {name!r}.{hint}")


def is_location(path: str | os.PathLike[str]) -> bool:
    """Whether this is a path or a pattern on disk, not the name of a dataset."""
    text = os.fspath(path)
    return Path(text).expanduser().exists() or any(c in text for c in "*[") or ("?" in text and "=" not in text)


def _short(path: Path) -> str:
    name = path.resolve().name if path.name in ("", ".", "..") else path.name
    return name.split(".")[0] or name


def registered(text: str) -> Dataset:
    """The dataset "name" or "name?option=value&...", as its factory gives it.

    Raises:
        DataError: no such dataset or option, with the nearest right one.
    """
    name, _, query = text.partition("?")
    known = sorted({item.spec.name for item in get_host().items("medgen_datasets")})
    try:
        declared = find("medgen_datasets", name)
    except UnknownNameError:
        raise DataError(f"there is no file, folder or registered dataset {name!r}{suggestion(name, known) if known else '.'}") from None
    factory = resolve(declared.spec.factory, owner=f"dataset {declared.owner}")
    dataset = factory(**_query(declared.spec, query))
    if not isinstance(dataset, Dataset):
        raise DataError(f"dataset {declared.owner} must return a medgen.data.Dataset; got {type(dataset).__name__}.")
    return dataset


def _query(spec: DatasetSpec, query: str) -> dict[str, Any]:
    """The options of "n=500&size=64" with the types of the spec's defaults."""
    values = {key: default for key, (default, _) in spec.options.items()}
    for key, text in parse_qsl(query, keep_blank_values=True):
        if key not in values:
            raise DataError(f"dataset {spec.name!r} has no option {key!r}{suggestion(key, values)}")
        values[key] = _typed(text, spec.options[key][0], f"option {key!r} of dataset {spec.name!r}")
    return values


def _typed(text: str, default: Any, what: str) -> Any:
    if isinstance(default, str):
        return text
    try:
        value = json.loads(text.lower() if isinstance(default, bool) else f"[{text}]" if isinstance(default, tuple | list) else text)
    except json.JSONDecodeError:
        value = text
    kind = type(default)
    if isinstance(default, tuple) and isinstance(value, list):
        return tuple(value)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if default is not None and type(value) is not kind:
        raise DataError(f"{what} must be of type {kind.__name__}, such as {default!r}; got {text!r}.")
    return value
