"""Temporal consistency of sequences: the metric, and the smoothing of latent signals (Painchaud et al. 2022, IEEE TMI 41).

A sequence is an array [T, A] of A attributes (or latent dimensions) over T frames.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded
from scipy.ndimage import gaussian_filter1d

from medgen.errors import DataError

__all__ = [
    "CAMUS",
    "HALVINGS",
    "WEIGHT",
    "WEIGHT_MAX",
    "Consistency",
    "Limits",
    "consistency",
    "fit_limits",
    "gaussian_smooth",
    "gradient_smooth",
    "second_difference",
    "smallest_weight",
    "smooth",
    "smooth_latents",
]

Array = NDArray[Any]

WEIGHT = 50.0
"""Smoothing weight of latent dimensions that stand for no attribute."""

WEIGHT_MAX, HALVINGS = 128.0, 5
"""Of the search for the smallest weight."""


@dataclass(frozen=True)
class Limits:
    """What counts as smooth, for A attributes: with bounds (low, high) and thresholds tau, all [A].

    >>> CAMUS["lv_area"]
    (19632.0, 112404.0, 0.016)
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
        values = _sequence(values)
        if values.shape[1] != len(self.names):
            raise DataError(f"a sequence of {', '.join(self.names)} must be [T, {len(self.names)}]; got shape {values.shape}.")
        scaled: Array = (values - self.low) / (self.high - self.low)
        return scaled


CAMUS: dict[str, tuple[float, float, float]] = {
    "lv_area": (19632.0, 112404.0, 0.0160),
    "lv_base_width": (53.76, 172.88, 0.0969),
    "lv_length": (301.4, 612.9, 0.0262),
    "lv_orientation": (-7.04, 15.26, 0.0229),
    "myo_area": (23228.0, 64134.0, 0.0321),
    "epi_center_x": (183.4, 479.4, 0.00456),
    "epi_center_y": (285.9, 609.2, 0.0110),
}
"""Attribute -> (low, high, tau) of the CAMUS annotations, in pixels of its frames and degrees."""


def second_difference(values: Array) -> Array:
    """d_t = a_t - (a_{t-1} + a_{t+1}) / 2 along the first axis; 0 at both ends, [T, A].

    >>> second_difference(np.array([[0.0], [1.0], [5.0], [3.0]])).ravel()
    array([ 0. , -1.5,  3. ,  0. ])
    """
    values = _sequence(values)
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
    every = np.concatenate([_finite(s, "reference sequences") for s in sequences])
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


def smooth(s0: Array, weight: float | Array) -> Array:
    """The minimum of |s - s0|^2 + w s.(I - A)s: the solution s of ((1 + w) I - w A) s = s0, along the first axis.

    A averages the two neighbours of a frame; beyond the ends the first and last frame are repeated. The matrix is tridiagonal, symmetric
    and positive definite; its rows sum to 1, so that constants and the mean over time stay.

    Args:
        s0: [T, D].
        weight: w >= 0, one number or one for each of the D signals.

    >>> smooth(np.array([[0.0], [0.0], [1.0], [0.0], [0.0]]), 4.0).ravel().round(3)
    array([0.129, 0.194, 0.355, 0.194, 0.129])
    """
    s0 = _finite(s0, "a signal")
    weights = np.broadcast_to(np.asarray(weight, dtype=np.float64), (s0.shape[1],))
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise DataError(f"smoothing weights must be finite and not negative; got {weight}.")
    out = s0.copy()
    if len(s0) < 2:
        return out
    for w in np.unique(weights[weights > 0]):
        own = weights == w
        bands = np.stack([np.full(len(s0), -w / 2), np.full(len(s0), 1 + w)])
        bands[1, [0, -1]] -= w / 2
        out[:, own] = solveh_banded(bands, s0[:, own])
    return out


def gradient_smooth(s0: Array, weight: float, *, steps: int = 100_000, tolerance: float = 1.19e-7) -> tuple[Array, int]:
    """`smooth` by gradient descent with momentum, as published: v = 0.9 v + 0.1 g, s -= 0.01 v, until |update| < tolerance.

    g = (s - s0) + w (s - avg(s)), with the mean of both neighbours and repeated ends.

    Returns:
        s [T, D] and the number of steps.
    """
    s0 = _finite(s0, "a signal")
    s, v = s0.copy(), np.zeros_like(s0)
    for step in range(1, steps + 1):
        padded = np.concatenate([s[:1], s, s[-1:]])
        v = 0.9 * v + 0.1 * ((s - s0) + weight * (s - (padded[:-2] + padded[2:]) / 2))
        s = s - 0.01 * v
        if np.linalg.norm(0.01 * v) < tolerance:
            return s, step
    return s, steps


def gaussian_smooth(s0: Array, sd: float | None = None) -> Array:
    """The baseline: a Gaussian filter over time; by default its standard deviation is 5 % of the length. Ends are repeated."""
    s0 = _sequence(s0)
    filtered: Array = gaussian_filter1d(s0, 0.05 * len(s0) if sd is None else sd, axis=0, mode="nearest")
    return filtered


def smallest_weight(s0: Array, tau: float, *, margin: float = 0.0) -> tuple[float, bool]:
    """The smallest w in [0, 128] for which no |d_t| of `smooth(s0, w)` exceeds tau, by 5 halvings; 0 where s0 is consistent as it is.

    The upper end of the interval that remains has always been tried, and fits.

    Args:
        s0: one signal [T], scaled as tau is.
        tau: threshold.
        margin: the weight that is found is multiplied by 1 + margin.

    Returns:
        w, and whether it suffices: False where even 128 does not.
    """
    signal = _finite(np.asarray(s0).reshape(-1, 1), "a signal")
    fits = lambda w: bool((np.abs(second_difference(smooth(signal, w))) <= tau).all())  # noqa: E731
    if fits(0.0):
        return 0.0, True
    low, high = 0.0, WEIGHT_MAX
    if not fits(high):
        return high * (1 + margin), False
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high * (1 + margin), True


def smooth_latents(z: Array, tau: Array, *, weight: float = WEIGHT, margin: float = 0.0) -> tuple[Array, Array]:
    """Each latent dimension smoothed under its own constraint.

    Args:
        z: latents [T, D].
        tau: largest |d_t| allowed in each dimension, in units of z, [D]; NaN where there is none, and `weight` is used instead.
        weight: of dimensions without a threshold.
        margin: see `smallest_weight`.

    Returns:
        The smoothed latents [T, D] and the weight of each dimension [D].
    """
    z = _finite(z, "latents")
    limits = np.asarray(tau, dtype=np.float64)
    if limits.shape != (z.shape[1],) or (limits < 0).any():
        raise DataError(f"`tau` must hold one threshold (or NaN) for each of {z.shape[1]} dimensions; got {limits}.")
    weights = np.array([weight if math.isnan(t) else smallest_weight(s, t, margin=margin)[0] for s, t in zip(z.T, limits, strict=True)])
    return smooth(z, weights), weights


def _mean(ratios: Array) -> float:
    known = ratios[np.isfinite(ratios)]
    return float(known.mean()) if len(known) else math.inf


def _sequence(values: Array) -> Array:
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or not len(values):
        raise DataError(f"a sequence must be an array [T, A] of at least one frame; got shape {values.shape}.")
    return values


def _finite(values: Array, what: str) -> Array:
    values = _sequence(values)
    if not np.isfinite(values).all():
        bad = np.flatnonzero(~np.isfinite(values).all(1)).tolist()
        raise DataError(f"{what} must be finite; frames {bad[:10]} are not.")
    return values
