"""What this distribution offers. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

import medgen

__all__ = ["medgen_commands", "medgen_datasets", "medgen_extensions", "medgen_families", "medgen_metrics"]

_PARZEN = medgen.Reference(
    title="On Estimation of a Probability Density Function and Mode",
    authors="Parzen",
    year=1962,
    url="https://doi.org/10.1214/aoms/1177704472",
)
_GUARANTEES = medgen.Reference(
    title="Cardiac Segmentation with Strong Anatomical Guarantees",
    authors="N. Painchaud, Y. Skandarani, T. Judge, O. Bernard, A. Lalande, P.-M. Jodoin",
    year=2020,
    url="https://arxiv.org/abs/2006.08825",
)
_AR_VAE = medgen.Reference(
    title="Attribute-based Regularization of Latent Spaces for Variational Auto-Encoders",
    authors="A. Pati, A. Lerch",
    year=2021,
    url="https://arxiv.org/abs/2004.05485",
)
_TEMPORAL = medgen.Reference(
    title="Echocardiography Segmentation with Enforced Temporal Consistency",
    authors="N. Painchaud, N. Duchateau, O. Bernard, P.-M. Jodoin",
    year=2022,
    url="https://arxiv.org/abs/2112.02102",
)
_SHAPE_MODELS = medgen.Reference(
    title="Active Shape Models - Their Training and Application",
    authors="T. F. Cootes, C. J. Taylor, D. H. Cooper, J. Graham",
    year=1995,
    url="https://doi.org/10.1006/cviu.1995.1004",
)
_PPCA = medgen.Reference(
    title="Probabilistic Principal Component Analysis",
    authors="M. E. Tipping, C. M. Bishop",
    year=1999,
    url="https://doi.org/10.1111/1467-9868.00196",
)
_DIMS = (0, 1, 2, 3)


@medgen.hookimpl
def medgen_families() -> Iterator[medgen.FamilySpec]:
    """parzen, constrained_vae, ar_vae, pca_shape, pca_masks."""
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
    yield from _shape_vaes()
    yield from _pca()


def _shape_vaes() -> Iterator[medgen.FamilySpec]:
    capabilities = medgen.Capabilities(
        spatial_dims=_DIMS,
        contents=("labels", "intensity", "features"),
        targets=(medgen.ConditionSlot(name="attributes", kind="attributes", required=True),),
        log_prob="bound",
    )
    tiny = {"latent_dim": 2, "channels": [8, 8], "blocks": 1}
    yield medgen.FamilySpec(
        name="constrained_vae",
        interfaces=("generator", "density", "latent"),
        model="medgen_anatomy.constrained_vae:ConstrainedVae",
        config="medgen_anatomy.shape_config:ConstrainedVaeConfig",
        capabilities=capabilities,
        tiny={**tiny, "attribute": "dose"},
        summary="VAE of shapes whose latent predicts an attribute linearly",
        references=(_GUARANTEES,),
    )
    yield medgen.FamilySpec(
        name="ar_vae",
        interfaces=("generator", "density", "latent"),
        model="medgen_anatomy.ar_vae:ArVae",
        config="medgen_anatomy.shape_config:ArVaeConfig",
        capabilities=capabilities,
        tiny=tiny,
        summary="VAE of shapes with one latent value per attribute",
        references=(_AR_VAE, _TEMPORAL),
    )


def _pca() -> Iterator[medgen.FamilySpec]:
    yield medgen.FamilySpec(
        name="pca_shape",
        interfaces=("generator", "density", "latent"),
        model="medgen_anatomy.pca:PcaShape",
        config="medgen_anatomy.shape_config:PcaConfig",
        capabilities=medgen.Capabilities(spatial_dims=_DIMS, contents=("features", "intensity"), log_prob="exact", training="none"),
        tiny={"components": 1},
        summary="Principal components with noise (probabilistic PCA): closed form, exact density",
        references=(_SHAPE_MODELS, _PPCA),
        aliases=("ppca",),
    )
    yield medgen.FamilySpec(
        name="pca_masks",
        interfaces=("generator", "latent"),
        model="medgen_anatomy.pca:PcaMasks",
        config="medgen_anatomy.shape_config:PcaConfig",
        capabilities=medgen.Capabilities(spatial_dims=(1, 2, 3), contents=("labels",), training="none"),
        tiny={"components": 2},
        summary="Principal components of label maps: closed form",
        references=(_SHAPE_MODELS,),
    )


@medgen.hookimpl
def medgen_commands() -> Iterator[medgen.CommandSpec]:
    """medgen anatomy."""
    yield medgen.CommandSpec(name="anatomy", run="medgen_anatomy.cli.main:run", summary="valid shapes: densify, correct, smooth, measure")


@medgen.hookimpl
def medgen_datasets() -> Iterator[medgen.DatasetSpec]:
    """Label maps: cut from meshes of ventricles, and drawn."""
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
    yield medgen.DatasetSpec(
        name="apical_labels",
        factory="medgen_anatomy.apical:apical_labels",
        summary="Apical label maps (LV, MYO) with area, base, length, orientation and centre of the left ventricle.",
        options={
            "n": (2000, "Number of maps."),
            "size": (64, "Pixels per side."),
            "seed": (0, "Seed of all randomness; sample i depends on it and on i, never on n."),
            "atrium": (False, "Add the left atrium."),
        },
    )


@medgen.hookimpl
def medgen_metrics() -> Iterator[medgen.MetricSpec]:
    """The metrics of `disentanglement`."""
    rows = (
        ("attribute_r2", "Interpretability: R^2 of each attribute on the latent value that tells most of it."),
        ("mig", "Mutual information gap between the two latent values that tell most of an attribute."),
        ("modularity", "How far each latent value tells of one attribute only."),
        ("sap", "Gap between the two largest squared correlations of an attribute with latent values."),
        ("attribute_correlation", "SCC: largest rank correlation of an attribute with a latent value."),
    )
    for name, summary in rows:
        function = f"medgen_anatomy.disentanglement:{name}"
        yield medgen.MetricSpec(name=name, function=function, kind="latent", better="higher", summary=summary, references=(_AR_VAE,))


@medgen.hookimpl
def medgen_extensions() -> Iterator[medgen.ExtensionSpec]:
    """The measures of label maps."""
    yield medgen.ExtensionSpec(
        name="medgen_anatomy_maps",
        package="medgen_anatomy",
        sources=("csrc/form.cpp", "csrc/measures.cpp", "csrc/module.cpp"),
        kind="module",
        summary="Holes, islands, gaps, dents and contacts of label maps",
    )
