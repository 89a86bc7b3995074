"""medgen's own datasets and metrics, declared through the same hooks as everyone's."""

from __future__ import annotations

from collections.abc import Iterator

from medgen.registry.hookspecs import hookimpl
from medgen.registry.spec import DatasetSpec, MetricSpec

__all__ = ["medgen_datasets", "medgen_metrics"]


@hookimpl
def medgen_datasets() -> Iterator[DatasetSpec]:
    """The phantoms of `medgen.data.phantoms`."""
    yield from ()


@hookimpl
def medgen_metrics() -> Iterator[MetricSpec]:
    """The metrics of `medgen.evaluation`."""
    yield from ()
