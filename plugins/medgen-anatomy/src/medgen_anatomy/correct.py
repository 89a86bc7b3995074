"""`correct`: label maps that violate criteria become the nearest shapes that a model knows to be valid.

Paper: Cardiac Segmentation with Strong Anatomical Guarantees (Painchaud et al., 2020) | https://arxiv.org/abs/2006.08825
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medgen.errors import ConfigError, RunError
from medgen.registry import ImageSpec
from medgen.runs import Run
from medgen.weights import read_meta
from medgen_anatomy.criteria import is_valid
from medgen_anatomy.decoding import ShapeDecoder
from medgen_anatomy.shape_store import ShapeStore
from medgen_anatomy.window import seen_by, to_map, to_model_grid

__all__ = ["Corrected", "correct", "open_store", "spacing_of"]


_RATE = 0.05  # of refining, as a share of the standard deviation of stored latents


@dataclass(frozen=True)
class Corrected:
    """Maps after correction.

    Args:
        maps: [B, H, W]; those that were valid are the given ones, bit for bit.
        valid_before, valid: of each map on its own grid.
        alpha: [B] the step from the map's own latent (0) to the valid one (1); NaN where the map was valid.
        distance: [B] between the two latents; NaN where the map was valid.
    """

    maps: NDArray[Any]
    valid_before: NDArray[np.bool_]
    valid: NDArray[np.bool_]
    alpha: NDArray[np.float64]
    distance: NDArray[np.float64]


@dataclass(frozen=True)
class _Judge:
    """Whether what latents decode to is valid on the model's grid and on that of the maps."""

    store: ShapeStore
    decoder: ShapeDecoder
    shape: tuple[int, int]
    spacing: tuple[float, float]
    threads: int | None

    def __call__(self, z: Tensor, windows: NDArray[Any]) -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.bool_]]:
        """Maps [B, H, W], whether valid on both grids [B], whether on the model's [B]."""
        maps, both, own = [], [], []
        batch = min(self.decoder.batch, max(1, (1 << 22) // (self.shape[0] * self.shape[1])))
        for start in range(0, len(z), batch):
            x = self.decoder.probabilities(z[start : start + batch]).numpy()
            on_model = is_valid(self.decoder.numbers[x.argmax(1)], self.store.criteria, self.store.spacing, self.threads)
            maps.append(self.decoder.numbers[to_map(x, windows[start : start + batch], self.shape)])
            own.append(on_model)
            both.append(on_model & is_valid(maps[-1], self.store.criteria, self.spacing, self.threads))
        return np.concatenate(maps), np.concatenate(both), np.concatenate(own)


def correct(
    decoder: ShapeDecoder,
    store: ShapeStore,
    maps: NDArray[Any],
    *,
    spacing: tuple[float, float] | None = None,
    centre: bool = False,
    steps: int = 10,
    neighbours: int = 8,
    refine: int = 0,
    threads: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Corrected:
    """Map x is left alone if valid, else decoded at z + alpha (z* - z), with z = E(x), z* the nearest valid latent of the store, and alpha
    the smallest that bisection finds valid: the last valid one is always kept.

    A map counts as valid where its decoding is valid on the model's grid and on the map's own. Where z* is not on the latter, the next
    nearest is tried; where none of them is, the map is decoded at the nearest z*, and `Corrected.valid` says so.

    Args:
        decoder: of the run.
        store: of `densify` on the same run.
        maps: stored labels [B, H, W].
        spacing: mm per pixel of the maps; where unknown they are taken to have the model's field of view.
        centre: see `seen_by`.
        steps: of bisection; alpha is found to within 2^-steps where validity changes once.
        neighbours: valid latents that are tried.
        refine: steps of gradient descent that first bring the decoding of z nearer to x, see `ShapeDecoder.refined`; the paper has none.
        threads: that measure maps.
        progress: called with the number of steps done, of `steps` + 2.

    Raises:
        RunError: the store is of another run, or not finished, or has no valid latent.
        DataError: maps with other labels.
    """
    if steps < 0 or neighbours < 1 or refine < 0:
        raise ConfigError(f"`steps` and `refine` must not be negative and `neighbours` be at least 1; got {steps}, {refine}, {neighbours}.")
    if store.asked["dim"] != decoder.dim:
        raise RunError(f"{store.folder} holds latents of {store.asked['dim']} values; the model has {decoder.dim}.")
    spec, tell = decoder.model.image_spec, progress or (lambda _done: None)
    view = _view(store, spec, spacing)
    mm = spacing or spacing_of(store, decoder, maps)
    before = is_valid(maps, store.criteria, mm, threads)
    bad = np.flatnonzero(~before)
    alpha, distance = np.full(len(maps), np.nan), np.full(len(maps), np.nan)
    if not len(bad):
        return Corrected(maps, before, before, alpha, distance)
    windows = seen_by(maps[bad], view, centre=centre)
    seen = to_model_grid(maps[bad], windows, spec.shape)
    z = decoder.refined(decoder.encode(seen), seen, refine, _RATE * float(np.std(store.points[:4096], axis=0).mean()))
    judge = _Judge(store, decoder, (maps.shape[1], maps.shape[2]), mm, threads)
    goal, best, found = _goals(judge, store.nearest(z, neighbours), windows)
    tell(1)
    rows = np.flatnonzero(found)
    high = np.ones(len(bad))
    low = np.zeros(len(bad))
    for step in range(steps + 1):
        if not len(rows):
            break
        at = torch.from_numpy((low if step == 0 else (low + high) / 2)[rows]).float()[:, None]  # the first step asks whether E(x) will do
        tried, good, _ = judge(z[rows] + at * (goal[rows] - z[rows]), windows[rows])
        best[rows[good]] = tried[good]
        if step == 0:
            high[rows[good]] = 0.0
            rows = rows[~good]
        else:
            middle = (low[rows] + high[rows]) / 2
            high[rows], low[rows] = np.where(good, middle, high[rows]), np.where(good, low[rows], middle)
        tell(step + 2)
    out, valid = maps.copy(), before.copy()
    out[bad], valid[bad] = best, found
    alpha[bad], distance[bad] = high, (goal - z).double().norm(dim=1).numpy()
    return Corrected(out, before, valid, alpha, distance)


def _goals(judge: _Judge, near: Tensor, windows: NDArray[Any]) -> tuple[Tensor, NDArray[np.uint8], NDArray[np.bool_]]:
    """Of each map the nearest latent that is valid on both grids, what it decodes to, and whether there is one."""
    goal = near[:, 0].clone()
    maps, found, _ = judge(goal, windows)
    for k in range(1, near.shape[1]):
        rows = np.flatnonzero(~found)
        if not len(rows):
            break
        tried, good, _ = judge(near[rows, k], windows[rows])
        hits = rows[good]
        goal[hits], maps[hits], found[hits] = near[hits, k], tried[good], True
    return goal, maps, found


def _view(store: ShapeStore, spec: ImageSpec, spacing: tuple[float, float] | None) -> tuple[float, float] | None:
    """The model's field of view in pixels of the maps, where the spacings of both are known."""
    own = store.asked["spacing"]
    if spacing is None or (spec.spacing is None and own == [1.0, 1.0]):
        return None
    height, width = (n * mine / theirs for n, mine, theirs in zip(spec.shape, own, spacing, strict=True))
    return height, width


def spacing_of(store: ShapeStore, decoder: ShapeDecoder, maps: NDArray[Any]) -> tuple[float, float]:
    """mm per pixel of maps [B, H, W] that have the model's field of view."""
    sizes = zip(decoder.model.image_spec.shape, store.asked["spacing"], maps.shape[1:], strict=True)
    dy, dx = (n * s / m for n, s, m in sizes)
    return dy, dx


def open_store(run: Run, folder: Path) -> tuple[ShapeStore, ShapeDecoder]:
    """The valid shapes of a run, and its model in the arithmetic in which they were found valid.

    Raises:
        RunError: there are none, they are of other weights, or they are not all there yet.
    """
    store = ShapeStore(folder)
    if store.asked["weights"] != read_meta(run.weights_file)["sha256"]:
        raise RunError(f"{folder} was made with other weights than those of {run.path}; run `medgen anatomy densify {run.path}` again.")
    if not store.finished:
        raise RunError(f"{folder} is not finished: {store.done} of {len(store)} points. Repeat the `medgen anatomy densify` that began it.")
    return store, ShapeDecoder(run.model, store.asked["precision"], store.asked["batch"])
