"""Translating samples: whole ones, in tiles where the model is of patches, drawn or with a style."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from medgen.data import Dataset
from medgen.errors import ConfigError, RunError
from medgen.interfaces import Condition, Cycles, FollowsStyle, Noise, Translator
from medgen.nn import forward_bytes
from medgen.registry import ImageSpec, Intensity
from medgen.runs.run import Run
from medgen.sampling import Blend, tiled

__all__ = ["Translation", "Work", "cycle_samples", "spread_spec", "translate_dataset", "translate_samples", "translator_of"]

Fetch = Callable[[int, int], tuple[Tensor, Condition]]

_VALUES = 1 << 21  # of the input of one call of the network, where no memory budget is given
_DRAW, _SAMPLE = 1 << 40, 1 << 20  # noise numbers: draw, sample, tile


@dataclass(frozen=True)
class Work:
    """How a translation is computed.

    Args:
        seed: of the noise of a stochastic translation; None for the deterministic one.
        draws: translations whose mean and standard deviation are taken; more than one needs a stochastic model.
        overlap: least share of a tile that the next one sees too.
        blend: window with which overlapping tiles are weighted.
        memory: GiB that the network may take beside its weights, the image and the result; None for a usual size.
        tiles: samples or tiles that go through the network at once; instead of `memory`.
    """

    seed: int | None = None
    draws: int = 1
    overlap: float = 0.5
    blend: Blend = "hann"
    memory: float | None = None
    tiles: int | None = None

    def __post_init__(self) -> None:
        if self.draws < 1 or not 0 <= self.overlap < 1 or not 0 <= (self.seed or 0) < 2**64:
            raise ConfigError(
                f"`draws` must be at least 1, `overlap` in [0, 1) and `seed` in [0, 2^64); got {self.draws}, {self.overlap}, {self.seed}."
            )
        if (self.memory is not None and self.memory <= 0) or (self.tiles is not None and self.tiles < 1):
            raise ConfigError(f"`memory` must be positive and `tiles` at least 1; got {self.memory} and {self.tiles}.")
        if self.memory is not None and self.tiles is not None:
            raise ConfigError("give `memory` or `tiles`, not both.")


@dataclass(frozen=True)
class Translation:
    """A translation [N, C', *S] in model units, and the standard deviation over several draws, if there were any."""

    mean: Tensor
    sd: Tensor | None


def translator_of(run: Run) -> Translator:
    """The run's model, if it translates.

    Raises:
        RunError: the family does not.
    """
    if not isinstance(run.model, Translator):
        raise RunError(f"family {run.config.family!r} does not translate; `medgen list --interface translator` shows those that do.")
    return run.model


def translate_dataset(
    model: Translator,
    dataset: Dataset,
    work: Work | None = None,
    *,
    style: Tensor | None = None,
    progress: Callable[[int], None] | None = None,
) -> Translation:
    """Translate all samples of a dataset of sources (`open_source`); samples larger than the model's own shape in blended tiles.

    Args:
        model: in whatever mode; on its device.
        dataset: whose samples are sources.
        work: how.
        style: of a model that `FollowsStyle`, [Z]; see `medgen.runs.style_of`.
        progress: called with the number of samples, or tiles, done.

    Raises:
        ConfigError: a style beside a seed or draws, several draws of a model that is not stochastic, or a memory budget below what one
            sample takes.
    """

    def fetch(start: int, stop: int) -> tuple[Tensor, Condition]:
        batch = model.select(dataset.fetch(np.arange(start, stop)))
        return batch.x, batch.condition

    return translate_samples(model, fetch, len(dataset), work, style=style, progress=progress)


def cycle_samples(model: Translator, fetch: Fetch, n: int, work: Work | None = None) -> Tensor:
    """F(G(x)) of n sources that `fetch(start, stop)` gives, [N, C, *S], of a translator that `Cycles`; whole samples in tiles."""
    assert isinstance(model, Cycles)
    work, parts = work or Work(), []
    rows = _at_once(model, fetch, work)
    for start in range(0, n, rows):
        source, _ = fetch(start, min(start + rows, n))
        parts.append(_tiled(model, source, lambda x, _sample, _tile: model.cycle(x.to(model.device)).cpu(), work, rows))
    return torch.cat(parts) if parts else torch.empty(0)


def translate_samples(
    model: Translator,
    fetch: Fetch,
    n: int,
    work: Work | None = None,
    *,
    style: Tensor | None = None,
    progress: Callable[[int], None] | None = None,
) -> Translation:
    """Translate n samples that `fetch(start, stop)` gives, with their conditions other than images. See `translate_dataset`."""
    work = work or Work()
    if style is not None and (work.seed is not None or work.draws > 1):
        raise ConfigError("a given style leaves nothing to draw; give `style`, or `seed` and `draws`.")
    if work.draws > 1 and not model.stochastic:
        raise ConfigError("`draws` above 1 needs a stochastic translation, which this model has not; its translation is always the same.")
    rows, done = _at_once(model, fetch, work), 0
    mean, squares = torch.empty(0), torch.empty(0)
    for draw in range(work.draws):
        parts = []
        for start in range(0, n, rows):
            source, condition = fetch(start, min(start + rows, n))
            parts.append(_translated(model, start, source, condition, work, rows, draw, style))
            done += len(source)
            if progress is not None:
                progress(done)
        x = torch.cat(parts)
        if draw == 0:
            mean, squares = x, torch.zeros_like(x)
        else:  # Welford's update
            off = x - mean
            mean = mean + off / (draw + 1)
            squares = squares + off * (x - mean)
    return Translation(mean, (squares / (work.draws - 1)).sqrt() if work.draws > 1 else None)


def _translated(
    model: Translator, first: int, x: Tensor, condition: Condition, work: Work, at_once: int, draw: int, style: Tensor | None
) -> Tensor:
    """One batch; noise is a function of draw, sample and tile; of the draw alone where it is a style, which a whole volume shares."""
    seed = work.seed if work.draws == 1 else work.seed or 0

    def part(tiles: Tensor, sample: Tensor, tile: Tensor) -> Tensor:
        if style is not None and isinstance(model, FollowsStyle):
            return model.stylise(tiles.to(model.device), style, condition=condition[sample]).cpu()
        place = torch.zeros_like(tile) if isinstance(model, FollowsStyle) else (first + sample) * _SAMPLE + tile
        noise = None if seed is None else Noise(seed, draw * _DRAW + place)
        return model.translate(tiles.to(model.device), condition=condition[sample], noise=noise).cpu()

    return _tiled(model, x, part, work, at_once)


def _tiled(model: Translator, x: Tensor, part: Callable[[Tensor, Tensor, Tensor], Tensor], work: Work, at_once: int) -> Tensor:
    """`part(tiles, their samples, their numbers)` of whole samples, blended; of samples that the model takes as they are, at once."""
    size = model.source_spec.shape
    if tuple(x.shape[2:]) == size:
        return part(x, torch.arange(len(x)), torch.zeros(len(x), dtype=torch.int64))
    out = []
    for k in range(len(x)):

        def of_tiles(tiles: Tensor, number: Tensor, k: int = k) -> Tensor:
            return part(tiles, torch.full_like(number, k), number)

        out.append(tiled(of_tiles, x[k : k + 1], size, overlap=work.overlap, blend=work.blend, micro_batch=at_once))
    return torch.cat(out)


def _at_once(model: Translator, fetch: Fetch, work: Work) -> int:
    """Samples or tiles that go through the network together."""
    if work.tiles is not None:
        return work.tiles
    spec = model.source_spec
    if work.memory is None:
        return max(1, min(64, _VALUES // max(1, spec.numel)))
    x = torch.zeros(1, *spec.size, device=model.device)
    condition = fetch(0, 1)[1]
    need = forward_bytes(lambda y: model.translate(y, condition=condition, noise=0 if model.stochastic else None), x)
    rows = int(work.memory * 2**30 // need)
    if rows < 1:
        raise ConfigError(f"`memory` of {work.memory:g} GiB is too little: one input of shape {spec.size} needs {need / 2**30:.3g}.")
    return min(rows, 1024)


def spread_spec(spec: ImageSpec) -> ImageSpec:
    """The spec of standard deviations: stored units without an origin, float32."""
    rule = spec.intensity
    (a, b), width = rule.range, tuple(high - low for low, high in zip(rule.low, rule.high, strict=True))
    intensity = Intensity(low=(0.0,) * len(width), high=width, range=(0.0, b - a), clip=False, unit=rule.unit)
    return replace(spec, content="intensity", intensity=intensity)
