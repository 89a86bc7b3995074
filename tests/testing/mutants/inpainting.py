"""A sound inpainter with a closed form, a Gaussian with correlated values, and its faults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from testing.mutants.config import SmallConfig
from testing.mutants.flow import SLOTS, seen
from testing.mutants.mutant import Sound
from testing.mutants.sampling import IRREPRODUCIBLE
from torch import Tensor, nn

from medgen.interfaces import Batch, Condition, Generator, Inpainter, Noise, Phase, Step
from medgen.nn import ConditionEmbedding


class Correlated(Generator, Inpainter):
    """x ~ N(mean(c), L L^T); what is not known is drawn from its exact conditional distribution by Matheron's rule.

    With y ~ N(mean, S) and K the known part: x_u = y_u + S_uK S_KK^-1 (x_K - y_K).
    """

    config: SmallConfig

    def __init__(self, config, image_spec, conditions=()) -> None:
        super().__init__(config, image_spec, conditions)
        size = image_spec.numel
        self.embedding = ConditionEmbedding(conditions, config.width)
        self.base = nn.Parameter(torch.full((size,), 0.5))
        self.head = nn.Linear(self.embedding.size, size, bias=False) if conditions else None
        self.mix = nn.Parameter(torch.diag(torch.full((size,), -1.0)) + torch.diag(torch.full((size - 1,), 0.2), -1))

    def mean(self, condition: Condition, n: int) -> Tensor:
        return self.base.expand(n, -1) if self.head is None else self.base + self.head(self.embedding(condition, n))

    def factor(self) -> Tensor:
        """L, lower triangular [D, D]."""
        return self.mix.tril(-1) + torch.diag(torch.exp(2 * torch.tanh(self.mix.diagonal() / 2)))

    def _sample(self, n: int, condition: Condition, noise: Noise) -> Tensor:
        z = noise.normal(self.image_spec.numel, dtype=self.dtype)
        return (self.mean(condition, n) + z @ self.factor().T).view(n, *self.image_spec.size)

    def _inpaint(self, x: Tensor, mask: Tensor, condition: Condition, noise: Noise) -> Tensor:
        y, known = self._sample(len(x), condition, noise).flatten(1), mask.flatten(1)
        cov = self.factor() @ self.factor().T
        pairs = known[:, :, None] & known[:, None, :]
        system = torch.where(pairs, cov, torch.eye(len(cov), dtype=cov.dtype, device=cov.device))
        gap = torch.where(known, x.flatten(1) - y, 0)
        moved = y + torch.linalg.solve(system, gap) @ cov
        return torch.where(mask, x, moved.view_as(x))

    def phases(self) -> Sequence[Phase]:
        return [Phase("likelihood", list(self.parameters()), self.loss)]

    def loss(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        gap = batch.x.flatten(1) - self.mean(seen(batch.condition, step.noise), len(batch))
        z = torch.linalg.solve_triangular(self.factor(), gap[:, :, None], upper=False)[..., 0]
        return {"loss": 0.5 * z.square().mean() + self.factor().diagonal().log().mean()}


CORRELATED = Sound.of(
    Correlated, ("generator", "inpainter"), SmallConfig, {"width": 3}, spatial_dims=(0, 1), contents=("features",), conditions=SLOTS
)

FILLS_AT_RANDOM = (
    "inpainting_is_repeatable",
    "inpainting_is_independent_of_the_batch",
    *(set(IRREPRODUCIBLE) - {"same_seed_same_bits", "independent_of_batch", "independent_of_ranks"}),
)


@CORRELATED.mutant(
    "known_values_come_back",
    "every_unknown_value_reacts_to_the_seed",
    "unknown_values_follow_the_known_ones",
    "unknown_values_react_to_the_condition",
)
class TakesTheMaskForItsOpposite(Correlated):
    """True is what is to be filled in."""

    def _inpaint(self, x, mask, condition, noise):
        return super()._inpaint(x, ~mask, condition, noise)


@CORRELATED.mutant("known_values_come_back")
class SmoothsTheSeam(Correlated):
    """Blends what is known with what is filled in."""

    def _inpaint(self, x, mask, condition, noise):
        found = super()._inpaint(x, mask, condition, noise)
        return 0.9 * found + 0.1 * found.roll(1, -1)


@CORRELATED.mutant("known_values_come_back")
class FillsInDoublePrecision(Correlated):
    """A model in float32 gives float64."""

    def _inpaint(self, x, mask, condition, noise):
        return super()._inpaint(x, mask, condition, noise).double()


@CORRELATED.mutant("known_values_come_back", "samples_have_shape_and_range")
class FillsBeyondTheRange(Correlated):
    """Declares a bounded output and has none."""

    output_range = (0.4, 0.6)


@CORRELATED.mutant(*FILLS_AT_RANDOM)
class FillsFromTheGlobalGenerator(Correlated):
    """What is filled in comes from torch.randn."""

    def _inpaint(self, x, mask, condition, noise):
        return super()._inpaint(x, mask, condition, noise) + torch.where(mask, 0, 0.1 * torch.randn_like(x))


@CORRELATED.mutant("inpainting_is_independent_of_the_batch", "a_batch_of_one_is_enough", "every_unknown_value_reacts_to_the_seed")
class NumbersFillingsByTheirPlace(Correlated):
    """The noise of a sample belongs to its place in the batch."""

    def _inpaint(self, x, mask, condition, noise):
        return super()._inpaint(x, mask, condition, Noise(noise.seed, torch.arange(len(x), device=x.device)))


@CORRELATED.mutant("every_unknown_value_reacts_to_the_seed")
class FillsInOneWayOnly(Correlated):
    """The same draw for every sample and seed."""

    def _inpaint(self, x, mask, condition, noise):
        return super()._inpaint(x, mask, condition, Noise(0, torch.zeros_like(noise.index)))


@CORRELATED.mutant("unknown_values_follow_the_known_ones")
class PutsASampleBehindTheMask(Correlated):
    """A sample of its own, cut out along the mask."""

    def _inpaint(self, x, mask, condition, noise):
        return torch.where(mask, x, self._sample(len(x), condition, noise))


@CORRELATED.mutant("unknown_values_react_to_the_condition")
class FillsWithoutTheCondition(Correlated):
    """The condition is accepted and dropped."""

    def _inpaint(self, x, mask, condition, noise):
        return super()._inpaint(x, mask, Condition(), noise)
