"""Training, validation and test: the file's own, by subject, by slabs, or at random, always disjoint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from medgen.data.config import DataConfig
from medgen.data.samples import Array, Samples
from medgen.errors import DataError
from medgen.registry import suggestion

__all__ = ["SPLITS", "contiguous", "divide", "split_samples"]

SPLITS = ("train", "val", "test")


def split_samples(samples: Samples, config: DataConfig) -> tuple[dict[str, Array], list[str]]:
    """The splits, each sorted int64, and what to warn about."""
    if config.val_subjects or config.test_subjects:
        return _told(samples, config)
    if samples.splits is not None:
        return _completed(samples.splits, samples, config)
    return divide(np.arange(len(samples), dtype=np.int64), samples, config)


def _completed(own: Mapping[str, Array], samples: Samples, config: DataConfig) -> tuple[dict[str, Array], list[str]]:
    """The file's own splits; a missing validation part is taken from training."""
    splits = {name: np.sort(np.asarray(own.get(name, ()), dtype=np.int64)) for name in SPLITS}
    joined = np.concatenate(list(splits.values()))
    if len(np.unique(joined)) != len(joined):
        raise DataError(f"{samples.source}: `splits` must be disjoint; some samples are in two of them.")
    if len(joined) and not (joined.min() >= 0 and joined.max() < len(samples)):
        raise DataError(f"{samples.source}: `splits` must be in 0..{len(samples) - 1}; got {joined.min()}..{joined.max()}.")
    if not len(splits["train"]):
        raise DataError(f"{samples.source}: the training split must not be empty.")
    if len(splits["val"]) or "val" in own:
        return splits, []
    train, val, _ = config.split
    fractions = (train / (train + val), val / (train + val), 0.0)
    parts, warnings = divide(splits["train"], samples, config, fractions)
    return {**parts, "test": splits["test"]}, warnings


def _told(samples: Samples, config: DataConfig) -> tuple[dict[str, Array], list[str]]:
    """The subjects that the user names for validation and test; the others by `divide`, one subject's samples in slabs."""
    names = samples.subjects
    known = [] if names is None else sorted(set(names.tolist()))
    if names is None or len(known) < 2:
        raise DataError(f"{samples.source}: `val_subjects` and `test_subjects` need several known subjects; got {known}. See `subjects`.")
    for name in (*config.val_subjects, *config.test_subjects):
        if name not in known:
            raise DataError(f"{samples.source}: there is no subject {name!r}{suggestion(name, known)}")
    rows = np.arange(len(samples), dtype=np.int64)
    parts = {"val": rows[np.isin(names, config.val_subjects)], "test": rows[np.isin(names, config.test_subjects)]}
    rest = rows[~np.isin(names, [*config.val_subjects, *config.test_subjects])]
    if not len(rest):
        raise DataError(f"{samples.source}: no subject is left for training; got {known}, all for validation or test.")
    train, val, test = config.split
    if len(parts["val"]):
        val = 0.0
    if len(parts["test"]):
        test = 0.0
    fractions = (train / (train + val + test), val / (train + val + test), test / (train + val + test))
    drawn, warnings = divide(rest, replace(samples, ordered=True), config, fractions)
    return {name: parts[name] if name in parts and len(parts[name]) else drawn[name] for name in SPLITS}, warnings


def divide(
    rows: Array, samples: Samples, config: DataConfig, fractions: tuple[float, float, float] | None = None
) -> tuple[dict[str, Array], list[str]]:
    """Divide `rows` by subject where known, in slabs where one subject's samples are neighbours, else at random."""
    fractions = fractions or config.split
    rng = np.random.Generator(np.random.Philox(config.split_seed))
    warnings = []
    if samples.subjects is not None:
        names = samples.subjects[rows]
        if len(np.unique(names)) > 1:
            return _by_subject(rows, names, fractions, rng)
        warnings.append(f"leakage likely: all {len(rows)} samples are of one subject ({names[0]}); validation is not independent.")
    if samples.ordered:
        warnings = warnings or ["leakage likely: neighbouring samples are related, and their subjects are unknown."]
        return contiguous(rows, fractions, samples.guard), warnings
    return _cut(rng.permutation(rows), fractions), warnings


def _sizes(n: int, fractions: tuple[float, float, float]) -> tuple[int, int]:
    """Numbers of validation and test samples; at least one each where asked for and possible."""
    val = max(round(fractions[1] * n), int(fractions[1] > 0 and n >= 2))
    test = max(round(fractions[2] * n), int(fractions[2] > 0 and n >= 3))
    val = min(val, n - 1)
    return val, min(test, n - 1 - val)


def _cut(rows: Array, fractions: tuple[float, float, float], guard: int = 0) -> dict[str, Array]:
    val, test = _sizes(len(rows), fractions)
    train = len(rows) - val - test
    parts = (rows[: train - guard * bool(val + test)], rows[train : train + val - guard * bool(test)], rows[train + val :])
    return {name: np.sort(part).astype(np.int64) for name, part in zip(SPLITS, parts, strict=True)}


def contiguous(rows: Array, fractions: tuple[float, float, float], guard: int = 0) -> dict[str, Array]:
    """Three slabs in order; `guard` samples before each cut are dropped.

    >>> {k: v.tolist() for k, v in contiguous(np.arange(10), (0.6, 0.2, 0.2), guard=1).items()}
    {'train': [0, 1, 2, 3, 4], 'val': [6], 'test': [8, 9]}
    """
    val, test = _sizes(len(rows), fractions)
    if guard and min(len(rows) - val - test, *(n for n in (val, test) if n)) <= guard:
        raise DataError(f"windows that overlap need more of the signal to be split; got {len(rows)} windows. Use a larger `stride`.")
    return _cut(rows, fractions, guard)


def _by_subject(
    rows: Array, names: Array, fractions: tuple[float, float, float], rng: np.random.Generator
) -> tuple[dict[str, Array], list[str]]:
    """Whole subjects, in random order, each to the split that lacks most samples."""
    subjects, counts = np.unique(names, return_counts=True)
    lack = {name: fraction * len(rows) for name, fraction in zip(SPLITS, fractions, strict=True) if fraction > 0}
    members: dict[str, list[str]] = {name: [] for name in SPLITS}
    order = rng.permutation(len(subjects))
    for done, k in enumerate(order):
        empty = [name for name in lack if not members[name]]
        # The last subjects go to splits that would stay empty.
        name = empty[0] if len(order) - done <= len(empty) else max(lack, key=lack.__getitem__)
        members[name].append(subjects[k])
        lack[name] -= counts[k]
    splits = {name: rows[np.isin(names, members[name])].astype(np.int64) for name in SPLITS}
    missing = [name for name in lack if not members[name]]
    return splits, [f"{len(subjects)} subjects are too few for the split(s) {', '.join(missing)}."] if missing else []
