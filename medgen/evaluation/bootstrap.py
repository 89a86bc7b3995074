"""Bootstrap intervals: over samples for means, by random parts for statistics of sets."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["LEVEL", "bootstrap_mean", "interval_recipe", "subsample"]

LEVEL = 0.95
"""Nominal coverage of every interval."""

Interval = tuple[float | None, float | None]
Floats = npt.NDArray[np.float64]


def bootstrap_mean(
    values: npt.ArrayLike, *, resamples: int = 200, seed: int = 0, level: float = LEVEL, groups: Sequence[Any] | None = None
) -> Interval:
    """Percentile bootstrap of a mean: quantiles (1 -+ level)/2 of mean(values drawn with replacement).

    Args:
        values: one per sample, [N].
        resamples: draws; 0 for no interval.
        seed: of a Philox generator.
        level: nominal coverage.
        groups: one name per sample; whole groups are drawn (slices of one patient are not independent).

    Returns:
        (low, high); (None, None) where there are fewer than two samples or groups, or a value is not finite.

    Paper: Bootstrap Methods: Another Look at the Jackknife (Efron, 1979) | https://doi.org/10.1214/aos/1176344552

    >>> low, high = bootstrap_mean(np.arange(100.0))
    >>> print(f"{low:.1f} to {high:.1f}")
    44.4 to 54.2
    """
    array = np.asarray(values, dtype=np.float64)
    sums, counts = _by_group(array, groups)
    n = len(sums)
    if resamples < 1 or n < 2 or not np.isfinite(array).all():
        return None, None
    rng = np.random.Generator(np.random.Philox(seed))
    means = np.empty(resamples)
    block = max(1, 2**24 // n)  # at most 128 MiB of weights at a time
    for start in range(0, resamples, block):
        drawn = rng.multinomial(n, np.full(n, 1.0 / n), size=min(block, resamples - start))
        means[start : start + block] = (drawn @ sums) / (drawn @ counts)
    return _quantiles(means, level)


def _by_group(values: Floats, groups: Sequence[Any] | None) -> tuple[Floats, Floats]:
    if groups is None:
        return values, np.ones(len(values))
    _, member = np.unique(np.asarray([str(g) for g in groups]), return_inverse=True)
    counts = np.bincount(member)
    return np.bincount(member, weights=values).astype(np.float64), counts.astype(np.float64)


def subsample(
    statistic: Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64]], float],
    sizes: tuple[int, int],
    *,
    value: float,
    share: float = 0.5,
    resamples: int = 200,
    seed: int = 0,
    level: float = LEVEL,
    limits: tuple[float, float] = (-math.inf, math.inf),
) -> Interval:
    """value + sqrt(f / (1 - f)) * quantiles of (statistic of random parts - its mean over the parts), f = `share`.

    Parts are drawn without replacement: a duplicate has distance zero to its twin, which ruins nearest-neighbour and kernel
    statistics, and inflates the rank deficit of covariances. A part of n f samples spreads sqrt((1 - f) / f) times as much as the
    whole set, so that halves need no factor. Centring removes the bias of the smaller n; the statistic's own bias at n stays, in value
    and interval alike. Where the leading term vanishes (two sets of one distribution) the interval is too wide rather than too narrow.

    Args:
        statistic: (rows of the first set, rows of the second) -> a number.
        sizes: of the two sets.
        value: the statistic of the full sets.
        share: f, at most 1/2; smaller parts are cheaper.
        resamples: pairs of parts; 0 for no interval.
        seed: of a Philox generator.
        level: nominal coverage.
        limits: of possible values; the interval is clipped to them.

    Returns:
        (low, high); (None, None) where all parts agree (a share that is 0 or 1 in each says nothing of its spread), or one is not finite.

    Paper: A General Theory for Jackknife Variance Estimation (Shao & Wu, 1989) | https://doi.org/10.1214/aos/1176347263

    >>> x = np.arange(100.0)
    >>> low, high = subsample(lambda i, j: x[i].mean() - x[j].mean(), (100, 100), value=0.0)
    >>> print(f"{low:.1f} to {high:.1f}")
    -7.2 to 8.1
    """
    if not 0 < share <= 0.5:
        raise ValueError(f"`share` must be in (0, 1/2]; got {share}.")
    if resamples < 1 or min(sizes) < 2 or not math.isfinite(value):
        return None, None
    rng = np.random.Generator(np.random.Philox(seed))
    draws = np.array([statistic(_part(rng, sizes[0], share), _part(rng, sizes[1], share)) for _ in range(resamples)])
    if not np.isfinite(draws).all() or np.ptp(draws) == 0:
        return None, None
    low, high = _quantiles(math.sqrt(share / (1 - share)) * (draws - draws.mean()), level)
    return float(np.clip(value + low, *limits)), float(np.clip(value + high, *limits))


def _part(rng: np.random.Generator, n: int, share: float) -> npt.NDArray[np.int64]:
    return np.sort(rng.permutation(n)[: int(n * share)])


def _quantiles(draws: Floats, level: float) -> tuple[float, float]:
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def interval_recipe(method: str, resamples: int, seed: int) -> dict[str, Any]:
    """What a score's recipe says of its interval."""
    return {"method": method, "level": LEVEL, "resamples": resamples, "seed": seed} if resamples else {"method": "none"}
