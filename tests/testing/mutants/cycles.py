"""A sound translator that knows the way back, and faults of such."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from testing.mutants.config import SmallConfig
from testing.mutants.mutant import Sound
from torch import Tensor, nn

from medgen.interfaces import Batch, Condition, Noise, Phase, Step, Translator, evaluating
from medgen.registry import ConditionSlot


class LinearCycle(Translator):
    """G(x) = A x and F(y) = B y at every voxel, from images that are not paired: both sides keep their means, and there and back closes."""

    required_conditions = ("source",)
    config: SmallConfig

    def __init__(self, config, image_spec, conditions=()) -> None:
        super().__init__(config, image_spec, conditions)
        source, target = self.source_spec.channels, image_spec.channels
        self.there = nn.Parameter(torch.full((target, source), 0.5))
        self.back = nn.Parameter(torch.full((source, target), 0.5))

    def _translate(self, x: Tensor, condition: Condition, noise: Noise | None) -> Tensor:
        return mixed(self.there, x)

    def translate_back(self, y: Tensor) -> Tensor:
        y = self._checked_x(y, self.image_spec)
        with evaluating(self):
            return mixed(self.back, y)

    def cycle(self, x: Tensor) -> Tensor:
        return self.translate_back(self.translate(x))

    def phases(self) -> Sequence[Phase]:
        return [Phase("cycle", list(self.parameters()), self.loss)]

    def loss(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        x, y = batch.condition.values["source"], batch.x
        to_target, to_source = mixed(self.there, x), mixed(self.back, y)
        means = (per_channel(to_target) - per_channel(y)).square().mean() + (per_channel(to_source) - per_channel(x)).square().mean()
        closed = (mixed(self.back, to_target) - x).square().mean() + (mixed(self.there, to_source) - y).square().mean()
        return {"loss": means + closed}


def mixed(matrix: Tensor, x: Tensor) -> Tensor:
    """[C', C], [B, C, *S] -> [B, C', *S]."""
    return torch.einsum("oc,bc...->bo...", matrix, x)


def per_channel(x: Tensor) -> Tensor:
    """Mean of each channel, [C]."""
    return x.movedim(1, 0).flatten(1).mean(1)


LINEAR_CYCLE = Sound.of(
    LinearCycle,
    ("translator",),
    SmallConfig,
    {"width": 3},
    spatial_dims=(2,),
    conditions=(ConditionSlot(name="source", kind="image", required=True),),
    training="unpaired",
)


@LINEAR_CYCLE.mutant("cycles_lead_back_to_the_source")
class ComesBackAsTarget(LinearCycle):
    """The cycle ends on the other side."""

    def cycle(self, x):
        return self.translate(x)


@LINEAR_CYCLE.mutant("cycles_lead_back_to_the_source")
class ComesBackAtRandom(LinearCycle):
    """Dropout on the way back."""

    def translate_back(self, y):
        return super().translate_back(nn.functional.dropout(y, 0.1, training=True))


@LINEAR_CYCLE.mutant("cycles_lead_back_to_the_source")
class ForgetsAChannel(LinearCycle):
    """The way back looks at the first channel only."""

    def translate_back(self, y):
        return super().translate_back(torch.cat((y[:, :1], torch.zeros_like(y[:, 1:])), 1))


@LINEAR_CYCLE.mutant("cycles_lead_back_to_the_source")
class ComesBackWithTheBatch(LinearCycle):
    """The way back subtracts the mean of the batch."""

    def translate_back(self, y):
        return super().translate_back(y - y.mean(0))
