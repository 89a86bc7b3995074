"""The families of this distribution. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

import medgen

__all__ = ["medgen_families"]

_DDPM = medgen.Reference(
    title="Denoising Diffusion Probabilistic Models", authors="J. Ho, A. Jain, P. Abbeel", year=2020, url="https://arxiv.org/abs/2006.11239"
)
_IMPROVED = medgen.Reference(
    title="Improved Denoising Diffusion Probabilistic Models",
    authors="A. Nichol, P. Dhariwal",
    year=2021,
    url="https://arxiv.org/abs/2102.09672",
)
_DDIM = medgen.Reference(
    title="Denoising Diffusion Implicit Models", authors="J. Song, C. Meng, S. Ermon", year=2021, url="https://arxiv.org/abs/2010.02502"
)
_GUIDANCE = medgen.Reference(
    title="Classifier-Free Diffusion Guidance", authors="J. Ho, T. Salimans", year=2022, url="https://arxiv.org/abs/2207.12598"
)

_CONDITIONS = (
    medgen.ConditionSlot(name="label", kind="label"),
    medgen.ConditionSlot(name="attributes", kind="attributes"),
    medgen.ConditionSlot(name="mask", kind="image"),
)


@medgen.hookimpl
def medgen_families() -> Iterator[medgen.FamilySpec]:
    """ddpm."""
    yield medgen.FamilySpec(
        name="ddpm",
        interfaces=("generator", "inpainter", "density"),
        model="medgen_diffusion.ddpm:Ddpm",
        config="medgen_diffusion.config:DdpmConfig",
        capabilities=medgen.Capabilities(
            spatial_dims=(0, 1, 2, 3),
            contents=("intensity", "labels", "features"),
            conditions=_CONDITIONS,
            log_prob="bound",
            ops=("ddpm_step",),
        ),
        tiny={"width": 8, "multipliers": [1, 2], "steps": 3, "variance": "learned", "condition_dropout": 0.25},
        summary="Denoising diffusion: a U-Net removes noise step by step; ancestral, DDIM and DPM-Solver++ sampling, guidance",
        references=(_DDPM, _IMPROVED, _DDIM, _GUIDANCE),
    )
