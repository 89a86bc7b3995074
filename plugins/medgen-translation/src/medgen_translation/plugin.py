"""The families of this distribution. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import medgen

__all__ = ["medgen_families"]

_UNET = medgen.Reference(
    title="U-Net: Convolutional Networks for Biomedical Image Segmentation",
    authors="O. Ronneberger, P. Fischer, T. Brox",
    year=2015,
    url="https://arxiv.org/abs/1505.04597",
)
_NIE = medgen.Reference(
    title="Medical Image Synthesis with Context-Aware Generative Adversarial Networks",
    authors="D. Nie, R. Trullo, J. Lian, C. Petitjean, S. Ruan, Q. Wang, D. Shen",
    year=2017,
    url="https://arxiv.org/abs/1612.05362",
)
_TU = medgen.Reference(
    title="Auto-Context and Its Application to High-Level Vision Tasks and 3D Brain Image Segmentation",
    authors="Z. Tu, X. Bai",
    year=2010,
    url="https://doi.org/10.1109/TPAMI.2009.186",
)
_KENDALL = medgen.Reference(
    title="What Uncertainties Do We Need in Bayesian Deep Learning for Computer Vision?",
    authors="A. Kendall, Y. Gal",
    year=2017,
    url="https://arxiv.org/abs/1703.04977",
)
_DDPM = medgen.Reference(
    title="Denoising Diffusion Probabilistic Models", authors="J. Ho, A. Jain, P. Abbeel", year=2020, url="https://arxiv.org/abs/2006.11239"
)
_PALETTE = medgen.Reference(
    title="Palette: Image-to-Image Diffusion Models", authors="C. Saharia et al.", year=2022, url="https://arxiv.org/abs/2111.05826"
)

_PIX2PIX = medgen.Reference(
    title="Image-to-Image Translation with Conditional Adversarial Networks",
    authors="P. Isola, J.-Y. Zhu, T. Zhou, A. A. Efros",
    year=2017,
    url="https://arxiv.org/abs/1611.07004",
)
_PATHAK = medgen.Reference(
    title="Context Encoders: Feature Learning by Inpainting", authors="D. Pathak et al.", year=2016, url="https://arxiv.org/abs/1604.07379"
)
_ZHU = medgen.Reference(
    title="Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks",
    authors="J.-Y. Zhu, T. Park, P. Isola, A. A. Efros",
    year=2017,
    url="https://arxiv.org/abs/1703.10593",
)
_WOLTERINK = medgen.Reference(
    title="Deep MR to CT Synthesis using Unpaired Data",
    authors="J. M. Wolterink, A. M. Dinkla, M. H. F. Savenije, P. R. Seevinck, C. A. T. van den Berg, I. Isgum",
    year=2017,
    url="https://arxiv.org/abs/1708.01155",
)
_WEI2018 = medgen.Reference(
    title="Learning Myelin Content in Multiple Sclerosis from Multimodal MRI through Adversarial Training",
    authors="W. Wei, E. Poirion, B. Bodini, S. Durrleman, N. Ayache, B. Stankoff, O. Colliot",
    year=2018,
    url="https://arxiv.org/abs/1804.08039",
)
_WEI2019 = medgen.Reference(
    title="Predicting PET-derived Demyelination from Multimodal MRI using Sketcher-Refiner Adversarial Training for Multiple Sclerosis",
    authors="W. Wei, E. Poirion, B. Bodini, M. Tonietto, S. Durrleman, O. Colliot, B. Stankoff, N. Ayache",
    year=2019,
    url="https://doi.org/10.1016/j.media.2019.101546",
)

_SPADE = medgen.Reference(
    title="Semantic Image Synthesis with Spatially-Adaptive Normalization",
    authors="T. Park, M.-Y. Liu, T.-C. Wang, J.-Y. Zhu",
    year=2019,
    url="https://arxiv.org/abs/1903.07291",
)
_XCAT = medgen.Reference(
    title="4D Semantic Cardiac Magnetic Resonance Image Synthesis on XCAT Anatomical Model",
    authors="S. Abbasi-Sureshjani, S. Amirrajab, C. Lorenz, J. Weese, J. Pluim, M. Breeuwer",
    year=2020,
    url="https://arxiv.org/abs/2002.07089",
)

_SOURCE = medgen.ConditionSlot(name="source", kind="image", required=True)
_REGIONS = medgen.ConditionSlot(name="regions", kind="image")
_LABELS = medgen.ConditionSlot(name="source", kind="image", required=True, content="labels")
_DIMS = (1, 2, 3)


@medgen.hookimpl
def medgen_families() -> Iterator[medgen.FamilySpec]:
    """regression, pix2pix, cyclegan, context_aware_gan, sketcher_refiner, spade, diffusion_translation."""
    yield _translator(
        name="regression",
        model="regression:Regression",
        config="config:RegressionConfig",
        tiny={"width": 8, "multipliers": [1, 2]},
        summary="One image from another by a U-Net or a network without pooling, without an adversary: the baseline of every translator",
        references=(_UNET, _NIE, _KENDALL),
    )
    yield _translator(
        name="pix2pix",
        model="pix2pix:Pix2pix",
        config="config:Pix2pixConfig",
        tiny={"width": 8, "multipliers": [1, 2], "discriminator_channels": [8, 8]},
        summary="Conditional GAN with an error per voxel: U-Net, discriminator of patches or of whole images, L1 or L2",
        references=(_PIX2PIX, _PATHAK, _UNET),
    )
    yield _translator(
        name="sketcher_refiner",
        model="sketcher_refiner:SketcherRefiner",
        config="config:SketcherRefinerConfig",
        tiny={"width": 8, "multipliers": [1, 2], "discriminator_channels": [8, 8], "weighting": "voxels"},
        summary="Two conditional GANs in a row: a sketch, and its refinement, in whose error every region counts alike",
        references=(_WEI2019, _WEI2018, _UNET),
    )
    yield _translator(
        name="cyclegan",
        model="cyclegan:CycleGan",
        config="config:CycleGanConfig",
        slots=(_SOURCE,),
        training="unpaired",
        tiny={"width": 8, "multipliers": [1, 2], "discriminator_channels": [8, 8], "pool": 16},
        summary="Two translators, there and back, learned from images that are not paired; where they do not close, the cycle map shows",
        references=(_ZHU, _WOLTERINK),
    )
    yield _translator(
        name="context_aware_gan",
        model="context_aware:ContextAwareGan",
        config="config:ContextAwareGanConfig",
        tiny={"width": 8, "layers": 3, "discriminator_channels": [8, 8]},
        summary="GAN without pooling, with the gradients of the image in its loss, refined by further GANs that see the estimate before",
        references=(_NIE, _TU),
    )
    yield _translator(
        name="spade",
        model="spade:Spade",
        config="spade_config:SpadeConfig",
        slots=(_LABELS,),
        tiny={"width": 8, "multipliers": [1, 2], "hidden": 8, "style_dim": 4, "discriminator_channels": [8, 8]},
        summary="Images from label maps by spatially adaptive normalisation, with the style of any image",
        references=(_SPADE, _XCAT),
    )
    yield _translator(
        name="diffusion_translation",
        model="diffusion:DiffusionTranslation",
        config="config:DiffusionTranslationConfig",
        slots=(_SOURCE,),
        ops=("ddpm_step",),
        tiny={"width": 8, "multipliers": [1, 2], "steps": 3, "prediction": "x0"},
        summary="Denoising diffusion given the source image: each draw is one possible translation, several show what is uncertain",
        references=(_DDPM, _PALETTE),
    )


def _translator(
    *,
    model: str,
    config: str,
    slots: tuple[medgen.ConditionSlot, ...] = (_SOURCE, _REGIONS),
    training: Literal["paired", "unpaired"] = "paired",
    ops: tuple[str, ...] = (),
    **rest: Any,
) -> medgen.FamilySpec:
    return medgen.FamilySpec(
        interfaces=("translator",),
        model=f"medgen_translation.{model}",
        config=f"medgen_translation.{config}",
        capabilities=medgen.Capabilities(spatial_dims=_DIMS, conditions=slots, training=training, ops=ops),
        **rest,
    )
