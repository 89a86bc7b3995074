"""Scores as a table with their recipes, and as a JSON file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medgen.errors import DataError
from medgen.evaluation.score import Score
from medgen.evaluation.subjects import SubjectTable, aligned
from medgen.files import write_json
from medgen.registry import require

__all__ = ["load_scores", "load_subjects", "recipe_lines", "render", "rich_table", "save_scores"]

_COLUMNS = ("metric", "value", "95 % interval", "n", "better")
_SCHEMA = 1


def render(scores: Sequence[Score], *, recipes: bool = True) -> str:
    """A plain-text table, then the notes and the recipes: what all scores share once, then what each adds.

    >>> recipe = {"value_range": [0, 1]}
    >>> scores = [Score("mae", 0.5, 0.4, 0.6, 8, recipe, "lower", "n < 10"), Score("psnr", 20.0, None, None, 8, recipe, "higher")]
    >>> print(render(scores))
    metric  value   95 % interval     n  better
    mae     0.5000  [0.4000, 0.6000]  8  lower
    psnr    20.00   -                 8  higher
    ! mae: n < 10
    all: value_range=[0, 1]
    """
    rows = [_COLUMNS, *(_cells(score) for score in scores)]
    return "\n".join([aligned(rows), *_notes(scores), *(recipe_lines(scores) if recipes else [])])


def rich_table(scores: Sequence[Score], *, title: str = "") -> Any:
    """The same as a `rich.table.Table`, with notes and recipes in its caption.

    Raises:
        MissingExtraError: rich is not installed.
    """
    table = require("rich.table", "cli").Table(title=title or None, caption="\n".join([*_notes(scores), *recipe_lines(scores)]))
    escape = require("rich.markup", "cli").escape
    for column in _COLUMNS:
        table.add_column(column, justify="right" if column in ("value", "n") else "left")
    for score in scores:
        table.add_row(*(escape(cell) for cell in _cells(score)))
    table.caption = escape(str(table.caption))
    table.caption_justify = "left"
    return table


def recipe_lines(scores: Sequence[Score]) -> list[str]:
    """What all recipes share as "all: ...", then "metric: ..." for what each adds."""
    flat = [_flat(score.recipe) for score in scores]
    common = {key: value for key, value in flat[0].items() if all(other.get(key) == value for other in flat)} if flat else {}
    lines = [f"all: {_words(common)}"] if common else []
    for score, recipe in zip(scores, flat, strict=True):
        if own := {key: value for key, value in recipe.items() if key not in common}:
            lines.append(f"{score.name}: {_words(own)}")
    return lines


def _cells(score: Score) -> tuple[str, ...]:
    return score.name, score.figure, score.interval or "-", str(score.n), score.better


def _notes(scores: Sequence[Score]) -> list[str]:
    """One line per distinct note, with the metrics that have it."""
    names: dict[str, list[str]] = {}
    for score in scores:
        if score.note:
            names.setdefault(score.note, []).append(score.name)
    return [f"! {', '.join(who)}: {note}" for note, who in names.items()]


def _flat(recipe: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in recipe.items():
        out |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value}
    return out


def _words(recipe: Mapping[str, Any]) -> str:
    return "; ".join(f"{key}={value}" for key, value in recipe.items())


def save_scores(
    scores: Sequence[Score],
    path: str | os.PathLike[str],
    *,
    subjects: SubjectTable | None = None,
    origin: Mapping[str, Any] | None = None,
) -> None:
    """Write scores, figures by subject, and what they are of (`medgen.evaluation.origin`), as JSON, atomically."""
    more: dict[str, Any] = {} if subjects is None else {"subjects": subjects.to_json()}
    more |= {} if origin is None else {"of": dict(origin)}
    write_json(path, {"schema": _SCHEMA, "scores": [score.to_json() for score in scores], **more})


def load_subjects(path: str | os.PathLike[str]) -> SubjectTable | None:
    """The figures by subject in a file of scores; None where there are none.

    Raises:
        DataError: as `load_scores`.
    """
    load_scores(path)
    value = json.loads(Path(path).read_text(encoding="utf-8")).get("subjects")
    return None if value is None else SubjectTable.from_json(value)


def load_scores(path: str | os.PathLike[str]) -> list[Score]:
    """Inverse of `save_scores`.

    Raises:
        DataError: the file is missing, no JSON, of a newer schema, or holds something else than scores.
    """
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
        schema = value["schema"]
        if schema == _SCHEMA:
            return [Score.from_json(item) for item in value["scores"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"`{path}` must be a file of scores, as `save_scores` writes it: {type(error).__name__}: {error}.") from error
    raise DataError(f"`{path}` has schema {schema!r}, this medgen reads {_SCHEMA}; upgrade medgen.")
