"""One pass over the stored values before training: finite, in range, duplicated? With the numbers that intensity rules need."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from medgen.data.samples import Array, Samples, Store, chunks
from medgen.errors import DataError

__all__ = ["MAX_CLASSES", "Scan", "check_labels", "duplicates", "scan", "whole_numbers"]

MAX_CLASSES = 256
_KEPT = 1 << 22  # values from which percentiles are computed


@dataclass
class Scan:
    """What the pass found.

    Args:
        low, high: extremes of each channel over the training split.
        mean, sd: of each channel over the training split, float64.
        kept: evenly spaced samples' values per channel of the training split, for percentiles.
        levels: the different stored values over all samples where they are few integers, else None.
        digests: SHA-256 of each sample.
        constant: whether all values of a sample are equal.
    """

    low: Array
    high: Array
    mean: Array
    sd: Array
    kept: list[Array] = field(default_factory=list)
    levels: Array | None = None
    digests: list[bytes] = field(default_factory=list)
    constant: list[bool] = field(default_factory=list)


def scan(store: Store, samples: Samples, train: Array) -> Scan:
    """Pass over `store`, the values or one image condition of `samples`.

    Raises:
        DataError: NaN or infinity, naming the sample; or a dtype that is not a real number.
    """
    if store.dtype.kind not in "biuf":
        raise DataError(f"{samples.source}: values must be real numbers; got dtype {store.dtype}.")
    count = store.shape[1]
    is_train = np.zeros(store.shape[0], bool)
    is_train[train] = True
    levels: set[float] | None = set() if store.dtype.kind in "biu" else None
    result = Scan(np.full(count, np.inf), np.full(count, -np.inf), np.zeros(count), np.zeros(count))
    total, every = 0, max(1, len(train) * int(np.prod(store.shape[2:])) // _KEPT)
    moments = np.zeros((2, count))
    for rows, values in chunks(store):
        flat = values.reshape(len(rows), -1)
        _check_finite(flat, rows, samples)
        result.digests += [hashlib.sha256(np.ascontiguousarray(row).data).digest() for row in flat]
        result.constant += (flat == flat[:, :1]).all(1).tolist() if flat.shape[1] > 1 else [False] * len(rows)
        levels = _levels(levels, values)
        used = values[is_train[rows]].reshape(-1, count, int(np.prod(store.shape[2:])))
        if not len(used):
            continue
        result.low = np.minimum(result.low, used.min((0, 2)))
        result.high = np.maximum(result.high, used.max((0, 2)))
        n = used.shape[0] * used.shape[2]
        moments = _merge(moments, total, used, n)
        total += n
        result.kept.append(used.transpose(1, 0, 2).reshape(count, -1)[:, ::every].copy())
    result.mean, result.sd = moments[0], np.sqrt(moments[1] / max(1, total))
    result.levels = np.array(sorted(levels)) if levels else None
    return result


def _merge(moments: Array, total: int, used: Array, n: int) -> Array:
    """Mean and sum of squared deviations of the union of two sets (Chan et al. 1979)."""
    values = used.astype(np.float64)
    mean = values.mean((0, 2))
    squares = ((values - mean[None, :, None]) ** 2).sum((0, 2))
    shift = mean - moments[0]
    return np.stack([moments[0] + shift * n / (total + n), moments[1] + squares + shift**2 * total * n / (total + n)])


def _levels(levels: set[float] | None, values: Array) -> set[float] | None:
    if levels is None or int(values.max()) - int(values.min()) > 1 << 16:
        return None
    base = int(values.min())
    present = np.flatnonzero(np.bincount((values.astype(np.int64) - base).ravel())) + base
    joined = levels | set(present.tolist())
    return joined if len(joined) <= MAX_CLASSES else None


def _check_finite(flat: Array, rows: Array, samples: Samples) -> None:
    if flat.dtype.kind != "f":
        return
    bad = ~np.isfinite(flat)
    if bad.any():
        worst = int(np.flatnonzero(bad.any(1))[0])
        number = int(bad[worst].sum())
        raise DataError(f"{samples.origins(int(rows[worst]))}: values must be finite; got {number} NaN or infinite of {flat.shape[1]}.")


def whole_numbers(values: Array, where: str) -> Array:
    """Label maps that were saved as floats, as int16.

    Raises:
        DataError: fractions, NaN, or numbers beyond int16.
    """
    if not (np.isfinite(values).all() and (values == np.rint(values)).all() and np.abs(values).max(initial=0) < 1 << 15):
        raise DataError(f"{where}: label maps must hold whole numbers; got {values.dtype} with fractions, NaN or numbers beyond 32767.")
    return values.astype(np.int16)


def check_labels(labels: Array, names: tuple[str, ...], samples: Samples) -> None:
    """Class numbers must be integers in 0..K-1.

    Raises:
        DataError: naming the first sample that is not.
    """
    if labels.shape != (len(samples),) or labels.dtype.kind not in "iu":
        raise DataError(f"{samples.source}: labels must be {len(samples)} integers; got {labels.dtype} of shape {labels.shape}.")
    bad = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if len(bad):
        i = int(bad[0])
        raise DataError(
            f"{samples.origins(i)}: labels must be in 0..{len(names) - 1} ({', '.join(names[:10])}); got {labels[i]}, "
            f"and {len(bad) - 1} more are out of range."
        )


def duplicates(found: Scan, splits: Mapping[str, Array]) -> list[str]:
    """Warnings on samples of validation or test that are also in training, bit for bit; constant samples do not count."""
    seen = {found.digests[i] for i in splits["train"] if not found.constant[i]}
    lines = []
    for name in ("val", "test"):
        number = sum(found.digests[i] in seen for i in splits[name])
        if number:
            lines.append(f"leakage: {number} of {len(splits[name])} samples of {name} are exact duplicates of training samples.")
    return lines
