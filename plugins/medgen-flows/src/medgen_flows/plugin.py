"""The families of this distribution. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import medgen

__all__ = ["medgen_families"]

_MADE = medgen.Reference(
    title="MADE: Masked Autoencoder for Distribution Estimation",
    authors="M. Germain, K. Gregor, I. Murray, H. Larochelle",
    year=2015,
    url="https://arxiv.org/abs/1502.03509",
)
_MAF = medgen.Reference(
    title="Masked Autoregressive Flow for Density Estimation",
    authors="G. Papamakarios, T. Pavlakou, I. Murray",
    year=2017,
    url="https://arxiv.org/abs/1705.07057",
)

_REALNVP = medgen.Reference(
    title="Density estimation using Real NVP",
    authors="L. Dinh, J. Sohl-Dickstein, S. Bengio",
    year=2016,
    url="https://arxiv.org/abs/1605.08803",
)

_IAF = medgen.Reference(
    title="Improving Variational Inference with Inverse Autoregressive Flow",
    authors="D. P. Kingma et al.",
    year=2016,
    url="https://arxiv.org/abs/1606.04934",
)
_NICE = medgen.Reference(
    title="NICE: Non-linear Independent Components Estimation",
    authors="L. Dinh, D. Krueger, Y. Bengio",
    year=2014,
    url="https://arxiv.org/abs/1410.8516",
)
_GLOW = medgen.Reference(
    title="Glow: Generative Flow with Invertible 1x1 Convolutions",
    authors="D. P. Kingma, P. Dhariwal",
    year=2018,
    url="https://arxiv.org/abs/1807.03039",
)
_SPLINES = medgen.Reference(
    title="Neural Spline Flows",
    authors="C. Durkan, A. Bekasov, I. Murray, G. Papamakarios",
    year=2019,
    url="https://arxiv.org/abs/1906.04032",
)

_CONDITIONS = (
    medgen.ConditionSlot(name="label", kind="label"),
    medgen.ConditionSlot(name="attributes", kind="attributes"),
    medgen.ConditionSlot(name="mask", kind="image"),
)


@medgen.hookimpl
def medgen_families() -> Iterator[medgen.FamilySpec]:
    """banana, nice, realnvp, glow, spline_flow, made, maf, iaf."""
    yield _flow(
        "banana",
        "medgen_flows.banana:Banana",
        "BananaConfig",
        "A known density in two dimensions: a standard normal bent along a parabola",
        (),
        {},
        dims=(0,),
        contents=("features",),
        conditions=(),
        training="none",
    )
    yield _flow(
        "nice",
        "medgen_flows.nice:Nice",
        "NiceConfig",
        "NICE: additive couplings of all values at once, then one scale per value",
        (_NICE,),
        {"width": 16, "depth": 1, "couplings": 2},
        ops=("additive_coupling",),
    )
    yield _flow(
        "realnvp",
        "medgen_flows.realnvp:RealNvp",
        "RealNvpConfig",
        "RealNVP: affine couplings; images at several resolutions with checkerboard and channel masks",
        (_REALNVP,),
        {"width": 8, "depth": 1, "couplings": 2, "couplings_per_mask": 2, "levels": 2},
        ops=("affine_coupling",),
    )
    yield _flow(
        "glow",
        "medgen_flows.glow:Glow",
        "GlowConfig",
        "Glow: actnorm, invertible 1x1 convolutions and couplings at several resolutions",
        (_GLOW,),
        {"width": 8, "depth": 1, "steps": 2, "levels": 2},
        ops=("affine_coupling", "additive_coupling"),
    )
    yield _flow(
        "spline_flow",
        "medgen_flows.spline:SplineFlow",
        "SplineFlowConfig",
        "Neural spline flow: rational-quadratic couplings and linear maps",
        (_SPLINES,),
        {"width": 8, "depth": 1, "steps": 2, "levels": 2, "bins": 4},
        ops=("rq_spline_coupling", "affine_coupling"),
    )
    yield _autoregressive("made", "Made", "Masked autoencoder: exact density in one pass, every value given those before", (_MADE,))
    yield _autoregressive("maf", "Maf", "Masked autoregressive flow: a stack of masked autoencoders", (_MAF,), {"layers": 2})
    yield _autoregressive(
        "iaf", "Iaf", "Inverse autoregressive flow: samples in one pass, density value after value", (_IAF,), {"layers": 2}
    )


def _autoregressive(
    name: str, model: str, summary: str, references: tuple[medgen.Reference, ...], tiny: dict[str, object] | None = None
) -> medgen.FamilySpec:
    """A family of one network over all values of a sample, whatever its axes."""
    return _flow(
        name,
        f"medgen_flows.autoregressive:{model}",
        f"{model}Config",
        summary,
        references,
        {"hidden": [16], **(tiny or {})},
        ops=("made_invert", "affine_coupling"),
    )


def _flow(
    name: str,
    model: str,
    config: str,
    summary: str,
    references: tuple[medgen.Reference, ...],
    tiny: dict[str, object],
    *,
    dims: tuple[int, ...] = (0, 1, 2, 3),
    contents: tuple[str, ...] = ("intensity", "features"),
    conditions: tuple[medgen.ConditionSlot, ...] = _CONDITIONS,
    training: Literal["plain", "none"] = "plain",
    ops: tuple[str, ...] = (),
) -> medgen.FamilySpec:
    return medgen.FamilySpec(
        name=name,
        interfaces=("generator", "density", "latent"),
        model=model,
        config=f"medgen_flows.config:{config}",
        capabilities=medgen.Capabilities(
            spatial_dims=dims,
            contents=contents,
            conditions=conditions,
            log_prob="exact",
            invertible=True,
            training=training,
            ops=ops,
        ),
        tiny=tiny,
        summary=summary,
        references=references,
    )
