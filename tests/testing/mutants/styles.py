"""A sound translator with styles, and faults of such."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from testing.mutants.config import SmallConfig
from testing.mutants.cycles import mixed
from testing.mutants.mutant import Sound
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from medgen.interfaces import Batch, Condition, Noise, Phase, Step, Translator, evaluating
from medgen.registry import ConditionSlot


class LinearStyle(Translator):
    """y = A x + B z at every voxel, z = E (mean of y) + epsilon: the style is what brightness the source does not tell."""

    stochastic = True
    required_conditions = ("source",)
    config: SmallConfig

    def __init__(self, config, image_spec, conditions=()) -> None:
        super().__init__(config, image_spec, conditions)
        source, target = self.source_spec.channels, image_spec.channels
        self.content = nn.Parameter(torch.full((target, source), 0.5))
        self.look = nn.Parameter(torch.full((target, config.width), 0.5))
        self.encoder = nn.Parameter(torch.full((config.width, target), 0.5))

    def style(self, x: Tensor) -> Distribution:
        x = self._checked_x(x, self.image_spec)
        with evaluating(self):
            mean = x.flatten(2).mean(2) @ self.encoder.T
        return Independent(Normal(mean, torch.ones_like(mean)), 1)

    def stylise(self, x: Tensor, z: Tensor, *, condition: Condition | None = None) -> Tensor:
        x = self._checked_x(x, self.source_spec)
        with evaluating(self):
            return self._styled(x, z.expand(len(x), self.config.width))

    def _translate(self, x: Tensor, condition: Condition, noise: Noise | None) -> Tensor:
        size = self.config.width
        return self._styled(x, x.new_zeros(len(x), size) if noise is None else noise.normal(size, dtype=x.dtype))

    def _styled(self, x: Tensor, z: Tensor) -> Tensor:
        shift = z @ self.look.T
        return mixed(self.content, x) + shift.view(*shift.shape, *[1] * (x.dim() - 2))

    def phases(self) -> Sequence[Phase]:
        return [Phase("style", list(self.parameters()), self.loss)]

    def loss(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        z = batch.x.flatten(2).mean(2) @ self.encoder.T + step.noise.normal(self.config.width, dtype=batch.x.dtype)
        return {"loss": (self._styled(batch.condition.values["source"], z) - batch.x).square().mean()}


LINEAR_STYLE = Sound.of(
    LinearStyle,
    ("translator",),
    SmallConfig,
    {"width": 3},
    spatial_dims=(2,),
    conditions=(ConditionSlot(name="source", kind="image", required=True),),
)


@LINEAR_STYLE.mutant("translations_follow_a_given_style")
class IgnoresTheStyle(LinearStyle):
    """Every style gives the translation of style 0."""

    def stylise(self, x, z, *, condition=None):
        return super().stylise(x, 0 * z, condition=condition)


@LINEAR_STYLE.mutant("translations_follow_a_given_style")
class HasOneStyle(LinearStyle):
    """All images are found alike."""

    def style(self, x):
        return super().style(x.mean(0, keepdim=True).expand_as(x))


@LINEAR_STYLE.mutant("translations_follow_a_given_style")
class StyleDependsOnTheBatch(LinearStyle):
    """Styles are relative to the other images."""

    def style(self, x):
        return super().style(x - x.mean(0))


@LINEAR_STYLE.mutant("translations_follow_a_given_style")
class DrawsWhereAStyleIsGiven(LinearStyle):
    """A given style is where a draw begins."""

    def stylise(self, x, z, *, condition=None):
        return super().stylise(x, z + torch.randn_like(z), condition=condition)


@LINEAR_STYLE.mutant("translations_follow_a_given_style")
class SharesTheFirstStyle(LinearStyle):
    """Styles of a batch are taken for the first one's."""

    def stylise(self, x, z, *, condition=None):
        return super().stylise(x, z if z.dim() == 1 else z[0], condition=condition)
