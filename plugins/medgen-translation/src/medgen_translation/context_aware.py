"""`context_aware_gan`: Nie's GAN without pooling, with the gradients of the image in its loss, and auto-context.

Papers: Medical Image Synthesis with Context-Aware Generative Adversarial Networks (Nie et al., 2017) | https://arxiv.org/abs/1612.05362
Auto-Context and Its Application to High-Level Vision Tasks and 3D Brain Image Segmentation (Tu, Bai, 2010) |
https://doi.org/10.1109/TPAMI.2009.186
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

import torch
from torch import Tensor, nn

from medgen.interfaces import Batch, Condition, Noise, Phase, Translator, evaluating
from medgen.registry import ConditionSpec, ImageSpec
from medgen_translation.config import ContextAwareGanConfig
from medgen_translation.losses import check_weighting
from medgen_translation.networks import required
from medgen_translation.paired_gan import PairedGan

__all__ = ["ContextAwareGan"]


class ContextAwareGan(Translator):
    """y_0 = G_0(x), y_k = G_k(x, y_{k-1}) for k = 1..contexts, each G_k with its discriminator D_k(y), or D_k(x, y_{k-1}, y).

    G_k minimises a L_adversarial + b mean (y - y_k)^2 + c GDL(y, y_k), with y_{k-1} as it is, without gradients.

    Where it departs from the paper: the GANs train side by side, not one after the other (`in_turn`), so that G_k follows an estimate that
    still improves; as the learning rate falls, that estimate comes to rest. The paper's loss is of sums over a patch, with weights 0.5, 1,
    1; here b and c are of means. Nie maps an MR patch of 32^3 to its inner 16^3 and tiles those; here patches keep their size (`--patch`),
    and `medgen translate` blends overlapping ones with weights that fall towards their borders, where the network sees least.

    >>> import medgen
    >>> mr = medgen.ConditionSpec(name="source", kind="image", image=medgen.ImageSpec(channels=1, shape=(12, 12)))
    >>> options = {"width": 8, "layers": 3, "discriminator_channels": [8, 8], "contexts": 2}
    >>> model = medgen.create("context_aware_gan", medgen.ImageSpec(channels=1, shape=(12, 12)), [mr], **options)
    >>> [tuple(y.shape) for y in model.estimates(torch.zeros(3, 1, 12, 12))]
    [(3, 1, 12, 12), (3, 1, 12, 12), (3, 1, 12, 12)]
    """

    required_conditions = ("source",)
    config: ContextAwareGanConfig

    def __init__(self, config: ContextAwareGanConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        super().__init__(config, image_spec, conditions)
        check_weighting(config.weighting, conditions)
        self.output_range = image_spec.bounds
        source = required(conditions, "source")
        further = [0, *[image_spec.channels] * config.contexts]
        self.gans = nn.ModuleList(PairedGan(config, image_spec, source, further=channels) for channels in further)

    def phases(self) -> Sequence[Phase]:
        """Discriminator and generator of each GAN in turn."""
        spans = self.config.spans(len(self.gans))
        later = (self._gan(k).phases(f"context{k}_", self._before(k), spans[k]) for k in range(1, len(self.gans)))
        return [phase for phases in (self._gan(0).phases(span=spans[0]), *later) for phase in phases]

    @final
    def estimates(self, x: Tensor, *, condition: Condition | None = None) -> list[Tensor]:
        """y_0, ..., y_contexts of sources x [B, C, *S], in model units; `translate` gives one of them (option `estimate`), the last."""
        with evaluating(self):
            x = self._checked_x(x, self.source_spec)
            given = Condition() if condition is None else condition
            full = self._checked(Condition({**given.values, "source": x}, given.present), len(x))
            return [self._in_model_units(y, x) for y in self._chain(full, len(self.gans))]

    def _before(self, k: int) -> Callable[[Batch], Tensor]:
        """The estimate that GAN k refines."""

        def estimate(batch: Batch) -> Tensor:
            with torch.no_grad():
                return self._chain(batch.condition, k)[-1]

        return estimate

    def _chain(self, condition: Condition, n: int) -> list[Tensor]:
        """The first n estimates, in units of the network."""
        out = [self._gan(0)(condition)]
        for k in range(1, n):
            out.append(self._gan(k)(condition, out[-1]))
        return out

    def _gan(self, k: int) -> PairedGan:
        gan = self.gans[k]
        assert isinstance(gan, PairedGan)
        return gan

    def _in_model_units(self, y: Tensor, like: Tensor) -> Tensor:
        units = self._gan(0).units
        return units.bounded(units.to_model(y)).to(like.dtype)

    def _translate(self, x: Tensor, condition: Condition, noise: Noise | None) -> Tensor:
        count = 1 + self.config.estimate % len(self.gans)
        return self._in_model_units(self._chain(condition, count)[-1], x)
