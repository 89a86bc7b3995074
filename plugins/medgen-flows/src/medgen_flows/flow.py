"""`Flow`: what every family of this distribution shares: a `Transform` from data to noise gives density, samples and codes.

Paper: Variational Inference with Normalizing Flows (Rezende, Mohamed, 2015) | https://arxiv.org/abs/1505.05770
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

from torch import Tensor
from torch.distributions import Distribution

from medgen.interfaces import Batch, Condition, DensityModel, Generator, LatentModel, Noise, Phase, Step
from medgen.maths import Delta, log_standard_normal
from medgen.nn import ConditionEmbedding
from medgen.nn.flow import Transform
from medgen.registry import ConditionSpec, ImageSpec
from medgen_flows.config import FlowConfig

__all__ = ["Flow"]

_BASE = 0  # noise stream of the base distribution


class Flow(Generator, DensityModel, LatentModel):
    """ln p(x|c) = ln p_base(f(x; c)) + ln |det df/dx|, with p_base = N(0, I); x = f^-1(temperature * u; c).

    A family sets `self.transform` in its constructor. Latents are the flow's noise, standard normal under the model.
    """

    log_prob_kind: ClassVar[Literal["exact", "bound", "estimate"]] = "exact"
    config: FlowConfig
    transform: Transform

    def __init__(self, config: FlowConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        super().__init__(config, image_spec, conditions)
        self.required_conditions = tuple(c.name for c in conditions)
        self.embedding = ConditionEmbedding(conditions, config.condition_width)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """That of the data."""
        return self.image_spec.size

    def _base_log_prob(self, z: Tensor) -> Tensor:
        """ln p_base(z) [B]."""
        return log_standard_normal(z).flatten(1).sum(1)

    def _base_sample(self, noise: Noise) -> Tensor:
        """Draws from the base distribution, [B, *latent_shape]."""
        return noise.normal(*self.latent_shape, stream=_BASE, dtype=self.dtype)

    def _log_prob(self, x: Tensor, condition: Condition, noise: Noise, importance_samples: int) -> Tensor:
        z, log_det = self.transform(x, self.embedding(condition, len(x)))
        return self._base_log_prob(z.to(log_det.dtype)) + log_det

    def _sample(self, n: int, condition: Condition, noise: Noise) -> Tensor:
        return self.transform.inverse(self.config.temperature * self._base_sample(noise), self.embedding(condition, n))[0]

    def _encode(self, x: Tensor, condition: Condition) -> Distribution:
        return Delta(self.transform(x, self.embedding(condition, len(x)))[0])

    def _decode(self, z: Tensor, condition: Condition) -> Tensor:
        return self.transform.inverse(z, self.embedding(condition, len(z)))[0]

    def phases(self) -> Sequence[Phase]:
        """One player, who maximises the likelihood."""
        return [Phase("likelihood", list(self.parameters()), self._loss)]

    def _loss(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        """Nats per value, so that learning rates carry over from one size to another."""
        nats = -self._log_prob(batch.x, batch.condition, step.noise, 1).mean() / self.image_spec.numel
        return {"loss": nats, "bits_per_dim": nats.detach() / math.log(2.0)}
