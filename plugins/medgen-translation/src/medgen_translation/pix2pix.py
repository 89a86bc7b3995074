"""`pix2pix`: a conditional GAN with an error per voxel.

Papers: Image-to-Image Translation with Conditional Adversarial Networks (Isola et al., 2017) | https://arxiv.org/abs/1611.07004
Context Encoders: Feature Learning by Inpainting (Pathak et al., 2016) | https://arxiv.org/abs/1604.07379
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from medgen.interfaces import Condition, Noise, Phase, Translator
from medgen.registry import ConditionSpec, ImageSpec
from medgen_translation.config import Pix2pixConfig
from medgen_translation.losses import check_weighting
from medgen_translation.networks import required
from medgen_translation.paired_gan import PairedGan

__all__ = ["Pix2pix"]


class Pix2pix(Translator):
    """One `PairedGan`: U-Net or network without pooling, discriminator of patches or of whole images, L1 or L2.

    >>> import medgen
    >>> t1 = medgen.ConditionSpec(name="source", kind="image", image=medgen.ImageSpec(channels=2, shape=(12, 12)))
    >>> options = {"width": 8, "multipliers": [1, 2], "discriminator_channels": [8, 8]}
    >>> model = medgen.create("pix2pix", medgen.ImageSpec(channels=1, shape=(12, 12)), [t1], **options)
    >>> import torch
    >>> model.translate(torch.zeros(3, 2, 12, 12)).shape
    torch.Size([3, 1, 12, 12])
    """

    required_conditions = ("source",)
    config: Pix2pixConfig

    def __init__(self, config: Pix2pixConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        super().__init__(config, image_spec, conditions)
        check_weighting(config.weighting, conditions)
        self.output_range = image_spec.bounds
        self.gan = PairedGan(config, image_spec, required(conditions, "source"))

    def phases(self) -> Sequence[Phase]:
        """Discriminator, then generator."""
        return self.gan.phases()

    def _translate(self, x: Tensor, condition: Condition, noise: Noise | None) -> Tensor:
        units = self.gan.units
        return units.bounded(units.to_model(self.gan(condition))).to(x.dtype)
