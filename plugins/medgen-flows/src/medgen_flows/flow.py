"""`Flow`: what every family of this distribution shares: a `Transform` from data to noise gives density, samples and codes.

Paper: Variational Inference with Normalizing Flows (Rezende, Mohamed, 2015) | https://arxiv.org/abs/1505.05770
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Distribution

from medgen.errors import ConfigError
from medgen.interfaces import Batch, Condition, DensityModel, Generator, LatentModel, Noise, Phase, PreparesOnData, Step
from medgen.maths import Delta
from medgen.nn import ConditionEmbedding
from medgen.nn.flow import Chain, Dequantise, Logit, Transform, has_levels, initialise
from medgen.registry import ConditionSpec, ImageSpec
from medgen_flows.config import FlowConfig

__all__ = ["Flow"]

_BASE, _CELL, _HIDE = 0, 1, 2  # noise streams: the base distribution; place within a cell; which samples lose their condition
_PREPARED = 256, 2**24  # samples, and values, that data-dependent initialisation looks at


class Flow(Generator, DensityModel, LatentModel, PreparesOnData):
    """ln p(x|c) = ln N(f(x; c); 0, I) + ln |det df/dx|; x = f^-1(temperature * u; c).

    A family sets `self.transform` in its constructor. Latents are the flow's noise, standard normal under the model. Stored integers are
    dequantised where the configuration says so, and `log_prob` is then a lower bound of their probability mass.
    """

    log_prob_kind: Literal["exact", "bound", "estimate"] = "exact"
    config: FlowConfig
    transform: Transform

    def __init__(self, config: FlowConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        super().__init__(config, image_spec, conditions if config.conditional else ())
        if config.condition_dropout == 0:
            self.required_conditions = tuple(c.name for c in self.conditions)
        self.embedding = ConditionEmbedding(self.conditions, config.condition_width, required=self.required_conditions)
        kind, rule = config.dequantise, image_spec.intensity
        if kind == "auto":
            kind = "uniform" if has_levels(image_spec) else "none"
        self.dequantise = None if kind == "none" else Dequantise(image_spec, kind)
        self.limits: Transform = Chain([])
        if config.logit_alpha > 0 and image_spec.content == "intensity" and rule.clip:
            low, high = rule.range if self.dequantise is None else (0.0, 1.0)
            self.limits = Logit(config.logit_alpha, low, high)
            self.output_range = low - self.limits.margin, high + self.limits.margin
        if self.dequantise is not None:
            self.log_prob_kind, self.log_prob_measure, self.output_range = "bound", "mass", rule.range

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """That of the data."""
        return self.image_spec.size

    def _log_density(self, v: Tensor, context: Tensor | None) -> Tensor:
        """ln p(v|c) [B] of continuous values."""
        h, outer = self.limits(v)
        z, inner = self.transform(h, context)
        base = -0.5 * (z.to(inner.dtype).flatten(1).square().sum(1) + self.image_spec.numel * math.log(2.0 * math.pi))
        return base + outer + inner

    def _log_prob(self, x: Tensor, condition: Condition, noise: Noise, importance_samples: int) -> Tensor:
        """Of levels k: ln (1/K) sum_j p(v_j|c) / q(v_j|k) with v_j from the cell of k, a bound that is tighter the larger K."""
        context = self.embedding(condition, len(x))
        if self.dequantise is None:
            return self._log_density(x, context)
        v, weight = self.dequantise(x, noise, _CELL)
        total = self._log_density(v, context) + weight
        for draw in range(1, importance_samples):  # one at a time: memory does not grow with K
            v, weight = self.dequantise(x, noise, 16 + draw)  # streams below 16 have other uses
            total = torch.logaddexp(total, self._log_density(v, context) + weight)
        return total - math.log(importance_samples)

    def _generated(self, z: Tensor, context: Tensor | None, *, rounded: bool) -> Tensor:
        v = self.limits.inverse(self.transform.inverse(z, context)[0])[0]
        return v if self.dequantise is None else self.dequantise.inverse(v, rounded=rounded)

    def _sample(self, n: int, condition: Condition, noise: Noise) -> Tensor:
        u = noise.normal(*self.latent_shape, stream=_BASE, dtype=self.dtype)
        return self._generated(self.config.temperature * u, self.embedding(condition, n), rounded=True)

    def _encode(self, x: Tensor, condition: Condition) -> Distribution:
        v = x if self.dequantise is None else self.dequantise.centre(x)
        return Delta(self.transform(self.limits(v)[0], self.embedding(condition, len(x)))[0])

    def _decode(self, z: Tensor, condition: Condition) -> Tensor:
        return self._generated(z, self.embedding(condition, len(z)), rounded=False)

    @torch.no_grad()
    def prepare(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Fit the `ActNorm` layers to the first samples."""
        values, contexts, n = [], [], 0
        for batch in batches():
            noise = Noise(0, torch.arange(n, n + len(batch), device=batch.x.device))
            values.append(self.limits(batch.x if self.dequantise is None else self.dequantise(batch.x, noise, _CELL)[0])[0])
            contexts.append(self.embedding(batch.condition, len(batch)))
            n += len(batch)
            if n >= min(_PREPARED[0], _PREPARED[1] // self.image_spec.numel):
                break
        if not values:
            raise ConfigError("the training data must hold at least one sample to initialise on; got none.")
        known = [context for context in contexts if context is not None]
        initialise(self.transform, torch.cat(values), torch.cat(known) if known else None)

    def phases(self) -> Sequence[Phase]:
        """One player, who maximises the likelihood; none where nothing is learned."""
        parameters = list(self.parameters())
        return [Phase("likelihood", parameters, self._loss)] if parameters else []

    def _loss(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        """Nats per value, so that learning rates carry over from one size to another."""
        nats = -self._log_prob(batch.x, self._seen(batch.condition, step), step.noise, 1).mean() / self.image_spec.numel
        return {"loss": nats, "bits_per_dim": nats.detach() / math.log(2.0)}

    def _seen(self, condition: Condition, step: Step) -> Condition:
        """What of the condition this training step sees."""
        if self.config.condition_dropout == 0 or not self.training:
            return condition
        keep = step.noise.uniform(stream=_HIDE) >= self.config.condition_dropout
        return Condition(condition.values, {name: condition.mask(name) & keep for name in condition.values})
