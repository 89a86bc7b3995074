"""`compare`: several runs on the same held-out samples, side by side, and whether their figures may be compared at all."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgen.errors import ConfigError
from medgen.evaluation.features import MAPPED
from medgen.evaluation.origin import is_current, load_origin, origin_of
from medgen.evaluation.score import Score
from medgen.evaluation.subjects import SubjectTable, aligned
from medgen.evaluation.table import load_scores, load_subjects
from medgen.evaluation.verb import evaluate
from medgen.files import write_json
from medgen.interfaces import Translator
from medgen.runs import Run

__all__ = ["Compared", "Comparison", "compare"]

_OWN = {"draws", "overrides"}  # of a recipe: how a model is used, which may well differ between runs
_DEFAULTS = {k: p.default for k, p in inspect.signature(evaluate).parameters.items() if k not in ("run", "progress")}
_SCHEMA = 1


@dataclass(frozen=True)
class Compared:
    """The figures of one run.

    Args:
        name: of its column.
        run: the run.
        scores: those of its evaluation.json.
        subjects: a translator's figures by subject.
        truth: SHA-256 of the samples it was judged on.
    """

    name: str
    run: Run
    scores: tuple[Score, ...]
    subjects: SubjectTable | None
    truth: str


@dataclass(frozen=True)
class Comparison:
    """Several runs.

    Args:
        runs: in the order they were given.
        asked: the options of `evaluate`.
    """

    runs: tuple[Compared, ...]
    asked: Mapping[str, Any]

    @property
    def by_subject(self) -> bool:
        """Whether all runs have figures by subject; scores are compared otherwise."""
        return all(one.subjects is not None for one in self.runs)

    @property
    def same_truth(self) -> bool:
        """Whether all were judged on the same samples."""
        return len({one.truth for one in self.runs}) == 1

    def warnings(self) -> list[str]:
        """Why runs, or some of their figures, are not comparable; empty where they are."""
        out = []
        if not self.same_truth:
            groups: dict[str, list[str]] = {}
            for one in self.runs:
                groups.setdefault(one.truth, []).append(one.name)
            parts = "; ".join(", ".join(names) for names in groups.values())
            out.append(f"NOT COMPARABLE: judged on different samples or regions: {parts}")
        differing: dict[str, list[str]] = {}
        for metric, recipes in self._recipes().items():
            for key in sorted({key for recipe in recipes.values() for key in recipe} - _OWN):
                values = {name: recipe.get(key) for name, recipe in recipes.items()}
                if len({repr(value) for value in values.values()}) > 1:
                    said = "; ".join(f"{name} {value}" for name, value in values.items())
                    differing.setdefault(f"{key}: {said}", []).append(metric)
        return [*out, *(f"NOT COMPARABLE in {', '.join(metrics)}: {said}" for said, metrics in differing.items())]

    def _recipes(self) -> dict[str, dict[str, Mapping[str, Any]]]:
        """What is compared -> run -> recipe."""
        if self.by_subject:
            return {"figures by subject": {one.name: one.subjects.recipe for one in self.runs if one.subjects is not None}}
        out: dict[str, dict[str, Mapping[str, Any]]] = {}
        for one in self.runs:
            for score in one.scores:
                out.setdefault(score.name, {})[one.name] = _in_stored_units(score.recipe, one.run)
        return out

    def rows(self) -> list[tuple[str, ...]]:
        """Head, then a line per figure with a cell per run: mean (SD) over subjects, or value [interval]; empty where a run has none."""
        columns = [_subject_cells(one) if self.by_subject else _score_cells(one) for one in self.runs]
        names = list(dict.fromkeys(name for column in columns for name in column))
        head = ("mean (sd) over subjects" if self.by_subject else "value [95 % interval]", *(one.name for one in self.runs))
        families = ("family", *(one.run.config.family for one in self.runs))
        return [head, families, *((name, *(column.get(name, "") for column in columns)) for name in names)]

    def __str__(self) -> str:
        """`rows` and `warnings`."""
        rows = [tuple(cell or "-" for cell in row) for row in self.rows()]
        return "\n".join([aligned(rows), *(f"! {line}" for line in self.warnings())])

    def save(self, path: str | os.PathLike[str]) -> None:
        """Everything as JSON, atomically."""
        runs = [
            {
                "name": one.name,
                "path": str(one.run.path),
                "family": one.run.config.family,
                "truth": one.truth,
                "scores": [score.to_json() for score in one.scores],
                "subjects": None if one.subjects is None else one.subjects.to_json(),
            }
            for one in self.runs
        ]
        asked = {key: value if not callable(value) else str(value) for key, value in self.asked.items()}
        write_json(path, {"schema": _SCHEMA, "asked": asked, "warnings": self.warnings(), "runs": runs})


def compare(runs: Sequence[Run], *, progress: Callable[[int], None] | None = None, **asked: Any) -> Comparison:
    """Evaluate runs in one and the same way; an evaluation.json that is of the same weights and options is used as it is.

    Args:
        runs: two or more; their models on the devices on which they shall work.
        progress: called with the number of runs done.
        asked: options of `evaluate`; `draws` is for those that are stochastic.

    Raises:
        ConfigError: fewer than two runs, one twice, or an option that `evaluate` does not have.
    """
    if stray := sorted(set(asked) - set(_DEFAULTS)):
        raise ConfigError(f"`compare` takes the options of `evaluate`; got {', '.join(stray)}.")
    if len(runs) < 2 or len({one.path.resolve() for one in runs}) < len(runs):
        raise ConfigError(f"`compare` needs two or more different runs; got {', '.join(str(one.path) for one in runs) or 'none'}.")
    options = {**_DEFAULTS, **asked}
    done = []
    for name, run in zip(_names([one.path for one in runs]), runs, strict=True):
        done.append(_compared(name, run, options))
        if progress is not None:
            progress(len(done))
    return Comparison(tuple(done), options)


def _compared(name: str, run: Run, options: Mapping[str, Any]) -> Compared:
    file = run.path / "evaluation.json"
    own = dict(options) if isinstance(run.model, Translator) and run.model.stochastic else {**options, "draws": 1}
    if not is_current(load_origin(file), origin_of(run, own)):
        evaluate(run, **own)
    return Compared(name, run, tuple(load_scores(file)), load_subjects(file), str(load_origin(file)["truth"]))


def _in_stored_units(recipe: Mapping[str, Any], run: Run) -> Mapping[str, Any]:
    """The recipe; of features that do not depend on the model's units, with the window of stored values in the place of these."""
    if recipe.get("input") != MAPPED and not isinstance(recipe.get("input range"), list):
        return recipe
    of = run.model.image_spec.intensity
    return {**recipe, "value_range": [list(of.low), list(of.high)]}


def _names(paths: Sequence[Path]) -> list[str]:
    """The last parts of the paths, as many as it takes to tell them apart."""
    parts = [path.resolve().parts for path in paths]
    depth = next(n for n in range(1, 2 + max(map(len, parts))) if len({part[-n:] for part in parts}) == len(parts))
    return ["/".join(part[-depth:]) for part in parts]


def _subject_cells(one: Compared) -> dict[str, str]:
    assert one.subjects is not None
    summary = one.subjects.summary()
    values = zip(one.subjects.columns, summary["mean"], summary["sd"], strict=True)
    return {name: f"{mean:.4g}" + ("" if math.isnan(sd) else f" ({sd:.2g})") for name, mean, sd in values if not math.isnan(mean)}


def _score_cells(one: Compared) -> dict[str, str]:
    return {score.name: f"{score.figure} {score.interval}".strip() for score in one.scores}
