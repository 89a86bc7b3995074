"""What a translator makes of a split of its run's own data, in stored units, beside the truth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medgen.data import Dataset, open_data, to_stored
from medgen.data.samples import Array
from medgen.errors import RunError
from medgen.evaluation.origin import truth_of
from medgen.evaluation.paired import Range
from medgen.evaluation.ssim import TAPS
from medgen.interfaces import Condition, Cycles, Translator
from medgen.registry import ImageSpec
from medgen.runs import Run, Work
from medgen.runs.translate import cycle_samples, spread_spec, translate_samples, translator_of

__all__ = ["Translated", "cycle_maps", "held_out", "sources_of", "stored", "translated", "whole_samples"]


@dataclass(frozen=True)
class Translated:
    """N samples.

    Args:
        real, fake: target and translation in stored units, [N, C, *S]; values that a window clips are clipped in both.
        sd: standard deviation over draws, or None.
        regions: labels [N, 1, *S], or None.
        names: of the regions.
        subjects: of the samples.
        spec: of the target.
        cycle: |F(G(x)) - x| of a translator that `Cycles`, in stored units of the source, [N, C', *S]; None of others.
        truth: SHA-256 of what the targets and regions are in the data (`truth_of`).
    """

    real: Tensor
    fake: Tensor
    sd: Tensor | None
    regions: Tensor | None
    names: tuple[str, ...]
    subjects: tuple[str, ...]
    spec: ImageSpec
    truth: str
    cycle: Tensor | None = None

    @property
    def value_range(self) -> Range:
        """Of stored units: the window."""
        return min(self.spec.intensity.low), max(self.spec.intensity.high)

    def kept(self) -> Tensor:
        """Which samples have regions in reach of windowed metrics, bool [N]; all where there are no regions."""
        if self.regions is None:
            return torch.ones(len(self.real), dtype=torch.bool)
        inner: Any = (..., *(slice(TAPS // 2, n - TAPS // 2) if n >= TAPS else slice(None) for n in self.regions.shape[2:]))
        return (self.regions != 0)[inner].flatten(1).any(1)


def translated(
    run: Run,
    split: str,
    limit: int,
    *,
    places: Sequence[int] | None = None,
    draws: int = 1,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Translated:
    """Translate up to `limit` samples of a split, or those at some places in it; a model of patches translates whole samples, in tiles.

    Raises:
        RunError: the split is empty, or its sources belong to other subjects than its targets.
    """
    model = translator_of(run)
    data, rows = held_out(run, split)
    rows = rows[:limit] if places is None else rows[np.asarray(places, np.int64)]
    fetch = sources_of(model, data, rows)
    work = Work(seed=seed, draws=draws) if draws > 1 else Work()
    done = translate_samples(model, fetch, len(rows), work, progress=progress)
    spec, batch = data.image_spec, data.fetch(rows)
    regions = batch.condition.values.get("regions")
    owners = tuple(data.origin(int(i)) for i in rows) if data.subjects is None else tuple(map(str, data.subjects[rows]))
    return Translated(
        stored(batch.x, spec),
        stored(done.mean, spec),
        None if done.sd is None else stored(done.sd, spread_spec(spec)),
        None if regions is None else regions.argmax(1, keepdim=True),
        _names(data),
        owners,
        spec,
        truth_of(data, rows),
        cycle_maps(model, fetch, len(rows)) if isinstance(model, Cycles) else None,
    )


def sources_of(model: Translator, data: Dataset, rows: Array) -> Callable[[int, int], tuple[Tensor, Condition]]:
    """(start, stop) -> sources of some of the rows, and their conditions other than images."""

    def fetch(start: int, stop: int) -> tuple[Tensor, Condition]:
        batch = model.select(data.fetch(rows[start:stop]))
        others = {c.name for c in model.conditions if c.image is None} & set(batch.condition.values)
        values, present = batch.condition.values, batch.condition.present
        rest = Condition({k: values[k] for k in others}, {k: present[k] for k in others & set(present)})
        return values["source"], rest

    return fetch


def cycle_maps(model: Translator, fetch: Callable[[int, int], tuple[Tensor, Condition]], n: int) -> Tensor:
    """|F(G(x)) - x| of n sources in stored units, [N, C, *S]."""
    spec = model.source_spec
    return (stored(cycle_samples(model, fetch, n), spec) - stored(fetch(0, n)[0], spec)).abs()


def held_out(run: Run, split: str) -> tuple[Dataset, Array]:
    """Whole samples of a translator's own data, and the numbers of those in a split.

    Raises:
        RunError: as `translated`.
    """
    data, rows = whole_samples(run, split)
    if data.samples.source_subjects is not None:
        raise RunError(
            f"the data of {run.path} is not paired, so that there is no truth to compare translations with. Give pairs: "
            f"medgen evaluate {run.path} --data TARGETS --source SOURCES."
        )
    return data, rows


def whole_samples(run: Run, split: str) -> tuple[Dataset, Array]:
    """The same, paired or not."""
    data = run.dataset if run.config.data_options.get("patch") is None else _whole(run)
    rows = data.splits.get(split)
    if rows is None or not len(rows):
        raise RunError(f"the data of {run.path} has no samples in split {split!r}; it has {[k for k, v in data.splits.items() if len(v)]}.")
    return data, rows


def _whole(run: Run) -> Dataset:
    """The data of a run on patches, without cutting it."""
    options = {k: v for k, v in run.config.data_options.items() if not k.startswith("patch")}
    return open_data(run.config.data, default_range=run.model.image_spec.intensity.range, **options)


def _names(data: Dataset) -> tuple[str, ...]:
    image = next((c.image for c in data.conditions if c.name == "regions"), None)
    return () if image is None else image.channel_names or tuple(str(k) for k in range(image.channels))


def stored(x: Tensor, spec: ImageSpec) -> Tensor:
    """Model units to stored units."""
    values: Array = to_stored(x, spec)
    return torch.from_numpy(values.astype("float32"))
