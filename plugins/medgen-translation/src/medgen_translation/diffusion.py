"""`diffusion_translation`: the target drawn by denoising diffusion, given the source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor

from medgen.interfaces import Batch, ChoosesArithmetic, Condition, Noise, Phase, PreparesOnData, Translator
from medgen.registry import ConditionSpec, ImageSpec
from medgen_diffusion.config import DdpmConfig
from medgen_diffusion.ddpm import Ddpm
from medgen_translation.config import DiffusionTranslationConfig

__all__ = ["DiffusionTranslation"]


class DiffusionTranslation(Translator, PreparesOnData, ChoosesArithmetic):
    """A `ddpm` whose condition is the source: y ~ p(y | x).

    With noise, `translate` draws; mean and standard deviation of several draws are the translation and what is uncertain about it. Without,
    every sample starts from the same noise, that of seed 0, so that there is one translation of each source.

    Paper: Palette: Image-to-Image Diffusion Models (Saharia et al., 2022) | https://arxiv.org/abs/2111.05826
    """

    required_conditions = ("source",)
    stochastic = True
    config: DiffusionTranslationConfig

    def __init__(self, config: DiffusionTranslationConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        super().__init__(config, image_spec, conditions)
        self.output_range = image_spec.bounds
        self.chain = Ddpm(DdpmConfig.parse(config.to_json()), image_spec, conditions)

    def phases(self) -> Sequence[Phase]:
        """Those of the chain."""
        return self.chain.phases()

    def prepare(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Measure the scale of data that have none of their own."""
        self.chain.prepare(batches)

    def arithmetic(self) -> str:
        """Of the network when drawing."""
        return self.chain.arithmetic()

    def _translate(self, x: Tensor, condition: Condition, noise: Noise | None) -> Tensor:
        source = Noise(0, torch.zeros(len(x), dtype=torch.int64, device=x.device)) if noise is None else noise
        return self.chain._sample(len(x), condition, source)  # the hook: what it takes has been checked
