"""From `Samples` and a `DataConfig` to a `Dataset`: split, check, fit the intensity and the conditions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Literal

import numpy as np

from medgen.data.checks import MAX_CLASSES, Scan, check_labels, duplicates, scan
from medgen.data.config import DataConfig
from medgen.data.dataset import Dataset
from medgen.data.samples import Array, Samples, Store
from medgen.data.splits import split_samples
from medgen.errors import DataError
from medgen.registry import ConditionSpec, ImageSpec, Intensity

__all__ = ["assemble", "fingerprint"]

Range = tuple[float, float]
Content = Literal["intensity", "labels", "features"]


def assemble(samples: Samples, config: DataConfig, default_range: Range, name: str) -> Dataset:
    """Everything that is fitted to data happens here, on the training split.

    Raises:
        DataError: the values or labels cannot be used; names the sample.
    """
    if not len(samples):
        raise DataError(f"{samples.source}: nothing to read; there must be at least one sample.")
    for key, count in [*((k, s.shape[0]) for k, s in samples.images.items()), *((k, len(v)) for k, v in samples.attributes.items())]:
        if count != len(samples):
            raise DataError(f"{samples.source}: {key!r} must have one entry for each of {len(samples)} samples; got {count}.")
    splits, warnings = split_samples(samples, config)
    found = scan(samples.store, samples, splits["train"])
    image_spec, more = fit_spec(samples, samples.store, found, config, default_range)
    warnings = [*samples.warnings, *warnings, *more, *duplicates(found, splits)]
    scans = {key: scan(store, samples, splits["train"]) for key, store in samples.images.items()}
    conditions = (*_label(samples), *_attributes(samples, splits["train"]), *_images(samples, scans, config, default_range))
    return Dataset(
        name=name,
        image_spec=image_spec,
        conditions=conditions,
        splits=splits,
        fingerprint=fingerprint(samples, [found, *scans.values()], splits, config),
        subjects=samples.subjects,
        warnings=tuple(warnings),
        config=config,
        source=samples.source,
        samples=samples,
    )


def fit_spec(
    samples: Samples, store: Store, found: Scan, config: DataConfig, default_range: Range, *, key: str = ""
) -> tuple[ImageSpec, list[str]]:
    """The spec of `store`, with its intensity fitted; `key` is the name of an image condition."""
    shape = store.shape[2:]
    content = _content(store, found, config, samples)
    own = not key
    names = samples.channel_names if own else samples.image_names.get(key, ())
    window = config.window if own else config.source_window if key == "source" else None
    unit = (config.unit or samples.unit) if own else ""
    warnings: list[str] = []
    channels = store.shape[1]
    if content == "labels":
        assert found.levels is not None
        levels = found.levels if not names else np.arange(len(names))
        if len(set(found.levels.tolist()) - set(levels.tolist())):
            raise DataError(f"{samples.source}: labels must be in 0..{len(levels) - 1} ({', '.join(names)}); got {found.levels.tolist()}.")
        if len(levels) < 2:
            raise DataError(f"{samples.source}: label maps must hold at least 2 classes; got only the value {levels.tolist()}.")
        intensity = _label_intensity(levels, store)
        channels, names = len(levels), names or tuple(str(int(v)) for v in levels)
    else:
        intensity, warnings = _fit_intensity(store, found, config, default_range, unit=unit, window=window)
    spec = ImageSpec(
        channels=channels,
        shape=shape,
        spacing=samples.spacing if len(samples.spacing or ()) == len(shape) else None,
        content=content,
        intensity=intensity,
        affine=samples.affine,
        slice_axis=samples.slice_axis,
        channel_names=names if len(names) == channels else (),
    )
    return spec, warnings


def _content(store: Store, found: Scan, config: DataConfig, samples: Samples) -> Content:
    if len(store.shape) == 2:
        if config.content == "labels":
            raise DataError(f"{samples.source}: `content` labels is for images, not for tables.")
        return "features"
    if config.content == "labels":
        if found.levels is None or store.shape[1] != 1:
            raise DataError(
                f"{samples.source}: label maps must have one channel of integers with at most {MAX_CLASSES} different values; "
                f"got {store.shape[1]} channel(s) of {store.dtype}."
            )
        return "labels"
    few = found.levels is not None and store.shape[1] == 1 and len(found.levels) > 1 and found.levels[0] >= 0 and found.levels[-1] <= 31
    return "labels" if config.content == "auto" and few else "intensity"


def _label_intensity(levels: Array, store: Store) -> Intensity:
    """Labels keep their stored numbers in `low`, so that writing gives them back (see `intensity.label_values`)."""
    values = tuple(float(v) for v in levels)
    dtype = "uint8" if store.dtype.kind == "b" else store.dtype.name
    return Intensity(low=values, high=tuple(v + 1 for v in values), clip=False, dtype=dtype, rule="labels")


def _fit_intensity(
    store: Store, found: Scan, config: DataConfig, default_range: Range, *, unit: str, window: Range | None
) -> tuple[Intensity, list[str]]:
    low: Array
    high: Array
    clip, warnings = True, []
    interval = config.range or default_range
    if window is not None:
        low, high = np.array(window[:1]), np.array(window[1:])
        rule = f"window {window[0]:g} {window[1]:g}"
    elif config.percentiles is not None:
        low, high = np.percentile(np.concatenate(found.kept, 1), config.percentiles, axis=1)
        rule = f"percentiles {config.percentiles[0]:g} {config.percentiles[1]:g} of the training split"
    elif len(store.shape) == 2:
        low, high, clip, interval = found.mean, found.mean + found.sd, False, (0.0, 1.0)
        rule = "standardise by mean and sd of the training split"
    elif store.dtype == np.uint8:
        low, high, rule = np.array([0.0]), np.array([255.0]), "full range 0 255"
    else:
        low, high, rule = found.low, found.high, "full range of the training split"
    flat = ~(high > low)
    if flat.any():
        warnings.append(f"channel(s) {np.flatnonzero(flat).tolist()} are constant in the training split.")
        high = np.where(flat, low + np.maximum(1.0, np.abs(low)), high)
    values = (tuple(float(v) for v in low), tuple(float(v) for v in high))
    dtype = store.dtype.name if store.dtype.kind in "iu" else "float32"
    return Intensity(low=values[0], high=values[1], range=interval, clip=clip, unit=unit, dtype=dtype, rule=rule), warnings


def _label(samples: Samples) -> tuple[ConditionSpec, ...]:
    if samples.labels is None:
        return ()
    check_labels(samples.labels, samples.class_names, samples)
    return (ConditionSpec(name="label", kind="label", names=samples.class_names),)


def _attributes(samples: Samples, train: Array) -> tuple[ConditionSpec, ...]:
    if not samples.attributes:
        return ()
    mean, sd = [], []
    for name, values in samples.attributes.items():
        known = values[train][~np.isnan(values[train])]
        if values.ndim != 1 or not len(known) or np.isinf(values).any():
            raise DataError(f"{samples.source}: attribute {name!r} must hold finite numbers, one per sample, or NaN where missing.")
        mean.append(float(known.mean()))
        sd.append(float(known.std()) or 1.0)
    return (ConditionSpec(name="attributes", kind="attributes", names=tuple(samples.attributes), mean=tuple(mean), sd=tuple(sd)),)


def _images(samples: Samples, scans: dict[str, Scan], config: DataConfig, default_range: Range) -> tuple[ConditionSpec, ...]:
    specs = []
    for key, store in samples.images.items():
        # one channel with several names is a label map, also where the data shows one of its classes only
        named = store.shape[1] == 1 and len(samples.image_names.get(key, ())) > 1
        content = "labels" if named else config.source_content if key == "source" else "auto"
        own = config.model_copy(update={"content": content})
        image, _ = fit_spec(samples, store, scans[key], own, default_range, key=key)
        specs.append(ConditionSpec(name=key, kind="image", image=image))
    return tuple(specs)


def fingerprint(samples: Samples, scans: Sequence[Scan], splits: dict[str, Array], config: DataConfig) -> str:
    """SHA-256 over stored values, their order, labels, attributes, splits and config."""
    # Defaults are left out, so that an option added later does not change the fingerprint of what was read without it.
    asked = config.model_dump(mode="json", exclude_defaults=True)
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode())
    for store, found in zip((samples.store, *samples.images.values()), scans, strict=True):
        digest.update(f"{store.dtype.name} {store.shape}".encode())
        digest.update(b"".join(found.digests))
    for values in (samples.labels, *samples.attributes.values(), *splits.values()):
        digest.update(b"none" if values is None else np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()
