"""The families of this distribution. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

import medgen

__all__ = ["medgen_families"]

_VAE = medgen.Reference(
    title="Auto-Encoding Variational Bayes", authors="D. P. Kingma, M. Welling", year=2014, url="https://arxiv.org/abs/1312.6114"
)
_BETA = medgen.Reference(
    title="beta-VAE: Learning Basic Visual Concepts with a Constrained Variational Framework",
    authors="I. Higgins et al.",
    year=2017,
    url="https://openreview.net/forum?id=Sy2fzU9gl",
)
_CAPACITY = medgen.Reference(
    title="Understanding disentangling in beta-VAE", authors="C. P. Burgess et al.", year=2018, url="https://arxiv.org/abs/1804.03599"
)
_CVAE = medgen.Reference(
    title="Learning Structured Output Representation using Deep Conditional Generative Models", authors="K. Sohn, H. Lee, X. Yan", year=2015
)
_AE = medgen.Reference(
    title="Reducing the Dimensionality of Data with Neural Networks",
    authors="G. E. Hinton, R. R. Salakhutdinov",
    year=2006,
    url="https://doi.org/10.1126/science.1127647",
)

_DIMS = (0, 1, 2, 3)
_CONTENTS = ("intensity", "labels", "features")
_TINY = {"latent_dim": 2, "channels": [8, 8], "blocks": 1}


@medgen.hookimpl
def medgen_families() -> Iterator[medgen.FamilySpec]:
    """ae, vae, beta_vae, cvae."""
    yield medgen.FamilySpec(
        name="ae",
        interfaces=("latent",),
        model="medgen_autoencoders.ae:Ae",
        config="medgen_autoencoders.config:AeConfig",
        capabilities=medgen.Capabilities(spatial_dims=_DIMS, contents=_CONTENTS),
        tiny=_TINY,
        summary="Autoencoder: squared error through a bottleneck",
        references=(_AE,),
        aliases=("autoencoder",),
    )
    yield _vae("vae", "Vae", "Variational autoencoder: Gaussian, Bernoulli or categorical likelihood; ELBO and IWAE bounds", (_VAE,))
    yield _vae("beta_vae", "BetaVae", "VAE with a weighted KL and a rising capacity", (_BETA, _CAPACITY))
    slots = (medgen.ConditionSlot(name="label", kind="label"), medgen.ConditionSlot(name="attributes", kind="attributes"))
    yield _vae("cvae", "Cvae", "Conditional VAE: labels and attributes, each may be missing", (_CVAE,), slots)


def _vae(
    name: str, model: str, summary: str, references: tuple[medgen.Reference, ...], slots: tuple[medgen.ConditionSlot, ...] = ()
) -> medgen.FamilySpec:
    return medgen.FamilySpec(
        name=name,
        interfaces=("generator", "density", "latent"),
        model=f"medgen_autoencoders.vae:{model}",
        config=f"medgen_autoencoders.config:{model}Config",
        capabilities=medgen.Capabilities(spatial_dims=_DIMS, contents=_CONTENTS, conditions=slots, log_prob="bound"),
        tiny={**_TINY, **({"condition_dropout": 0.25} if slots else {})},
        summary=summary,
        references=references,
    )
