"""What this distribution offers. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import medgen

__all__ = ["medgen_commands", "medgen_families"]

_GAN = medgen.Reference(
    title="Generative Adversarial Nets", authors="I. Goodfellow et al.", year=2014, url="https://arxiv.org/abs/1406.2661"
)
_DCGAN = medgen.Reference(
    title="Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks",
    authors="A. Radford, L. Metz, S. Chintala",
    year=2016,
    url="https://arxiv.org/abs/1511.06434",
)
_REMEDIES = medgen.Reference(
    title="Improved Techniques for Training GANs", authors="T. Salimans et al.", year=2016, url="https://arxiv.org/abs/1606.03498"
)
_SPECTRAL = medgen.Reference(
    title="Spectral Normalization for Generative Adversarial Networks",
    authors="T. Miyato, T. Kataoka, M. Koyama, Y. Yoshida",
    year=2018,
    url="https://arxiv.org/abs/1802.05957",
)
_WGAN = medgen.Reference(
    title="Wasserstein GAN", authors="M. Arjovsky, S. Chintala, L. Bottou", year=2017, url="https://arxiv.org/abs/1701.07875"
)
_WGAN_GP = medgen.Reference(
    title="Improved Training of Wasserstein GANs", authors="I. Gulrajani et al.", year=2017, url="https://arxiv.org/abs/1704.00028"
)
_CGAN = medgen.Reference(
    title="Conditional Generative Adversarial Nets", authors="M. Mirza, S. Osindero", year=2014, url="https://arxiv.org/abs/1411.1784"
)
_ACGAN = medgen.Reference(
    title="Conditional Image Synthesis with Auxiliary Classifier GANs",
    authors="A. Odena, C. Olah, J. Shlens",
    year=2017,
    url="https://arxiv.org/abs/1610.09585",
)
_VAE_GAN = medgen.Reference(
    title="Autoencoding beyond pixels using a learned similarity metric",
    authors="A. B. L. Larsen et al.",
    year=2016,
    url="https://arxiv.org/abs/1512.09300",
)

_LABEL = medgen.ConditionSlot(name="label", kind="label")
_TINY = {"latent_dim": 4, "channels": [8, 8]}


@medgen.hookimpl
def medgen_commands() -> Iterator[medgen.CommandSpec]:
    """medgen gan-toys."""
    yield medgen.CommandSpec(name="gan-toys", run="medgen_gans.cli:run", summary="what adversarial training does where the answer is known")


@medgen.hookimpl
def medgen_families() -> Iterator[medgen.FamilySpec]:
    """gan, wgan_gp, cgan, acgan, sgan, vae_gan."""
    yield _family(
        "gan",
        "gan:Gan",
        "Generative adversarial network (DCGAN): five losses, and the remedies against instability and collapse",
        (_GAN, _DCGAN, _REMEDIES, _SPECTRAL, _WGAN),
        tiny={**_TINY, "minibatch_kernels": 3, "instance_noise": 0.1, "smoothing": 0.9},
        aliases=("dcgan",),
    )
    yield _family(
        "wgan_gp",
        "gan:Gan",
        "Wasserstein GAN with gradient penalty: a critic instead of a discriminator; slower and steadier",
        (_WGAN_GP, _WGAN),
        config="WganGpConfig",
        tiny={**_TINY, "generator_norm": "group"},
    )
    yield _family(
        "cgan",
        "gan:Cgan",
        "Conditional GAN: labels and attributes, each may be missing",
        (_CGAN, _GAN),
        tiny={**_TINY, "condition_dropout": 0.25, "generator_norm": "virtual", "reference": 4},
        slots=(_LABEL, medgen.ConditionSlot(name="attributes", kind="attributes")),
    )
    yield _family(
        "acgan",
        "acgan:Acgan",
        "GAN whose discriminator also tells the class; labels may be missing for some samples",
        (_ACGAN, _GAN),
        tiny={**_TINY, "condition_width": 4},
        slots=(_LABEL,),
    )
    yield _family(
        "sgan",
        "acgan:Sgan",
        "Semi-supervised GAN: one discriminator of K+1 classes, which learns from few labels and many images",
        (_REMEDIES, _GAN),
        tiny={**_TINY, "condition_width": 4, "feature_matching": 0.5},
        slots=(_LABEL,),
    )
    yield _family(
        "vae_gan",
        "vae_gan:VaeGan",
        "Variational autoencoder whose decoder is a generator; it compares images in the features of a discriminator",
        (_VAE_GAN, _GAN),
        tiny=_TINY,
        interfaces=("generator", "latent"),
    )


def _family(
    name: str,
    model: str,
    summary: str,
    references: tuple[medgen.Reference, ...],
    *,
    tiny: Mapping[str, Any],
    config: str = "",
    slots: tuple[medgen.ConditionSlot, ...] = (),
    interfaces: tuple[str, ...] = ("generator",),
    aliases: tuple[str, ...] = (),
) -> medgen.FamilySpec:
    return medgen.FamilySpec(
        name=name,
        interfaces=interfaces,
        model=f"medgen_gans.{model}",
        config=f"medgen_gans.config:{config or model.partition(':')[2] + 'Config'}",
        capabilities=medgen.Capabilities(
            spatial_dims=(0, 1, 2, 3), contents=("intensity", "labels", "features"), conditions=slots, value_range=(-1.0, 1.0)
        ),
        tiny=tiny,
        summary=summary,
        references=references,
        aliases=aliases,
    )
