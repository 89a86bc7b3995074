"""Smoothing of signals over time: the linear system, the gradient descent that it replaces, the search for the weight.

After Echocardiography Segmentation with Enforced Temporal Consistency (Painchaud et al., 2022) | https://arxiv.org/abs/2112.02102
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solveh_banded
from scipy.ndimage import gaussian_filter1d

from medgen.errors import DataError
from medgen_anatomy.temporal import as_sequence, second_difference

__all__ = [
    "HALVINGS",
    "WEIGHT",
    "WEIGHT_MAX",
    "bisect_weight",
    "gaussian_smooth",
    "gradient_smooth",
    "smallest_weight",
    "smooth",
    "smooth_latents",
]

Array = NDArray[Any]

WEIGHT = 50.0
"""Smoothing weight of latent dimensions that stand for no attribute."""

WEIGHT_MAX, HALVINGS = 128.0, 5
"""Of the search for the smallest weight."""


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
    s0 = as_sequence(s0, "a signal")
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
    s0 = as_sequence(s0, "a signal")
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
    s0 = as_sequence(s0, "a signal")
    filtered: Array = gaussian_filter1d(s0, 0.05 * len(s0) if sd is None else sd, axis=0, mode="nearest")
    return filtered


def bisect_weight(fits: Callable[[float], bool]) -> tuple[float, bool]:
    """The smallest weight in [0, 128] that fits, by 5 halvings: the upper end of the interval that remains, which has been tried.

    Returns:
        0 where that fits; and whether the weight fits: False where even 128 does not.

    >>> bisect_weight(lambda w: w >= 9)
    (12.0, True)
    """
    if fits(0.0):
        return 0.0, True
    low, high = 0.0, WEIGHT_MAX
    if not fits(high):
        return high, False
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high, True


def smallest_weight(s0: Array, tau: float, *, margin: float = 0.0) -> tuple[float, bool]:
    """The smallest w for which no |d_t| of `smooth(s0, w)` exceeds tau (see `bisect_weight`), times 1 + margin.

    Args:
        s0: one signal [T].
        tau: threshold, in units of s0.
        margin: of safety.
    """
    signal = as_sequence(np.asarray(s0).reshape(-1, 1), "a signal")
    weight, fitting = bisect_weight(lambda w: bool((np.abs(second_difference(smooth(signal, w))) <= tau).all()))
    return weight * (1 + margin), fitting


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
    z = as_sequence(z, "latents")
    limits = np.asarray(tau, dtype=np.float64)
    if limits.shape != (z.shape[1],) or (limits < 0).any():
        raise DataError(f"`tau` must hold one threshold (or NaN) for each of {z.shape[1]} dimensions; got {limits}.")
    weights = np.array([weight if math.isnan(t) else smallest_weight(s, t, margin=margin)[0] for s, t in zip(z.T, limits, strict=True)])
    return smooth(z, weights), weights
