"""Sequences of label maps smoothed in the latent space of a model, so that they are consistent in time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from medgen.data import to_model, to_stored
from medgen.errors import DataError
from medgen.interfaces import Condition, LatentModel, evaluating
from medgen_anatomy.signals import WEIGHT, bisect_weight, gaussian_smooth, smooth, smooth_latents
from medgen_anatomy.temporal import Consistency, Limits, consistency, second_difference

__all__ = [
    "Coder",
    "Smoothed",
    "bridge_decoded",
    "bridged",
    "latent_tau",
    "smooth_decoded",
    "smooth_gaussian",
    "smooth_regularised",
    "splice",
]

Array = NDArray[Any]
Measure = Callable[[Array], Array]
"""Attributes [T, A] of label maps [T, H, W]."""

_CELL = 64
_TIGHTER = 5


class Coder:
    """Frames to latents and back, by a model of label maps.

    Args:
        model: of 2-D label maps.
        condition: of the T frames, for models that take one.

    Raises:
        DataError: the model is of something else.
    """

    def __init__(self, model: LatentModel, condition: Condition | None = None) -> None:
        if model.image_spec.content != "labels" or model.image_spec.dim != 2:
            raise DataError(
                f"sequences are smoothed by models of 2-D label maps; this one is of {model.image_spec.dim}-D {model.image_spec.content}."
            )
        self.model, self.condition = model, condition

    def encode(self, maps: Array) -> Array:
        """Posterior means [T, D] of label maps [T, H, W] with stored label numbers, float64."""
        x = to_model(torch.from_numpy(np.ascontiguousarray(maps[:, None])), self.model.image_spec)
        with evaluating(self.model):
            parts = [self.model.encode(x[rows], condition=self._part(rows)).mean for rows in _cells(len(x))]
        return torch.cat(parts).flatten(1).double().cpu().numpy()

    def decode(self, z: Array) -> Array:
        """The most probable label of each pixel [T, H, W], stored numbers, of latents [T, D]."""
        latents = torch.from_numpy(z).reshape(len(z), *self.model.latent_shape)
        with evaluating(self.model):
            parts = [self.model.decode(latents[rows], condition=self._part(rows)).cpu() for rows in _cells(len(z))]
        return to_stored(torch.cat(parts), self.model.image_spec)[:, 0]

    def _part(self, rows: slice) -> Condition | None:
        return None if self.condition is None else self.condition[rows]


def _cells(n: int) -> list[slice]:
    return [slice(start, min(start + _CELL, n)) for start in range(0, n, _CELL)]


@dataclass(frozen=True)
class Smoothed:
    """A sequence after smoothing.

    Args:
        maps: label maps [T, H, W].
        weights: w of each latent dimension [D].
        found: consistency of `maps`.
        tightening: factor on the thresholds of the latents with which the maps became consistent; 1 for those asked for.
    """

    maps: Array
    weights: Array
    found: Consistency
    tightening: float = 1.0

    @property
    def consistent(self) -> bool:
        """Whether no frame is in error."""
        return not self.found.frames[0]


def latent_tau(latents: Sequence[Array], dimensions: dict[str, int], limits: Limits) -> Array:
    """Thresholds on d_t of each latent dimension, in its own units, [D]; NaN for dimensions that stand for no attribute.

    An attribute with limits has the tau of its limits, scaled by the range of its dimension over the reference. For one without, tau is
    the largest |d_t| of its dimension over the reference sequences.

    Args:
        latents: of reference sequences, each [T_i, D].
        dimensions: attribute -> its dimension.
        limits: of the attributes.
    """
    joined = np.concatenate(list(latents))
    span = joined.max(0) - joined.min(0)
    bend = np.max([np.abs(second_difference(z)).max(0) for z in latents], axis=0)
    known = dict(zip(limits.names, limits.tau.tolist(), strict=True))
    tau = np.full(joined.shape[1], np.nan)
    for name, d in dimensions.items():
        tau[d] = known[name] * span[d] if name in known else bend[d]
    return tau


def smooth_regularised(
    coder: Coder,
    maps: Array,
    measure: Measure,
    limits: Limits,
    tau: Array,
    *,
    weight: float = WEIGHT,
    margin: float = 0.0,
    errors: Sequence[int] = (),
) -> Smoothed:
    """Painchaud et al. 2022: dimensions of attributes under their constraints, the others with one weight; then decoded.

    Decoded maps need not obey a constraint on latents to the letter. Where a frame is still in error, the latents' thresholds are halved,
    up to 5 times; the sequence with the fewest errors is returned.

    Args:
        coder: of an attribute-regularised model.
        maps: label maps [T, H, W].
        measure, limits: attributes of label maps, and what counts as consistent.
        tau: thresholds of the latent dimensions (see `latent_tau`).
        weight, margin: see `smooth_latents`.
        errors: frames that are bridged first (see `bridged`), so that they do not pull at the others; none in the paper.
    """
    z0 = bridged(coder.encode(maps), errors)
    best: Smoothed | None = None
    for halvings in range(_TIGHTER + 1):
        factor = 0.5**halvings
        z, weights = smooth_latents(z0, tau * factor, weight=weight, margin=margin)
        tried = _decoded(coder, z, weights, measure, limits, factor)
        if best is None or len(tried.found.frames[0]) < len(best.found.frames[0]):
            best = tried
        if best.consistent:
            break
    assert best is not None
    return best


def smooth_decoded(coder: Coder, maps: Array, measure: Measure, limits: Limits, *, errors: Sequence[int] = ()) -> Smoothed:
    """One weight for all dimensions: the smallest for which no frame of the decoded maps is in error. For any latent model.

    Args: as in `smooth_regularised`.
    """
    z0 = bridged(coder.encode(maps), errors)
    tried = dict[float, Smoothed]()

    def fits(w: float) -> bool:
        tried[w] = _decoded(coder, smooth(z0, w), np.full(z0.shape[1], w), measure, limits)
        return tried[w].consistent

    return tried[bisect_weight(fits)[0]]


def smooth_gaussian(coder: Coder, maps: Array, measure: Measure, limits: Limits) -> Smoothed:
    """The baseline: latents filtered over time by a Gaussian (see `gaussian_smooth`), then decoded."""
    z = gaussian_smooth(coder.encode(maps))
    return _decoded(coder, z, np.full(z.shape[1], np.nan), measure, limits)


def bridged(z: Array, errors: Sequence[int]) -> Array:
    """Latents [T, D] whose frames in error are interpolated from the others by a cubic spline; as they are where too few would be left.

    >>> t = np.arange(9.0)[:, None]
    >>> spoiled = t**2 + 40 * (t == 4)
    >>> bridged(spoiled, [3, 4, 5])[3:6].ravel().round(6)
    array([ 9., 16., 25.])
    """
    kept = np.setdiff1d(np.arange(len(z)), errors)
    if len(kept) == len(z) or len(kept) < max(4, len(z) / 2):
        return z
    out: Array = CubicSpline(kept, z[kept])(np.arange(len(z)))
    out[kept] = z[kept]
    return out


def splice(smoothed: Smoothed, maps: Array, errors: Sequence[int], measure: Measure, limits: Limits) -> Smoothed:
    """The smoothed sequence with as many of the original frames as stay consistent: those away from the frames in error.

    The frames in error and their neighbours up to k frames away are taken from `smoothed`, with the smallest k that leaves no error; where
    none does, all frames are.

    Args:
        smoothed: of `maps`.
        maps: label maps [T, H, W].
        errors: frames in error of `maps`.
        measure, limits: as in `smooth_regularised`.
    """
    distance = np.abs(np.arange(len(maps))[:, None] - np.asarray(errors)).min(1)
    for k in range(int(distance.max())):
        mixed = np.where((distance <= k)[:, None, None], smoothed.maps, maps)
        found = consistency([measure(mixed)], limits)
        if not found.frames[0]:
            return replace(smoothed, maps=mixed, found=found)
    return smoothed


def bridge_decoded(coder: Coder, maps: Array, errors: Sequence[int], measure: Measure, limits: Limits) -> Smoothed:
    """The least change: frames in error are decoded from latents interpolated between the others, which stay where that is consistent."""
    z = bridged(coder.encode(maps), errors)
    return splice(_decoded(coder, z, np.zeros(z.shape[1]), measure, limits), maps, errors, measure, limits)


def _decoded(coder: Coder, z: Array, weights: Array, measure: Measure, limits: Limits, factor: float = 1.0) -> Smoothed:
    maps = coder.decode(z)
    return Smoothed(maps, weights, consistency([measure(maps)], limits), factor)
