"""What makes a label map of the heart anatomically valid: criteria as data, measured in C++ (or by `reference` without a compiler).

Painchaud et al., Cardiac segmentation with strong anatomical guarantees, IEEE TMI 2020 (arXiv 2006.08825): twelve criteria of
echocardiograms (`echo_criteria`) and sixteen of short-axis MRI (`mri_criteria`).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from medgen import native
from medgen.errors import ConfigError, DataError
from medgen_anatomy.criterion import Criteria, Criterion
from medgen_anatomy.reference import MEASURES
from medgen_anatomy.views import echo_criteria, mri_criteria, myocardium_criteria

__all__ = ["Criteria", "Criterion", "echo_criteria", "is_valid", "measure", "mri_criteria", "myocardium_criteria", "violations"]

EXTENSION = "medgen_anatomy_maps"
LARGEST = 4096
_PORTION = 1 << 27  # pixels per call into C++, between which Ctrl-C is heard


def measure(
    maps: ArrayLike, criteria: Criteria, spacing: tuple[float, float] = (1.0, 1.0), threads: int | None = None
) -> NDArray[np.float64]:
    """The value of every criterion.

    Args:
        maps: labels [B, H, W] of any integer type, H and W up to 4096.
        criteria: what to measure.
        spacing: mm per pixel, (between rows, between columns).
        threads: that share the maps; default one per CPU of this process. The values do not depend on it.

    Returns:
        [B, len(criteria)], in units of `Criterion.unit`; NaN where a structure is missing (or where the measure has no value: see
        `reference`).

    Raises:
        DataError: not integers, another rank, a size of 0 or above 4096, or a label that `criteria` does not have.
        ConfigError: the spacing is not two positive numbers, or `threads` is below 1.

    >>> disc = (np.hypot(*np.mgrid[-10:11, -10:11]) < 8).astype(int)[None]
    >>> measure(disc, myocardium_criteria().only("holes_in_myo", "myo_concavity"))
    array([[0., 0.]])
    """
    dy, dx = _spacing(spacing)
    array = _maps(maps)
    if threads is None:
        threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads < 1:
        raise ConfigError(f"`threads` must be at least 1; got {threads}.")
    module = native.load_module(EXTENSION)
    known = sorted(criteria.labels.values())
    values = np.empty((len(array), len(criteria)))
    portion = max(1, _PORTION // (array.shape[1] * array.shape[2]))
    for start in range(0, len(array), portion):
        part = _bytes(array[start : start + portion], known, criteria)
        if module is None:
            _check_labels(part, known, criteria)
            values[start : start + portion] = [_by_reference(one, criteria, (dy, dx)) for one in part]
        else:
            values[start : start + portion] = _natively(module, part, criteria, known, (dy, dx), threads)
    return values


def violations(
    maps: ArrayLike, criteria: Criteria, spacing: tuple[float, float] = (1.0, 1.0), threads: int | None = None
) -> NDArray[np.bool_]:
    """Which criteria each map violates [B, len(criteria)]; arguments and errors as in `measure`."""
    values = measure(maps, criteria, spacing, threads)
    limits = np.array([c.limit for c in criteria.items])
    above = np.array([c.side == "above" for c in criteria.items])
    found: NDArray[np.bool_] = np.where(np.isnan(values), criteria.missing == "invalid", np.where(above, values > limits, values < limits))
    return found


def is_valid(
    maps: ArrayLike, criteria: Criteria, spacing: tuple[float, float] = (1.0, 1.0), threads: int | None = None
) -> NDArray[np.bool_]:
    """Which maps violate no criterion [B]; arguments and errors as in `measure`."""
    return np.logical_not(np.any(violations(maps, criteria, spacing, threads), axis=1))


def _spacing(spacing: Iterable[float]) -> tuple[float, float]:
    try:
        dy, dx = (float(v) for v in spacing)
    except (TypeError, ValueError):
        raise ConfigError(f"`spacing` must be two numbers, mm between rows and between columns; got {spacing!r}.") from None
    if not (math.isfinite(dy) and math.isfinite(dx) and dy > 0 and dx > 0):
        raise ConfigError(f"`spacing` must be two positive finite numbers, mm between rows and between columns; got {spacing!r}.")
    return dy, dx


def _maps(maps: ArrayLike) -> NDArray[np.integer[Any]]:
    array = np.asarray(maps)
    if array.dtype.kind not in "iu":
        raise DataError(f"label maps must be integers; got {array.dtype}. One-hot maps become labels by argmax over their channels.")
    if array.ndim != 3:
        raise DataError(f"label maps must have the axes [B, H, W]; got shape {array.shape}. A single map becomes a batch by maps[None].")
    if not all(1 <= n <= LARGEST for n in array.shape[1:]):
        raise DataError(f"label maps must have from 1 to {LARGEST} rows and columns; got shape {array.shape}.")
    return array


def _bytes(array: NDArray[np.integer[Any]], known: list[int], criteria: Criteria) -> NDArray[np.uint8]:
    """Contiguous bytes; labels that do not fit are an error rather than another label."""
    if array.dtype != np.uint8 and array.size and not (array.min() >= 0 and array.max() <= 255):
        _check_labels(array, known, criteria)
    return np.ascontiguousarray(array, dtype=np.uint8)


def _check_labels(array: NDArray[np.integer[Any]], known: list[int], criteria: Criteria) -> None:
    if unknown := sorted(set(np.unique(array).tolist()) - set(known)):
        raise DataError(
            f"label maps must hold the labels of {criteria.name!r} alone, {dict(criteria.labels)}; got also {unknown[:5]}. "
            "The numbers of the structures are arguments of the set of criteria."
        )


def _steps(criteria: Criteria) -> tuple[list[list[int]], list[tuple[str, int, int]]]:
    """The structures that are looked at, as labels, and (measure, number of one, number of another or -1) per criterion."""
    numbers = {names: i for i, names in enumerate(dict.fromkeys(n for c in criteria.items for n in (c.of, c.other) if n))}
    steps = [(c.measure, numbers[c.of], numbers[c.other] if c.other else -1) for c in criteria.items]
    return [[criteria.labels[s] for s in names] for names in numbers], steps


def _natively(
    module: Any, maps: NDArray[np.uint8], criteria: Criteria, known: list[int], spacing: tuple[float, float], threads: int
) -> NDArray[np.float64]:
    structures, steps = _steps(criteria)
    values, bad = module.measure(maps, known, criteria.labels["background"], structures, steps, *spacing, threads)
    if bad >= 0:
        _check_labels(maps, known, criteria)
    found: NDArray[np.float64] = values
    return found


def _by_reference(labels: NDArray[np.uint8], criteria: Criteria, spacing: tuple[float, float]) -> list[float]:
    structures, steps = _steps(criteria)
    masks = [np.isin(labels, numbers) for numbers in structures]
    missing = [not mask.any() and criteria.labels["background"] not in numbers for mask, numbers in zip(masks, structures, strict=True)]
    return [
        math.nan
        if missing[a] or (b >= 0 and missing[b] and name != "holes_besides")
        else MEASURES[name](masks[a], masks[b] if b >= 0 else None, spacing)
        for name, a, b in steps
    ]
