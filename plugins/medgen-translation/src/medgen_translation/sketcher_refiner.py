"""`sketcher_refiner`: two conditional GANs in a row, the second with an error in which every region counts alike.

Papers: Learning Myelin Content in Multiple Sclerosis from Multimodal MRI through Adversarial Training (Wei et al., 2018) |
https://arxiv.org/abs/1804.08039
Predicting PET-derived Demyelination from Multimodal MRI using Sketcher-Refiner Adversarial Training for Multiple Sclerosis (Wei et al.,
2019) | https://doi.org/10.1016/j.media.2019.101546
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from medgen.interfaces import Batch, Condition, Noise, Phase, Translator, evaluating
from medgen.registry import ConditionSpec, ImageSpec
from medgen_translation.config import PairedGanConfig, SketcherRefinerConfig
from medgen_translation.losses import check_weighting
from medgen_translation.networks import required
from medgen_translation.paired_gan import PairedGan

__all__ = ["SketcherRefiner"]


class SketcherRefiner(Translator):
    """s = S(x), y' = R(x, s): a sketch of anatomy and physiology, then its refinement where it matters.

        L_S = adversarial + lambda_S E |y - s|
        L_R = adversarial + lambda_R E (1/M) sum over regions r of mean_r |y - y'|

    M counts the regions that a sample has.

    Where it departs from the papers: there the refiner is trained when the sketcher is done, as with `in_turn`. By default both learn in
    each step, the refiner on the sketch of the moment, through which no gradient flows: as the rates fall, the sketches settle, and the
    refiner sees in training what it sees in use.

    >>> import medgen
    >>> spec = medgen.ImageSpec(channels=1, shape=(12, 12))
    >>> t1 = medgen.ConditionSpec(name="source", kind="image", image=medgen.ImageSpec(channels=2, shape=(12, 12)))
    >>> options = {"width": 8, "multipliers": [1, 2], "discriminator_channels": [8, 8], "weighting": "voxels"}
    >>> model = medgen.create("sketcher_refiner", spec, [t1], **options)
    >>> model.sketch(torch.zeros(3, 2, 12, 12)).shape, model.translate(torch.zeros(3, 2, 12, 12)).shape
    (torch.Size([3, 1, 12, 12]), torch.Size([3, 1, 12, 12]))
    """

    required_conditions = ("source",)
    config: SketcherRefinerConfig

    def __init__(self, config: SketcherRefinerConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        super().__init__(config, image_spec, conditions)
        check_weighting(config.weighting, conditions)
        self.output_range = image_spec.bounds
        source = required(conditions, "source")
        own = {name: value for name, value in config.to_json().items() if name in PairedGanConfig.model_fields}
        sketched = PairedGanConfig.parse(own | {"distance_weight": config.sketch_weight, "weighting": "voxels"})
        self.sketcher = PairedGan(sketched, image_spec, source)
        self.refiner = PairedGan(config, image_spec, source, further=image_spec.channels)

    def phases(self) -> Sequence[Phase]:
        """Discriminator and generator of the sketcher, then those of the refiner."""
        first, second = self.config.spans(2)
        return [*self.sketcher.phases("sketcher_", span=first), *self.refiner.phases("refiner_", self._sketch, second)]

    @final
    def sketch(self, x: Tensor, *, condition: Condition | None = None) -> Tensor:
        """What the refiner starts from, [B, C', *S] in model units, of sources [B, C, *S]."""
        x = self._checked_x(x, self.source_spec)
        given = Condition() if condition is None else condition
        full = self._checked(Condition({**given.values, "source": x}, given.present), len(x))
        with evaluating(self):
            return self._bounded(self.sketcher(full)).to(x.dtype)

    def _sketch(self, batch: Batch) -> Tensor:
        with torch.no_grad():
            return self.sketcher(batch.condition)

    def _bounded(self, u: Tensor) -> Tensor:
        units = self.refiner.units
        return units.bounded(units.to_model(u))

    def _translate(self, x: Tensor, condition: Condition, noise: Noise | None) -> Tensor:
        return self._bounded(self.refiner(condition, self.sketcher(condition))).to(x.dtype)
