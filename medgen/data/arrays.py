"""Datasets from arrays in memory: `from_arrays`, and the reading of an array's axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from medgen.data.assemble import assemble
from medgen.data.checks import whole_numbers
from medgen.data.config import DataConfig
from medgen.data.dataset import Dataset
from medgen.data.patches import patched
from medgen.data.samples import Array, ArrayStore, Samples
from medgen.errors import DataError

__all__ = ["as_classes", "as_samples", "from_arrays"]


def from_arrays(
    x: Array,
    *,
    labels: Sequence[Any] | Array | None = None,
    class_names: Sequence[str] | None = None,
    attributes: Mapping[str, Array] | None = None,
    splits: Mapping[str, Array] | None = None,
    subjects: Sequence[Any] | Array | None = None,
    images: Mapping[str, Array] | None = None,
    source_images: Array | None = None,
    source_subjects: Sequence[Any] | Array | None = None,
    image_names: Mapping[str, Sequence[str]] | None = None,
    spacing: Sequence[float] | None = None,
    affine: Sequence[float] | Array | None = None,
    channel_names: Sequence[str] = (),
    name: str = "arrays",
    source: str | None = None,
    default_range: tuple[float, float] = (0.0, 1.0),
    **options: Any,
) -> Dataset:
    """A dataset in memory.

    Args:
        x: [N, *S] or [N, C, *S] in stored units; [N, D] is a table unless `dim=1`. `dim` and `channels_last` settle what the shape
            leaves open: [N, H, W, 1|3|4] has its channels last, [N, 1..4, H, W] first, else [N, D, H, W] are grey volumes.
        labels: class of each sample, integers or strings.
        class_names: of integers 0..K-1.
        attributes: name -> numbers [N]; NaN where missing.
        splits: "train"/"val"/"test" -> sample numbers; by default as `split` says.
        subjects: name of each sample's subject; splits never divide one.
        images: name -> [N, C', *S'], image conditions, e.g. {"source": t1} for paired translation.
        source_images: the same as images={"source": ...}.
        source_subjects: name of the subject of each sample's source, where source and target are not pairs.
        image_names: name -> names of the channels of an image condition, or of its classes 0..K-1.
        spacing: size of a voxel in mm (seconds for signals), as it is: nothing is resampled.
        affine: 4x4 voxel-to-world matrix, RAS+ mm.
        channel_names: or the class names of a label map, whose values must then be 0..K-1.
        options: fields of `DataConfig`.

    Raises:
        DataError, ConfigError: the arrays or the options cannot be used.

    >>> data = from_arrays(np.zeros((5, 8, 8), dtype=np.uint8), window=(0, 100), default_range=(-1, 1))
    >>> data.image_spec.size, data.image_spec.intensity.rule
    ((1, 8, 8), 'window 0 100')
    """
    config = DataConfig.parse(options)
    values = as_samples(np.asarray(x), config, source or name)
    pictures = dict(images or {}) | ({} if source_images is None else {"source": source_images})
    dim = values.ndim - 2
    image_configs = {
        key: config.model_copy(update={"dim": dim, "channels": None, "content": config.source_content if key == "source" else "auto"})
        for key in pictures
    }
    classes = (None, ()) if labels is None else as_classes(np.asarray(labels), class_names, source or name)
    samples = Samples(
        store=ArrayStore(values),
        origins=lambda i: f"{source or name} [{i}]",
        source=source or name,
        labels=classes[0],
        class_names=classes[1],
        attributes={key: np.asarray(value, dtype=np.float64) for key, value in (attributes or {}).items()},
        splits=None if splits is None else {key: np.asarray(value, dtype=np.int64) for key, value in splits.items()},
        subjects=None if subjects is None else np.asarray(subjects).astype(str),
        source_subjects=None if source_subjects is None else np.asarray(source_subjects).astype(str),
        images={key: ArrayStore(as_samples(np.asarray(value), image_configs[key], key)) for key, value in pictures.items()},
        image_names={key: tuple(names) for key, names in (image_names or {}).items()},
        spacing=None if spacing is None else tuple(float(v) for v in spacing),
        affine=None if affine is None else tuple(np.asarray(affine, dtype=np.float64).reshape(-1).tolist()),
        channel_names=tuple(channel_names),
    )
    for what, named in (("subjects", samples.subjects), ("source_subjects", samples.source_subjects)):
        if named is not None and named.shape != (len(samples),):
            raise DataError(f"{samples.source}: `{what}` must name each of {len(samples)} samples; got shape {named.shape}.")
    return patched(assemble(samples, config, default_range, name))


def as_samples(x: Array, config: DataConfig, where: str) -> Array:
    """`x` as [N, C, *S], C-contiguous, with the channels that the config keeps.

    >>> as_samples(np.zeros((7, 32, 32, 3)), DataConfig(), "x").shape
    (7, 3, 32, 32)
    >>> as_samples(np.zeros((7, 28, 28, 28)), DataConfig(), "x").shape
    (7, 1, 28, 28, 28)
    """
    if x.dtype.kind not in "biuf":
        raise DataError(f"{where}: must be an array of real numbers; got {x.dtype}.")
    if x.dtype.kind == "f" and config.content == "labels":
        x = whole_numbers(x, where)
    elif x.dtype.kind == "f":
        x = x.astype(np.float32, copy=False)
    elif x.dtype.kind == "b":
        x = x.astype(np.uint8)
    dim = config.dim if config.dim is not None else _guess_dim(x, config.channels_last, where)
    if x.ndim == 1 and dim == 0:
        x = x[:, None]
    if dim == 0 and x.ndim == 2:
        pass
    elif x.ndim == dim + 1:
        x = x[:, None]
    elif x.ndim == dim + 2:
        if config.channels_last if config.channels_last is not None else _looks_last(x):
            x = np.moveaxis(x, -1, 1)
    else:
        raise DataError(f"{where}: {dim}-D samples must be an array [N, *S] or [N, C, *S]; got shape {x.shape}. See the option `dim`.")
    if config.channels is not None:
        if not all(0 <= c < x.shape[1] for c in config.channels):
            raise DataError(f"{where}: `channels` must be in 0..{x.shape[1] - 1}; got {config.channels}.")
        x = x[:, list(config.channels)]
    return x if x.base is not None and 0 in x.strides else np.ascontiguousarray(x)


def _looks_last(x: Array) -> bool:
    return x.ndim > 3 and x.shape[-1] in (1, 3, 4) and x.shape[1] > 4


def _guess_dim(x: Array, channels_last: bool | None, where: str) -> int:
    if x.ndim in (1, 2):
        return 0
    if x.ndim == 3:
        return 1 if channels_last is not None else 2
    if x.ndim == 4:
        with_channels = channels_last is not None or _looks_last(x) or x.shape[1] <= 4
        return 2 if with_channels else 3
    if x.ndim == 5:
        return 3
    raise DataError(f"{where}: must have 1 to 5 axes, [N, *S] or [N, C, *S]; got shape {x.shape}.")


def as_classes(labels: Array, names: Sequence[str] | None, where: str) -> tuple[Array, tuple[str, ...]]:
    """Class numbers int64 [N] and class names, from integers, integral floats, booleans or strings [N] or [N, 1].

    >>> as_classes(np.array(["b", "a", "b"]), None, "x")
    (array([1, 0, 1]), ('a', 'b'))
    """
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.ndim != 1:
        raise DataError(f"{where}: labels must be one class per sample, [N] or [N, 1]; got shape {labels.shape}.")
    if labels.dtype.kind in "US":
        known = [str(n) for n in names] if names is not None else sorted(set(labels.astype(str).tolist()))
        number = {n: k for k, n in enumerate(known)}
        if stray := sorted(set(labels.astype(str).tolist()) - set(known)):
            raise DataError(f"{where}: labels must be among {known}; got {stray[:5]}.")
        return np.array([number[n] for n in labels.astype(str).tolist()], dtype=np.int64), tuple(known)
    if labels.dtype.kind == "f" and not (np.isfinite(labels).all() and (labels == np.rint(labels)).all()):
        raise DataError(f"{where}: labels must be integers; got {labels.dtype} with fractions or NaN. Numbers go into `attributes`.")
    numbers = labels.astype(np.int64)
    if names is None:
        names = [str(k) for k in range(max(0, int(numbers.max(initial=-1))) + 1)]
    return numbers, tuple(str(n) for n in names)
