"""`MetricPlan`: what a metric function says about itself, so that any metric gets the right recipe, interval and warning."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

__all__ = ["MetricPlan", "metric_plan", "plan_of"]

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _no_details(*_sets: Any) -> Mapping[str, float]:
    return {}


def _no_advice(real: int, fake: int, features: int) -> str:  # noqa: ARG001
    return ""


@dataclass(frozen=True)
class MetricPlan:
    """What a metric function says about itself. A function without one gets the defaults, which are right for most.

    Args:
        recipe: definition and constants, as plain JSON values; or a function of one sample's size (C, *S) that returns them.
        limits: interval of possible values, to which the bootstrap interval is clipped.
        least: samples that each set must have; the parts that the bootstrap draws too.
        part: samples in a part at most. Halves are drawn up to this; it bounds the cost of statistics that are quadratic in n.
        on: what a metric of kind "distribution" is called with: the "features" of an extractor [N, F], or the "images" [N, C, *S].
        labels: of kind "distribution": also called with the classes of both sets, which only conditional models have.
        details: called as the function is, once, with the full sets: further figures, which the note shows.
        advice: (n real, n fake, F) -> a warning, or "".
    """

    recipe: Mapping[str, Any] | Callable[[tuple[int, ...]], Mapping[str, Any]] = field(default_factory=dict)
    limits: tuple[float, float] = (-math.inf, math.inf)
    least: int = 1
    part: int = 1000
    on: Literal["features", "images"] = "features"
    labels: bool = False
    details: Callable[..., Mapping[str, float]] = _no_details
    advice: Callable[[int, int, int], str] = _no_advice

    def share(self, n: int, m: int) -> float:
        """The share of each set that a part of the bootstrap holds; 0 where parts would be too small."""
        share = min(0.5, self.part / max(n, m))
        return share if int(share * min(n, m)) >= max(2, self.least) else 0.0

    def recipe_for(self, size: tuple[int, ...]) -> dict[str, Any]:
        """The recipe for samples of shape `size`, (C, *S)."""
        return dict(self.recipe(size) if callable(self.recipe) else self.recipe)


def metric_plan(
    *,
    recipe: Mapping[str, Any] | Callable[[tuple[int, ...]], Mapping[str, Any]] | None = None,
    limits: tuple[float, float] = (-math.inf, math.inf),
    least: int = 1,
    part: int = 1000,
    on: Literal["features", "images"] = "features",
    labels: bool = False,
    details: Callable[..., Mapping[str, float]] = _no_details,
    advice: Callable[[int, int, int], str] = _no_advice,
) -> Callable[[_Function], _Function]:
    """Decorator that gives a metric function its `MetricPlan` (arguments as there), kept in its attribute `medgen_plan`.

    >>> @metric_plan(recipe={"definition": "largest difference of means"}, limits=(0, math.inf))
    ... def mean_gap(real, fake):
    ...     return float((real.mean(0) - fake.mean(0)).abs().max())
    >>> plan_of(mean_gap).limits
    (0, inf)
    """
    plan = MetricPlan(recipe or {}, limits, least, part, on, labels, details, advice)

    def attach(function: _Function) -> _Function:
        function.medgen_plan = plan  # type: ignore[attr-defined]
        return function

    return attach


def plan_of(function: Callable[..., Any]) -> MetricPlan:
    """The plan of a metric function; the default plan where it declares none."""
    plan = getattr(function, "medgen_plan", None)
    return plan if isinstance(plan, MetricPlan) else MetricPlan()
