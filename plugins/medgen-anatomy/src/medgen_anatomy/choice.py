"""The set of criteria that fits a model's label maps, and sets of criteria as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any, Literal

from medgen.data.intensity import label_values
from medgen.errors import ConfigError, RunError
from medgen.registry import ImageSpec, suggestion
from medgen_anatomy.criterion import Criteria, Criterion
from medgen_anatomy.views import echo_criteria, mri_criteria, myocardium_criteria

__all__ = ["choose_criteria", "criteria_from_json", "criteria_to_json"]

_SETS = {
    "echo": (echo_criteria, {"lv", "myo", "la"}),
    "mri": (mri_criteria, {"rv", "myo", "lv"}),
    "myocardium": (myocardium_criteria, {"myo", "lv"}),
}


def choose_criteria(
    spec: ImageSpec,
    name: str = "auto",
    labels: Mapping[str, int] | None = None,
    *,
    missing: Literal["invalid", "allowed"] | None = None,
    limits: Mapping[str, float] | None = None,
) -> Criteria:
    """A set of criteria whose numbers are those of the stored maps of a model.

    Args:
        spec: of the model.
        name: echo, mri, myocardium; auto finds the set of the structures that `spec.channel_names` or `labels` name.
        labels: structure -> number; by default from `spec.channel_names` (any case), else the set's own numbers.
        missing: other than the set's.
        limits: criterion -> other limit.

    Raises:
        ConfigError: no such set, or names that do not make one.
        RunError: the model has a label that the set does not know.

    >>> names = ("background", "MYO", "LV")
    >>> choose_criteria(ImageSpec(channels=3, shape=(8, 8), content="labels", channel_names=names)).name
    'myocardium'
    """
    numbers = [int(v) for v in label_values(spec)]
    named = {n.lower(): v for n, v in zip(spec.channel_names, numbers, strict=False)}
    told = {n.lower(): v for n, v in (labels or {}).items()} or {n: v for n, v in named.items() if n in ("rv", "myo", "lv", "la")}
    if name == "auto":
        name = next((known for known, (_, structures) in _SETS.items() if structures == set(told)), "auto")
    if name not in _SETS:
        found = f"the structures {sorted(told)}" if told else f"unnamed structures, with the numbers {numbers}"
        raise ConfigError(
            f"`criteria` must be one of {', '.join(_SETS)}{suggestion(name, _SETS) if name != 'auto' else ''}; the model has {found}. "
            "Name the set, and its structures with --labels, e.g. --criteria myocardium --labels MYO=1 LV=2."
        )
    make, structures = _SETS[name]
    if unknown := sorted(set(told) - structures):
        raise ConfigError(f"the structures of {name!r} are {', '.join(sorted(structures))}; got {', '.join(unknown)}.")
    criteria = make(**told)
    if strange := sorted(set(numbers) - set(criteria.labels.values())):
        raise RunError(f"the model has the labels {numbers}; {name!r} looks at {dict(criteria.labels)} and does not know {strange}.")
    criteria = criteria.with_limits(**(limits or {}))
    return criteria if missing is None else replace(criteria, missing=missing)


def criteria_to_json(criteria: Criteria) -> dict[str, Any]:
    """Plain JSON types; `criteria_from_json` inverts it."""
    items = [{**asdict(c), "of": list(c.of), "other": list(c.other)} for c in criteria.items]
    return {"name": criteria.name, "labels": dict(criteria.labels), "items": items, "missing": criteria.missing}


def criteria_from_json(value: Mapping[str, Any]) -> Criteria:
    """Inverse of `criteria_to_json`.

    >>> criteria_from_json(criteria_to_json(mri_criteria())) == mri_criteria()
    True
    """
    items = tuple(Criterion(**{**c, "of": tuple(c["of"]), "other": tuple(c["other"])}) for c in value["items"])
    return Criteria(name=value["name"], labels=dict(value["labels"]), items=items, missing=value["missing"])
