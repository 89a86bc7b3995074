"""Three more sound families, each with a closed form: a linear VAE, a strided sampler over a Gaussian, a linear-Gaussian translator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

import torch
from testing.mutants.config import SamplerConfig, SmallConfig
from testing.mutants.flow import SLOTS, seen
from testing.mutants.mutant import Sound
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal

from medgen.interfaces import Batch, Condition, DensityModel, Generator, LatentModel, Noise, Phase, Step, Translator
from medgen.maths import alpha_bars, kept_steps, kl_standard, linear_betas, log_normal, log_standard_normal, previous_alpha_bars
from medgen.nn import ConditionEmbedding
from medgen.registry import ConditionSlot


class LinearVae(Generator, DensityModel, LatentModel):
    """z ~ N(0, I), x = W z + b(c) + sd e; q(z|x, c) is a diagonal Gaussian with linear mean."""

    log_prob_kind: ClassVar[Literal["exact", "bound", "estimate"]] = "bound"
    config: SmallConfig

    def __init__(self, config, image_spec, conditions=(), targets=()) -> None:
        super().__init__(config, image_spec, conditions, targets)
        size = image_spec.numel
        self.embedding = ConditionEmbedding(conditions, config.width)
        self.encoder = nn.Linear(size + self.embedding.size, config.width)
        self.log_var = nn.Parameter(torch.zeros(config.width))
        self.decoder = nn.Linear(config.width + self.embedding.size, size)
        self.log_noise = nn.Parameter(torch.full((size,), -1.0))
        with torch.no_grad():  # start at the posterior's mean
            self.decoder.weight[:, : config.width] = 1.5 * torch.eye(size, config.width)
            self.encoder.weight[:, :size] = 0.5 * torch.eye(config.width, size)
            self.log_var.fill_(-1.5)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return (self.config.width,)

    def posterior(self, x: Tensor, embedding: Tensor | None) -> tuple[Tensor, Tensor]:
        mean = self.encoder(joined(x.flatten(1), embedding))
        return mean, self.log_var.expand_as(mean)

    def mean(self, z: Tensor, embedding: Tensor | None) -> Tensor:
        return self.decoder(joined(z, embedding))

    def _encode(self, x: Tensor, condition: Condition) -> Distribution:
        mean, log_var = self.posterior(x, self.embedding(condition, len(x)))
        return Independent(Normal(mean, torch.exp(0.5 * log_var), validate_args=False), 1, validate_args=False)

    def _decode(self, z: Tensor, condition: Condition) -> Tensor:
        return self.mean(z, self.embedding(condition, len(z))).view(-1, *self.image_spec.size)

    def _sample(self, n: int, condition: Condition, noise: Noise) -> Tensor:
        x = self._decode(noise.normal(*self.latent_shape, dtype=self.dtype), condition)
        sd = torch.exp(0.5 * self.log_noise).view(self.image_spec.size)
        return x + sd * noise.normal(*self.image_spec.size, stream=1, dtype=self.dtype)

    def _log_prob(self, x: Tensor, condition: Condition, noise: Noise, importance_samples: int) -> Tensor:
        """ELBO, or the bound of K importance samples."""
        embedding = self.embedding(condition, len(x))
        mean, log_var = self.posterior(x, embedding)
        eps = noise.normal(importance_samples, self.config.width, stream=2, dtype=x.dtype)
        z = mean[:, None] + torch.exp(0.5 * log_var)[:, None] * eps
        repeated = None if embedding is None else embedding[:, None].expand(-1, importance_samples, -1)
        likelihood = log_normal(x.flatten(1)[:, None], self.mean(z, repeated), self.log_noise).sum(2)
        if importance_samples == 1:
            return likelihood[:, 0] - self.penalty(mean, log_var)
        weights = likelihood + (log_standard_normal(z) - log_normal(z, mean[:, None], log_var[:, None])).sum(2)
        return torch.logsumexp(weights, 1) - torch.log(torch.tensor(float(importance_samples)))

    def penalty(self, mean: Tensor, log_var: Tensor) -> Tensor:
        return kl_standard(mean, log_var).sum(1)

    def phases(self) -> Sequence[Phase]:
        return [Phase("elbo", list(self.parameters()), self.loss)]

    def loss(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        condition = seen(batch.condition, step.noise)
        return {"loss": -self._log_prob(batch.x, condition, step.noise, 1).mean() / self.image_spec.numel}


def joined(x: Tensor, embedding: Tensor | None) -> Tensor:
    """Features side by side."""
    return x if embedding is None else torch.cat((x, embedding), -1)


LINEAR_VAE = Sound.of(
    LinearVae,
    ("generator", "density", "latent"),
    SmallConfig,
    {"width": 2},
    spatial_dims=(0,),
    contents=("features",),
    conditions=SLOTS,
    log_prob="bound",
)


class Sampler(Generator, DensityModel):
    """Ancestral sampling by `kept` of `total` steps, with the exact score of N(mean(c), sd(c)^2) for a network.

    Every step is linear and Gaussian, so that what comes out is Gaussian, and its density known.
    """

    log_prob_kind: ClassVar[Literal["exact", "bound", "estimate"]] = "exact"
    config: SamplerConfig

    def __init__(self, config, image_spec, conditions=()) -> None:
        super().__init__(config, image_spec, conditions)
        self.embedding = ConditionEmbedding(conditions, config.width)
        self.base = nn.Parameter(torch.tensor([0.3, -1.4]).repeat_interleave(image_spec.numel))
        self.head = nn.Linear(self.embedding.size, 2 * image_spec.numel, bias=False) if conditions else None
        self.taken, self.meant = self.schedule(self.previous), self.schedule(previous_alpha_bars)

    def moments(self, condition: Condition, n: int) -> tuple[Tensor, Tensor]:
        """Mean and variance of the data, [n, D]."""
        embedding = self.embedding(condition, n)
        found = self.base.expand(n, -1) if self.head is None else self.base + self.head(embedding)
        mean, log_var = found.chunk(2, 1)
        return mean, torch.exp(3 * torch.tanh(log_var / 3))

    @staticmethod
    def previous(bars: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """abar of every kept step, and of the one that sampling goes to from there."""
        return previous_alpha_bars(bars, kept)

    def schedule(self, previous: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]) -> list[tuple[float, float]]:
        """(abar_t, abar_s) of each step from t to the kept step s before it, noisiest first."""
        bars = alpha_bars(linear_betas(self.config.total))
        pairs = previous(bars, kept_steps(self.config.total, self.config.kept, "trailing"))
        return list(zip(*(part.flip(0).tolist() for part in pairs), strict=True))

    @staticmethod
    def step(at: float, before: float, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor, float]:
        """Factor, summand and variance of x_s given x_t."""
        alpha = at / before
        total = at * var + 1 - at
        denoised = (at**0.5 * var / total, (1 - at) * mean / total)  # E[x_0 | x_t], as a factor of x_t and a summand
        of_0, of_t = before**0.5 * (1 - alpha) / (1 - at), alpha**0.5 * (1 - before) / (1 - at)
        return of_0 * denoised[0] + of_t, of_0 * denoised[1], (1 - before) / (1 - at) * (1 - alpha)

    def _sample(self, n: int, condition: Condition, noise: Noise) -> Tensor:
        mean, var = self.moments(condition, n)
        size = self.image_spec.numel
        x = noise.normal(size, dtype=self.dtype)
        for number, (at, before) in enumerate(self.taken, 1):
            factor, summand, spread = self.step(at, before, mean, var)
            x = factor * x + summand + spread**0.5 * noise.normal(size, stream=number, dtype=self.dtype)
        return x.view(n, *self.image_spec.size)

    def _log_prob(self, x: Tensor, condition: Condition, noise: Noise, importance_samples: int) -> Tensor:
        mean, var = self.moments(condition, len(x))
        m, v = torch.zeros_like(mean), torch.ones_like(var)
        for at, before in self.meant:
            factor, summand, spread = Sampler.step(at, before, mean, var)
            m, v = factor * m + summand, factor.square() * v + spread
        return log_normal(x.flatten(1), m, v.log()).sum(1)

    def phases(self) -> Sequence[Phase]:
        return [Phase("likelihood", list(self.parameters()), self.loss)]

    def loss(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        condition = seen(batch.condition, step.noise)
        return {"loss": -self._log_prob(batch.x, condition, step.noise, 1).mean() / self.image_spec.numel}


SAMPLER = Sound.of(
    Sampler,
    ("generator", "density"),
    SamplerConfig,
    {"width": 2, "kept": 10},
    spatial_dims=(0,),
    contents=("features",),
    conditions=SLOTS,
    log_prob="exact",
)


class Categorical(Generator, DensityModel):
    """Each voxel's class on its own, one-hot, with probabilities that depend on the condition."""

    log_prob_kind: ClassVar[Literal["exact", "bound", "estimate"]] = "exact"
    log_prob_measure = "mass"
    config: SmallConfig

    def __init__(self, config, image_spec, conditions=()) -> None:
        super().__init__(config, image_spec, conditions)
        self.embedding = ConditionEmbedding(conditions, config.width)
        self.base = nn.Parameter(torch.zeros(image_spec.size))
        self.head = nn.Linear(self.embedding.size, image_spec.numel, bias=False) if conditions else None

    def log_shares(self, condition: Condition, n: int) -> Tensor:
        """Log-probability of each class, [n, C, *S]."""
        logits = self.base.expand(n, *self.image_spec.size)
        return (logits if self.head is None else logits + self.head(self.embedding(condition, n)).view_as(logits)).log_softmax(1)

    def _sample(self, n: int, condition: Condition, noise: Noise) -> Tensor:
        u = noise.uniform(*self.image_spec.size, dtype=self.dtype)
        chosen = (self.log_shares(condition, n) - torch.log(-torch.log(u))).argmax(1)
        return nn.functional.one_hot(chosen, self.image_spec.channels).movedim(-1, 1).to(self.dtype)

    def _log_prob(self, x: Tensor, condition: Condition, noise: Noise, importance_samples: int) -> Tensor:
        return (x * self.log_shares(condition, len(x)).to(x.dtype)).flatten(1).sum(1)

    def phases(self) -> Sequence[Phase]:
        return [Phase("likelihood", list(self.parameters()), self.loss)]

    def loss(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        condition = seen(batch.condition, step.noise)
        return {"loss": -self._log_prob(batch.x, condition, step.noise, 1).mean() / self.image_spec.numel}


CATEGORICAL = Sound.of(
    Categorical,
    ("generator", "density"),
    SmallConfig,
    {"width": 3},
    spatial_dims=(1,),
    contents=("labels",),
    conditions=SLOTS,
    log_prob="exact",
)


class LinearTranslator(Translator):
    """y ~ N(A x + b(c), sd^2), the same A at every voxel; paired."""

    stochastic = True
    config: SmallConfig

    def __init__(self, config, image_spec, conditions=()) -> None:
        super().__init__(config, image_spec, conditions)
        self.required_conditions = ("source",)
        others = [slot for slot in conditions if slot.name != "source"]
        source = next(slot for slot in conditions if slot.name == "source")
        self.mix = nn.Parameter(torch.full((image_spec.channels, source.size), 1.0 / source.size))
        self.embedding = ConditionEmbedding(others, config.width)
        self.bias = nn.Linear(self.embedding.size, image_spec.channels) if others else None
        self.log_var = nn.Parameter(torch.full((image_spec.channels,), -2.0))

    def mean(self, x: Tensor, condition: Condition) -> Tensor:
        y = torch.einsum("oc,bc...->bo...", self.mix, x)
        if self.bias is None:
            return y
        return y + self.per_channel(self.bias(self.embedding(condition, len(x))))

    def per_channel(self, value: Tensor) -> Tensor:
        return value.view(-1, self.image_spec.channels, *[1] * self.image_spec.dim)

    def _translate(self, x: Tensor, condition: Condition, noise: Noise | None) -> Tensor:
        y = self.mean(x, condition)
        if noise is None:
            return y
        return y + torch.exp(0.5 * self.per_channel(self.log_var)) * noise.normal(*self.image_spec.size, dtype=self.dtype)

    def phases(self) -> Sequence[Phase]:
        return [Phase("likelihood", list(self.parameters()), self.loss)]

    def loss(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        y = self.mean(batch.condition.values["source"], seen(batch.condition, step.noise))
        return {"loss": -log_normal(batch.x, y, self.per_channel(self.log_var)).mean()}


LINEAR_TRANSLATOR = Sound.of(
    LinearTranslator,
    ("translator",),
    SmallConfig,
    {"width": 3},
    spatial_dims=(2,),
    conditions=(ConditionSlot(name="source", kind="image", required=True), SLOTS[0]),
    training="paired",
)
