"""What can be said of a translator where no source has its target: whether it comes back, and whether it moved what the source shows."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from medgen.evaluation.bootstrap import bootstrap_mean, interval_recipe
from medgen.evaluation.hallucination import structure_shift
from medgen.evaluation.score import Score
from medgen.evaluation.subjects import SubjectTable
from medgen.evaluation.translated import cycle_maps, sources_of, stored, whole_samples
from medgen.interfaces import Cycles
from medgen.runs import Run
from medgen.runs.translate import translate_samples, translator_of

__all__ = ["cycle_score", "is_unpaired", "unpaired_table"]

_EDGE = 22  # shortest axis in which edges can be followed


def is_unpaired(run: Run) -> bool:
    """Whether the data of a run has sources and targets that do not belong together, and its model knows the way back."""
    return isinstance(run.model, Cycles) and run.dataset.samples.source_subjects is not None


def unpaired_table(run: Run, split: str, limit: int, *, progress: Callable[[int], None] | None = None) -> SubjectTable:
    """By subject of the sources: cycle, the mean of |F(G(x)) - x| in stored units of the source; shift, how far G moved the edges of x.

    Raises:
        RunError: the split is empty.
    """
    model = translator_of(run)
    data, rows = whole_samples(run, split)
    rows, names = rows[:limit], data.samples.source_subjects
    assert names is not None
    fetch = sources_of(model, data, rows)
    cycle = cycle_maps(model, fetch, len(rows)).double().flatten(1).mean(1).numpy()
    columns, found = ["cycle"], [cycle]
    shape = data.image_spec.shape
    if shape and min(shape) >= _EDGE:
        fake = stored(translate_samples(model, fetch, len(rows), progress=progress).mean, data.image_spec)
        source = stored(fetch(0, len(rows))[0], model.source_spec)
        moved = structure_shift(source.sum(1, keepdim=True), fake.sum(1, keepdim=True), spacing=data.image_spec.spacing)
        columns, found = [*columns, "shift"], [*found, moved.numpy()]
    owner = names[rows]
    known = tuple(dict.fromkeys(owner.tolist()))
    values = np.array([[_mean(figure[owner == name]) for figure in found] for name in known])
    unit = "voxels" if data.image_spec.spacing is None else "units of the spacing"
    recipe = {
        "samples": "sources, by subject of the source; there is no truth",
        "cycle": "mean |F(G(x)) - x| of the source, in its stored units",
        "shift": f"structure_shift of the translation from its source, in {unit}",
        "sd": "1/(N-1) over subjects",
        "n": len(rows),
    }
    return SubjectTable(tuple(columns), known, values, recipe)


def cycle_score(table: SubjectTable, *, seed: int, bootstrap: int) -> Score:
    """The column cycle as a score: the mean over subjects."""
    values = table.values[:, table.columns.index("cycle")]
    low, high = bootstrap_mean(values, resamples=bootstrap, seed=seed)
    recipe = {"metric": "cycle", "is": table.recipe["cycle"], "mask": table.recipe.get("mask", "none"), "n": len(values)}
    recipe["interval"] = interval_recipe("percentile bootstrap of the mean over subjects", bootstrap, seed)
    details = {"median": float(np.median(values))}
    if len(values) > 1:
        details["sd"] = float(values.std(ddof=1))
    note = "a small residual says that the source can be recovered, not that the translation is right"
    return Score("cycle", float(values.mean()), low, high, len(values), recipe, "lower", note, details)


def _mean(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> float:
    kept = values[np.isfinite(values)]
    return float(kept.mean()) if len(kept) else math.nan
