"""What this distribution offers. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

import medgen

__all__ = ["medgen_commands", "medgen_families"]

_PARZEN = medgen.Reference(
    title="On Estimation of a Probability Density Function and Mode",
    authors="Parzen",
    year=1962,
    url="https://doi.org/10.1214/aoms/1177704472",
)


@medgen.hookimpl
def medgen_families() -> Iterator[medgen.FamilySpec]:
    """parzen."""
    yield medgen.FamilySpec(
        name="parzen",
        interfaces=("generator", "density"),
        model="medgen_anatomy.parzen:ParzenModel",
        config="medgen_anatomy.config:ParzenConfig",
        capabilities=medgen.Capabilities(
            spatial_dims=(0, 1, 2, 3),
            contents=("features", "intensity"),
            log_prob="exact",
            training="none",
            ops=("parzen_log_density", "parzen_draw"),
        ),
        tiny={"kind": "diagonal", "rule": "fixed", "factor": 8.0},  # wide: at its own points a narrow one is flat to rounding
        summary="Gaussian kernel (Parzen) density of the training data: exact, no training",
        references=(_PARZEN,),
        aliases=("kde",),
    )


@medgen.hookimpl
def medgen_commands() -> Iterator[medgen.CommandSpec]:
    """medgen anatomy."""
    yield medgen.CommandSpec(name="anatomy", run="medgen_anatomy.cli.main:run", summary="valid shapes: densify, correct, smooth, measure")
