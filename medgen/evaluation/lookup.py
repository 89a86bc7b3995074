"""From a metric's name to its function and plan, through the registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from medgen.errors import ConfigError
from medgen.evaluation.plan import MetricPlan, plan_of
from medgen.registry import MetricSpec, find, resolve

__all__ = ["Metric"]

_VERB = {"paired": "evaluate_pairs", "distribution": "evaluate_sets", "density": "evaluate_density", "latent": "evaluate_latents"}


@dataclass(frozen=True)
class Metric:
    """A declared metric with its function, imported, and its plan."""

    spec: MetricSpec
    qualified: str
    function: Callable[..., Any]
    plan: MetricPlan

    @classmethod
    def find(cls, name: str, kind: str) -> Metric:
        """The metric called `name`.

        Raises:
            ConfigError: it is of another kind.
            UnknownNameError, PluginError: there is none of this name, or it cannot be imported.
        """
        declared = find("medgen_metrics", name)
        spec: MetricSpec = declared.spec
        if spec.kind != kind:
            raise ConfigError(f"metric {name!r} is of kind {spec.kind!r}; use `{_VERB[spec.kind]}` for it.")
        function = resolve(spec.function, owner=f"metric {declared.owner}")
        return cls(spec, declared.qualified, function, plan_of(function))
