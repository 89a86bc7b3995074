"""medgen's own datasets and metrics, declared through the same hooks as everyone's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from medgen.registry.hookspecs import hookimpl
from medgen.registry.spec import DatasetSpec, MetricSpec, Reference

__all__ = ["medgen_datasets", "medgen_metrics"]

_Options = dict[str, tuple[object, str]]

_SEED: _Options = {"seed": (0, "Seed of all randomness; sample i depends on it and on i, never on n.")}
_CARDIAC: _Options = {"size": (64, "Pixels per side."), **_SEED, "field_of_view": (144.0, "Side of the image in mm.")}
_HEAD: _Options = {
    "n": (300, "Number of heads."),
    "size": (96, "Voxels per side of a field of view of 224 mm."),
    **_SEED,
    "dim": (2, "2 for axial slices, 3 for volumes."),
    "noise": (0.02, "Sigma of the MR noise; texture and bias field scale with it, and so does the CT's noise."),
}
_POINTS: _Options = {"n": (10000, "Number of points."), **_SEED}


def _phantom(name: str, summary: str, options: _Options, module: str = "datasets") -> DatasetSpec:
    return DatasetSpec(name=name, factory=f"medgen.data.phantoms.{module}:{name}", summary=summary, options=options)


@hookimpl
def medgen_datasets() -> Iterator[DatasetSpec]:
    """The phantoms of `medgen.data.phantoms`."""
    yield from _cardiac()
    yield from _heads()
    yield _phantom(
        "heartbeat",
        "1-D ECG strips in mV around one beat, normal or PVC, with heart rate and wave heights.",
        {
            "n": (2000, "Number of strips."),
            "length": (256, "Samples per strip."),
            "rate": (125.0, "Samples per second."),
            **_SEED,
            "noise": (0.015, "Standard deviation of the noise in mV."),
        },
        "heartbeat",
    )
    ring = {**_POINTS, "radius": (2.0, "Of the circle."), "sd": (0.02, "Standard deviation of each component.")}
    yield _phantom("gaussians8", "2-D points of 8 Gaussians on a circle; the mode-collapse test.", ring, "toys")
    lattice = {**_POINTS, "sd": (0.05, "Standard deviation of each component, before the division by 2.828.")}
    yield _phantom("gaussians25", "2-D points of 25 Gaussians on a grid.", lattice, "toys")
    moons = {**_POINTS, "sd": (0.1, "Of the noise around the arcs.")}
    yield _phantom("two_moons", "2-D points of two interleaved half circles.", moons, "toys")
    yield _phantom("banana", "2-D points of x = (u1, u2 - u1^2 - 1), whose log p(0, 0) is -2.337877.", _POINTS, "toys")


def _cardiac() -> Iterator[DatasetSpec]:
    yield _phantom(
        "cardiac_phantom",
        "2-D short-axis MR-like hearts, normal, dilated or hypertrophic, with areas, thickness and orientation.",
        {
            "n": (2000, "Number of images."),
            **_CARDIAC,
            "noise": (0.02, "Sigma of the Rician noise on a scale of 0 to 1."),
            "mask": (False, "Add the label maps as image condition 'mask'."),
        },
    )
    yield _phantom("cardiac_labels", "Label maps (RV, MYO, LV) of the same hearts.", {"n": (2000, "Number of maps."), **_CARDIAC})
    yield _phantom(
        "cardiac_sequence",
        "Hearts over one cycle, one subject each, frame by frame, with ejection fraction and spikes on request.",
        {
            "n": (100, "Number of subjects."),
            "frames": (30, "Per cycle."),
            **_CARDIAC,
            "content": ("labels", "labels for label maps, intensity for images."),
            "spikes": (0, "Spoiled frames per subject."),
            "spike_scale": (0.8, "Factor on the cavity's semi-axes in spoiled frames."),
        },
    )


def _heads() -> Iterator[DatasetSpec]:
    yield _phantom(
        "skull_phantom",
        "3-D fetal skulls as nested ellipsoids, with three orthogonal planes as image condition 'planes'.",
        {
            "n": (200, "Number of volumes."),
            "size": (48, "Voxels per side."),
            **_SEED,
            "field_of_view": (144.0, "Side of the volume in mm."),
            "inside": (False, "Label brain and ventricles too."),
            "planes": (True, "Add the three planes."),
        },
    )
    yield _phantom(
        "lesion_phantom",
        "Brains with white-matter lesions: image condition 'source' (T1, T2) to FLAIR or myelin, with 'regions' (lesion, NAWM).",
        {
            **_HEAD,
            "lesions_min": (2, "Smallest number of lesions."),
            "lesions_max": (8, "Largest number of lesions."),
            "severity_min": (0.6, "Least share of white matter that lesions replace, at most 0.95."),
            "controls": (0.0, "Share of heads without lesions."),
            "target": ("FLAIR", "FLAIR, of T1 and T2; myelin: a map as of PET, of T1, T2 and FLAIR."),
        },
    )
    yield _phantom(
        "mr_ct_phantom",
        "Heads: image condition 'source' (T1-weighted MR) to CT in HU, paired or not.",
        {
            **_HEAD,
            "mapping": ("anatomical", "anatomical: both from the tissue; monotone: CT is a known function of MR."),
            "paired": (True, "False takes MR and CT from different heads."),
        },
    )


_WANG = Reference(
    title="Image Quality Assessment: From Error Visibility to Structural Similarity",
    authors="Wang, Bovik, Sheikh, Simoncelli",
    year=2004,
    url="https://doi.org/10.1109/TIP.2003.819861",
)
_MS_SSIM = Reference(
    title="Multi-Scale Structural Similarity for Image Quality Assessment",
    authors="Wang, Simoncelli, Bovik",
    year=2003,
    url="https://doi.org/10.1109/ACSSC.2003.1292216",
)
_FRECHET = Reference(
    title="GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash Equilibrium",
    authors="Heusel, Ramsauer, Unterthiner, Nessler, Hochreiter",
    year=2017,
    url="https://arxiv.org/abs/1706.08500",
)
_KID = Reference(
    title="Demystifying MMD GANs", authors="Binkowski, Sutherland, Arbel, Gretton", year=2018, url="https://arxiv.org/abs/1801.01401"
)
_MMD = Reference(
    title="A Kernel Two-Sample Test",
    authors="Gretton, Borgwardt, Rasch, Schoelkopf, Smola",
    year=2012,
    url="https://jmlr.org/papers/v13/gretton12a.html",
)
_PR = Reference(
    title="Improved Precision and Recall Metric for Assessing Generative Models",
    authors="Kynkaanniemi, Karras, Laine, Lehtinen, Aila",
    year=2019,
    url="https://arxiv.org/abs/1904.06991",
)
_DC = Reference(
    title="Reliable Fidelity and Diversity Metrics for Generative Models",
    authors="Naeem, Oh, Uh, Choi, Yoo",
    year=2020,
    url="https://arxiv.org/abs/2002.09797",
)
_CAS = Reference(
    title="Classification Accuracy Score for Conditional Generative Models",
    authors="Ravuri, Vinyals",
    year=2019,
    url="https://arxiv.org/abs/1905.10887",
)


@hookimpl
def medgen_metrics() -> Iterator[MetricSpec]:
    """The metrics of `medgen.evaluation`."""
    yield from _paired_metrics()
    yield from _distribution_metrics()
    yield from _density_metrics()


def _paired_metrics() -> Iterator[MetricSpec]:
    rows: tuple[tuple[str, str, Literal["lower", "higher"], str, tuple[Reference, ...]], ...] = (
        ("mae", "paired", "lower", "Mean absolute error, in the units of the images.", ()),
        ("mse", "paired", "lower", "Mean squared error, in squared units of the images.", ()),
        ("psnr", "paired", "higher", "Peak signal-to-noise ratio in dB; the maximum is the value range.", ()),
        ("psnr_image_max", "paired", "higher", "Peak signal-to-noise ratio in dB; the maximum is the real image's.", ()),
        ("ssim_global", "ssim", "higher", "Structural similarity of whole images.", (_WANG,)),
        ("ssim", "ssim", "higher", "Structural similarity in Gaussian windows of 11 voxels.", (_WANG,)),
        ("ms_ssim", "ssim", "higher", "Structural similarity over up to five scales.", (_MS_SSIM,)),
    )
    for name, module, better, summary, references in rows:
        function = f"medgen.evaluation.{module}:{name}"
        yield MetricSpec(name=name, function=function, kind="paired", better=better, summary=summary, references=references)


def _distribution_metrics() -> Iterator[MetricSpec]:
    rows: tuple[tuple[str, str, Literal["lower", "higher"], str, Reference | None], ...] = (
        ("frechet_distance", "distribution", "lower", "Distance of Gaussians fitted to features.", _FRECHET),
        ("kid", "distribution", "lower", "Squared MMD of features, cubic kernel, unbiased.", _KID),
        ("mmd", "distribution", "lower", "Squared MMD of features, Gaussian kernel of median bandwidth, unbiased.", _MMD),
        ("precision", "prdc", "higher", "Share of generated samples among the real ones.", _PR),
        ("recall", "prdc", "higher", "Share of real samples among the generated ones.", _PR),
        ("density", "prdc", "higher", "How densely real samples surround the generated ones.", _DC),
        ("coverage", "prdc", "higher", "Share of real samples that have a generated neighbour.", _DC),
        ("class_recognition", "recognition", "higher", "Share of samples that a classifier of real ones recognises as asked for.", _CAS),
        ("connected", "shapes", "higher", "Share of samples whose foreground is in one piece.", None),
        ("volume_ks", "shapes", "lower", "Kolmogorov-Smirnov statistic of the foreground volumes.", None),
    )
    for name, module, better, summary, reference in rows:
        function = f"medgen.evaluation.{module}:{name}"
        references = (reference,) if reference else ()
        yield MetricSpec(name=name, function=function, kind="distribution", better=better, summary=summary, references=references)


def _density_metrics() -> Iterator[MetricSpec]:
    rows: tuple[tuple[str, Literal["lower", "higher"], str], ...] = (
        ("log_likelihood", "higher", "ln p(x) in nats, model units."),
        ("bits_per_dim", "lower", "-log2 p per value, stored units."),
        ("bits_per_dim_model", "lower", "-log2 p per value, model units."),
    )
    for name, better, summary in rows:
        yield MetricSpec(name=name, function=f"medgen.evaluation.density:{name}", kind="density", better=better, summary=summary)
