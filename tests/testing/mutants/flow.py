"""`Flow`, and three sound ones: a conditional Gaussian, couplings in two scales, and a masked autoregressive flow."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
from testing.mutants.config import SmallConfig
from testing.mutants.mutant import Sound
from torch import Tensor, nn

from medgen.interfaces import Batch, Condition, DensityModel, Generator, LatentModel, Noise, Phase, Step
from medgen.maths import Delta, log_standard_normal
from medgen.nn import ConditionEmbedding
from medgen.nn.flow import Chain, Transform, log_det_dtype
from medgen.registry import ConditionSlot

SLOTS = (ConditionSlot(name="label", kind="label"), ConditionSlot(name="attributes", kind="attributes"))


def seen(condition: Condition, noise: Noise) -> Condition:
    """Slots hidden from half of the samples, each on its own, so that the vectors of missing slots are trained too."""
    hidden = {name: noise.uniform(stream=90 + number) < 0.5 for number, name in enumerate(condition.values) if name != "source"}
    return Condition(condition.values, {**condition.present, **{name: condition.mask(name) & ~rows for name, rows in hidden.items()}})


class Flow(Generator, DensityModel, LatentModel):
    """ln p(x|c) = ln N(f(x; c); 0, I) + ln |det df/dx|."""

    log_prob_kind: ClassVar[Literal["exact", "bound", "estimate"]] = "exact"
    config: SmallConfig

    def __init__(self, config, image_spec, conditions=()) -> None:
        super().__init__(config, image_spec, conditions)
        self.embedding = ConditionEmbedding(conditions, config.width)
        self.transform = self.make(image_spec.numel, self.embedding.size)

    @abstractmethod
    def make(self, size: int, context: int) -> Transform:
        """f on [B, size], with context [B, context]."""

    @property
    def latent_shape(self) -> tuple[int, ...]:
        return self.image_spec.size

    def context(self, condition: Condition, n: int) -> Tensor | None:
        return self.embedding(condition, n)

    def draw(self, noise: Noise) -> Tensor:
        return noise.normal(*self.latent_shape, dtype=self.dtype)

    def _log_prob(self, x: Tensor, condition: Condition, noise: Noise, importance_samples: int) -> Tensor:
        z, log_det = self.transform(x.flatten(1), self.context(condition, len(x)))
        return log_standard_normal(z.to(log_det.dtype)).sum(1) + log_det

    def _sample(self, n: int, condition: Condition, noise: Noise) -> Tensor:
        return self._decode(self.draw(noise), condition)

    def _encode(self, x: Tensor, condition: Condition) -> torch.distributions.Distribution:
        return Delta(self.transform(x.flatten(1), self.context(condition, len(x)))[0].view_as(x))

    def _decode(self, z: Tensor, condition: Condition) -> Tensor:
        return self.transform.inverse(z.flatten(1), self.context(condition, len(z)))[0].view_as(z)

    def phases(self) -> Sequence[Phase]:
        return [Phase("likelihood", list(self.parameters()), self.loss)]

    def loss(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        condition = seen(batch.condition, step.noise)
        return {"loss": -self._log_prob(batch.x, condition, step.noise, 1).mean() / self.image_spec.numel}


# ------------------------------------------------------------------------------------------------------- Gaussian


class Affine(Transform):
    """z = (x - mean(context)) / sd(context)."""

    def __init__(self, size: int, context: int) -> None:
        super().__init__()
        self.base = nn.Parameter(torch.zeros(2 * size))
        self.head = nn.Linear(context, 2 * size, bias=False) if context else None

    def moments(self, context: Tensor | None) -> tuple[Tensor, Tensor]:
        found = self.base[None] if context is None or self.head is None else self.base + self.head(context)
        mean, log_sd = found.chunk(2, 1)
        return mean, 2 * torch.tanh(log_sd / 2)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mean, log_sd = self.moments(context)
        return (x - mean) * torch.exp(-log_sd), -summed(log_sd, x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mean, log_sd = self.moments(context)
        return mean + torch.exp(log_sd) * z, summed(log_sd, z)


def summed(log_scale: Tensor, x: Tensor) -> Tensor:
    """Sum over dimensions, [B], in float32 or better."""
    return log_scale.to(log_det_dtype(x.dtype)).sum(1).expand(len(x))


class Gaussian(Flow):
    """N(mean(c), diag sd(c)^2)."""

    def make(self, size: int, context: int) -> Transform:
        return Affine(size, context)


INTERFACES = ("generator", "density", "latent")
EXACT = {"log_prob": "exact", "invertible": True, "conditions": SLOTS}
GAUSSIAN = Sound.of(Gaussian, INTERFACES, SmallConfig, {"width": 3}, spatial_dims=(0,), contents=("features",), **EXACT)


# ------------------------------------------------------------------------------------------------------ couplings


class Coupling(Transform):
    """z = x where the mask is set, exp(s) x + t elsewhere; s, t of the masked x and the context, |s| < 2."""

    def __init__(self, size: int, context: int, width: int, parity: int) -> None:
        super().__init__()
        self.register_buffer("mask", torch.arange(size) % 2 == parity)
        self.inner = nn.Linear(size, width)
        self.context = nn.Linear(context, width) if context else None
        self.outer = nn.Linear(width, 2 * size)

    def raw(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        h = self.inner(torch.where(self.mask, x, 0))
        if context is not None and self.context is not None:
            h = h + self.context(context)
        return self.outer(nn.functional.softplus(h)).chunk(2, 1)

    def parameters_of(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        s, t = self.raw(x, context)
        return torch.where(self.mask, 0, 2 * torch.tanh(s / 2)), torch.where(self.mask, 0, t)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        s, t = self.parameters_of(x, context)
        return torch.exp(s) * x + t, summed(s, x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        s, t = self.parameters_of(z, context)
        return (z - t) * torch.exp(-s), -summed(s, z)


class Split(Transform):
    """The first half of the dimensions leaves after `early`; the rest goes through `late` too."""

    def __init__(self, size: int, early: Transform, late: Transform) -> None:
        super().__init__()
        self.size, self.early, self.late = size // 2, early, late

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        h, first = self.early(x, context)
        rest, second = self.late(h[:, self.size :], context)
        return torch.cat((h[:, : self.size], rest), 1), first + second

    def left(self, z: Tensor) -> Tensor:
        """The latents of the half that left."""
        return z[:, : self.size]

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        rest, second = self.late.inverse(z[:, self.size :], context)
        x, first = self.early.inverse(torch.cat((self.left(z), rest), 1), context)
        return x, first + second


class Couplings(Flow):
    """Affine couplings in two scales."""

    coupling: ClassVar[type[Coupling]] = Coupling
    split: ClassVar[type[Split]] = Split

    def chain(self, size: int, context: int) -> Transform:
        return Chain(self.coupling(size, context, self.config.width, number % 2) for number in range(2 * self.config.layers))

    def make(self, size: int, context: int) -> Transform:
        return self.split(size, self.chain(size, context), self.chain(size - size // 2, context))


COUPLINGS = Sound.of(Couplings, INTERFACES, SmallConfig, {"width": 3, "layers": 1}, spatial_dims=(2,), **EXACT)


# ------------------------------------------------------------------------------------------------- autoregressive


class Autoregressive(Transform):
    """z_d = (x_d - mean_d) / sd_d, with mean and sd of x_1 ... x_{d-1} and the context."""

    def __init__(self, size: int, context: int, width: int) -> None:
        super().__init__()
        degree = torch.arange(width) % max(1, size - 1) + 1
        place = torch.arange(size) + 1
        self.register_buffer("into", degree[:, None] >= place[None, :])
        self.register_buffer("out", (place[:, None] > degree[None, :]).repeat(2, 1))
        self.inner = nn.Linear(size, width)
        self.outer = nn.Linear(width, 2 * size)
        self.to_hidden = nn.Linear(context, width) if context else None
        self.to_output = nn.Linear(context, 2 * size) if context else None  # the first dimension has no hidden unit to hear it from

    def moments(self, x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
        h = nn.functional.linear(x, self.inner.weight * self.into, self.inner.bias)
        h = h if context is None else h + self.to_hidden(context)
        found = nn.functional.linear(torch.tanh(h), self.outer.weight * self.out, self.outer.bias)
        mean, log_sd = self.heard(found, context).chunk(2, 1)
        return mean, 2 * torch.tanh(log_sd / 2)

    def heard(self, found: Tensor, context: Tensor | None) -> Tensor:
        return found if context is None else found + self.to_output(context)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        mean, log_sd = self.moments(x, context)
        return (x - mean) * torch.exp(-log_sd), -summed(log_sd, x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        x, log_sd = torch.zeros_like(z), torch.zeros_like(z)
        for _ in range(z.shape[1]):
            mean, log_sd = self.moments(x, context)
            x = mean + torch.exp(log_sd) * z
        return x, summed(log_sd, z)


class Maf(Flow):
    """Masked autoregressive flow."""

    layer: ClassVar[type[Autoregressive]] = Autoregressive

    def make(self, size: int, context: int) -> Transform:
        return Chain(self.layer(size, context, self.config.width) for _ in range(self.config.layers))


MAF = Sound.of(Maf, INTERFACES, SmallConfig, {"width": 3, "layers": 1}, spatial_dims=(0,), contents=("features",), **EXACT)
