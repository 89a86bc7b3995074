"""How consistent sequences are in time. A sequence is an array [T, A] of A attributes over T frames.

After Echocardiography Segmentation with Enforced Temporal Consistency (Painchaud et al., 2022) | https://arxiv.org/abs/2112.02102
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgen.errors import DataError

__all__ = ["CAMUS_TAU", "Consistency", "Limits", "as_sequence", "consistency", "fit_limits", "second_difference"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Limits:
    """What counts as smooth, for A attributes: with bounds (low, high) and thresholds tau, all [A].

    >>> Limits.of({"lv_area": (19632.0, 112404.0, 0.016)}).scaled(np.array([[19632.0], [66018.0]])).ravel()
    array([0. , 0.5])
    """

    names: tuple[str, ...]
    low: Array
    high: Array
    tau: Array

    def __post_init__(self) -> None:
        shapes = {np.shape(self.low), np.shape(self.high), np.shape(self.tau)}
        if shapes != {(len(self.names),)}:
            raise DataError(f"`low`, `high` and `tau` must have one number for each of {len(self.names)} names; got {sorted(shapes)}.")
        if not ((np.asarray(self.high) > self.low).all() and (np.asarray(self.tau) > 0).all()):
            raise DataError(f"every attribute must have low < high and tau > 0; got low {self.low}, high {self.high}, tau {self.tau}.")

    @classmethod
    def of(cls, table: Mapping[str, Sequence[float]]) -> Limits:
        """From name -> (low, high, tau)."""
        if not table or any(len(row) != 3 for row in table.values()):
            raise DataError(f"limits must be given as name -> (low, high, tau); got {dict(table)}.")
        values = np.array([list(row) for row in table.values()], dtype=np.float64)
        return cls(tuple(table), *values.T)

    def table(self) -> dict[str, tuple[float, float, float]]:
        """Name -> (low, high, tau)."""
        rows = np.stack([self.low, self.high, self.tau], 1).tolist()
        return {name: (row[0], row[1], row[2]) for name, row in zip(self.names, rows, strict=True)}

    def scaled(self, values: Array) -> Array:
        """(a - low) / (high - low), for values [T, A]."""
        values = as_sequence(values, finite=False)
        if values.shape[1] != len(self.names):
            raise DataError(f"a sequence of {', '.join(self.names)} must be [T, {len(self.names)}]; got shape {values.shape}.")
        scaled: Array = (values - self.low) / (self.high - self.low)
        return scaled


CAMUS_TAU: Mapping[str, float] = {
    "lv_area": 0.0160,
    "lv_base_width": 0.0969,
    "lv_length": 0.0262,
    "lv_orientation": 0.0229,
    "myo_area": 0.0321,
    "epi_center_x": 0.00456,
    "epi_center_y": 0.0110,
}
"""Largest |d_t| of each attribute over the CAMUS annotations, after scaling by their bounds (`attributes.CAMUS_BOUNDS`)."""


def second_difference(values: Array) -> Array:
    """d_t = a_t - (a_{t-1} + a_{t+1}) / 2 along the first axis; 0 at both ends, [T, A].

    >>> second_difference(np.array([[0.0], [1.0], [5.0], [3.0]])).ravel()
    array([ 0. , -1.5,  3. ,  0. ])
    """
    values = as_sequence(values, finite=False)
    d = np.zeros_like(values)
    d[1:-1] = values[1:-1] - (values[:-2] + values[2:]) / 2
    return d


def fit_limits(sequences: Sequence[Array], names: Sequence[str]) -> Limits:
    """Bounds and thresholds of reference sequences: the extremes of each attribute, and its largest |d_t| after scaling.

    Args:
        sequences: each [T_i, A], which count as consistent.
        names: of the attributes.

    Raises:
        DataError: an attribute that never changes, or never bends.
    """
    if not sequences:
        raise DataError("limits need at least one reference sequence.")
    every = np.concatenate([as_sequence(s, "a reference sequence") for s in sequences])
    low, high = every.min(0), every.max(0)
    bend = np.max([np.abs(second_difference(s)).max(0) for s in sequences], axis=0)
    if idle := [name for name, b in zip(names, bend, strict=True) if not b > 0]:
        raise DataError(f"the reference sequences must vary in every attribute; {', '.join(idle)} does not bend in any of them.")
    return Limits(tuple(names), low, high, bend / (high - low))


@dataclass(frozen=True)
class Consistency:
    """How consistent sequences are in time.

    Args:
        ratios: of each sequence |d_t| / tau, [T_i, A]; above 1 is an error.
        names: of the attributes.
    """

    ratios: tuple[Array, ...]
    names: tuple[str, ...]

    @property
    def frames(self) -> list[list[int]]:
        """The inconsistent frames of each sequence: those where any attribute is in error."""
        return [np.flatnonzero((r > 1).any(1)).tolist() for r in self.ratios]

    @property
    def inconsistent_sequences(self) -> float:
        """Share of sequences with any error."""
        return float(np.mean([bool(f) for f in self.frames]))

    @property
    def inconsistent_frames(self) -> float:
        """Share of inconsistent frames over the sequences with errors; 0 where there are none."""
        pairs = [(len(f), len(r)) for f, r in zip(self.frames, self.ratios, strict=True) if f]
        return sum(n for n, _ in pairs) / sum(t for _, t in pairs) if pairs else 0.0

    @property
    def mean_ratio(self) -> float:
        """Mean |d_t| / tau over all frames, attributes and sequences where it can be measured."""
        return _mean(np.concatenate([r.ravel() for r in self.ratios]))

    def summary(self) -> dict[str, Any]:
        """Plain numbers for a report."""
        joined = np.concatenate(self.ratios)
        return {
            "sequences": len(self.ratios),
            "frames": len(joined),
            "sequences_with_errors": self.inconsistent_sequences,
            "inconsistent_frames": [len(f) for f in self.frames],
            "share_of_inconsistent_frames": self.inconsistent_frames,
            "mean_ratio": self.mean_ratio,
            "attributes": {
                name: {"inconsistent_frames": int((r > 1).sum()), "mean_ratio": _mean(r), "max_ratio": float(r.max())}
                for name, r in zip(self.names, joined.T, strict=True)
            },
        }


def consistency(sequences: Sequence[Array], limits: Limits) -> Consistency:
    """The metric: each attribute scaled by its bounds, then |d_t| against tau.

    Args:
        sequences: each [T_i, A]; NaN where an attribute cannot be measured, which is an error of the frame and its neighbours.
        limits: of the A attributes.

    >>> limits = Limits.of({"lv_area": (0, 1, 0.016)})
    >>> line = np.linspace(0.2, 0.8, 20)[:, None]
    >>> spike = line + 0.1 * (np.arange(20) == 7)[:, None]
    >>> found = consistency([line, spike], limits)
    >>> found.frames, found.inconsistent_sequences, found.inconsistent_frames
    ([[], [6, 7, 8]], 0.5, 0.15)
    """
    if not sequences:
        raise DataError("the metric needs at least one sequence.")
    ratios = (np.abs(second_difference(limits.scaled(s))) / limits.tau for s in sequences)
    return Consistency(tuple(np.where(np.isnan(r), np.inf, r) for r in ratios), limits.names)


def _mean(ratios: Array) -> float:
    known = ratios[np.isfinite(ratios)]
    return float(known.mean()) if len(known) else math.inf


def as_sequence(values: Array, what: str = "a sequence", *, finite: bool = True) -> Array:
    """`values` as float64 [T, A].

    Raises:
        DataError: another shape, or numbers that are not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or not len(values):
        raise DataError(f"{what} must be an array [T, A] of at least one frame; got shape {values.shape}.")
    if finite and not np.isfinite(values).all():
        bad = np.flatnonzero(~np.isfinite(values).all(1)).tolist()
        raise DataError(f"{what} must be finite; frames {bad[:10]} are not.")
    return values
