"""What this distribution offers. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

import medgen

__all__ = ["medgen_commands", "medgen_datasets", "medgen_extensions", "medgen_families"]

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


@medgen.hookimpl
def medgen_datasets() -> Iterator[medgen.DatasetSpec]:
    """Label maps cut from meshes of ventricles."""
    yield medgen.DatasetSpec(
        name="lv_meshes",
        factory="medgen_anatomy.meshes:lv_meshes",
        summary="2-D short-axis label maps (background, MYO, LV) cut from meshes of left ventricles, with position, areas and volumes.",
        options={
            "path": ("", "File .npz of meshes; by default lv_mesa_pca/lv_mesa_ed_dev.npz below the folder MEDGEN_DATA."),
            "size": (64, "Pixels per side."),
            "spacing": (1.75, "mm per pixel."),
            "slices": (8, "Slices per heart, evenly spaced from base to apex."),
            "hearts": (0, "How many hearts, the first of the file; 0 for all."),
        },
    )


@medgen.hookimpl
def medgen_extensions() -> Iterator[medgen.ExtensionSpec]:
    """The measures of label maps."""
    yield medgen.ExtensionSpec(
        name="medgen_anatomy_maps",
        package="medgen_anatomy",
        sources=("csrc/measures.cpp", "csrc/module.cpp"),
        kind="module",
        summary="Holes, islands, gaps, dents and contacts of label maps",
    )
