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

_EDM = medgen.Reference(
    title="Elucidating the Design Space of Diffusion-Based Generative Models",
    authors="T. Karras, M. Aittala, T. Aila, S. Laine",
    year=2022,
    url="https://arxiv.org/abs/2206.00364",
)
_SDE = medgen.Reference(
    title="Score-Based Generative Modeling through Stochastic Differential Equations",
    authors="Y. Song et al.",
    year=2021,
    url="https://arxiv.org/abs/2011.13456",
)
_MATCHING = medgen.Reference(
    title="Flow Matching for Generative Modeling", authors="Y. Lipman et al.", year=2023, url="https://arxiv.org/abs/2210.02747"
)
_RECTIFIED = medgen.Reference(
    title="Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow",
    authors="X. Liu, C. Gong, Q. Liu",
    year=2023,
    url="https://arxiv.org/abs/2209.03003",
)

_LATENT = medgen.Reference(
    title="High-Resolution Image Synthesis with Latent Diffusion Models",
    authors="R. Rombach, A. Blattmann, D. Lorenz, P. Esser, B. Ommer",
    year=2022,
    url="https://arxiv.org/abs/2112.10752",
)

_CONDITIONS = (
    medgen.ConditionSlot(name="label", kind="label"),
    medgen.ConditionSlot(name="attributes", kind="attributes"),
    medgen.ConditionSlot(name="mask", kind="image"),
)


_DIMS = (0, 1, 2, 3)
_CONTENTS = ("intensity", "labels", "features")
_TINY = {"width": 8, "multipliers": [1, 2], "condition_dropout": 0.25}


@medgen.hookimpl
def medgen_families() -> Iterator[medgen.FamilySpec]:
    """ddpm, edm, flow_matching, latent_diffusion."""
    yield medgen.FamilySpec(
        name="ddpm",
        interfaces=("generator", "inpainter", "density"),
        model="medgen_diffusion.ddpm:Ddpm",
        config="medgen_diffusion.config:DdpmConfig",
        capabilities=medgen.Capabilities(
            spatial_dims=_DIMS, contents=_CONTENTS, conditions=_CONDITIONS, log_prob="bound", ops=("ddpm_step",)
        ),
        tiny={**_TINY, "steps": 3, "variance": "learned"},
        summary="Denoising diffusion: a U-Net removes noise step by step; ancestral, DDIM and DPM-Solver++ sampling, guidance",
        references=(_DDPM, _IMPROVED, _DDIM, _GUIDANCE),
    )
    yield _flow(
        "edm",
        "edm:Edm",
        "Diffusion over noise levels, preconditioned (EDM): Heun's sampler, density by the probability flow",
        (_EDM, _SDE, _GUIDANCE),
    )
    yield _flow(
        "flow_matching",
        "flow_matching:FlowMatching",
        "Flow matching on straight paths (rectified flow): few steps from noise to data, density along them",
        (_MATCHING, _RECTIFIED, _GUIDANCE),
    )
    yield medgen.FamilySpec(
        name="latent_diffusion",
        interfaces=("generator",),
        model="medgen_diffusion.latent_diffusion:LatentDiffusion",
        config="medgen_diffusion.config:LatentDiffusionConfig",
        capabilities=medgen.Capabilities(spatial_dims=_DIMS, contents=_CONTENTS, conditions=_CONDITIONS, ops=("ddpm_step",)),
        tiny={**_TINY, "steps": 3, "first_stage": {"family": "vae", "config": {"latent_dim": 3, "channels": [8, 8]}}},
        summary="Denoising diffusion of the latents of a trained autoencoder or any other model with latents, which becomes part of it",
        references=(_LATENT, _DDPM, _GUIDANCE),
    )


def _flow(name: str, model: str, summary: str, references: tuple[medgen.Reference, ...]) -> medgen.FamilySpec:
    return medgen.FamilySpec(
        name=name,
        interfaces=("generator", "inpainter", "density"),
        model=f"medgen_diffusion.{model}",
        config=f"medgen_diffusion.config:{model.partition(':')[2]}Config",
        capabilities=medgen.Capabilities(spatial_dims=_DIMS, contents=_CONTENTS, conditions=_CONDITIONS, log_prob="estimate"),
        tiny={**_TINY, "sampling_steps": 3, "resample": 2, "log_prob_steps": 2},
        summary=summary,
        references=references,
    )
