"""`Model`, the base of every family, and the verbs a family may have.

The public verbs are final: they check the input, fix the mode and the micro-batches, and call the one abstract hook that the family writes
(`_sample`, `_log_prob`, `_translate`, `_encode`, `_decode`).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import Literal, final

import torch
from torch import Tensor, nn

from medgen.errors import ConfigError, DataError
from medgen.interfaces.batch import Batch
from medgen.interfaces.condition import Condition, check_condition
from medgen.interfaces.noise import Noise, as_noise
from medgen.interfaces.phases import Phase
from medgen.registry import ConditionSpec, ImageSpec
from medgen.registry.config import Config

__all__ = ["DensityModel", "Generator", "LatentModel", "Model", "Translator", "evaluating"]


class Model(nn.Module, ABC):
    """Base of every family: an `nn.Module` that knows its config, its arrays and its conditions.

    Args:
        config: the family's configuration.
        image_spec: of the arrays it models; for translators, of the output.
        conditions: the concrete slots; for translators slot "source" is the input image.
        targets: the concrete slots that only its losses see, in `batch.targets`; a family that declares none takes no such argument.
    """

    family: str = ""
    """`distribution/name`, set by `medgen.create`; `medgen.save` writes it."""

    required_conditions: tuple[str, ...] = ()
    """Slots without which the model cannot work."""

    output_range: tuple[float, float] | None = None
    """Interval that the model can produce, set by families with a bounded output; training checks the data against it at step 0."""

    def __init__(
        self, config: Config, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = (), targets: Sequence[ConditionSpec] = ()
    ) -> None:
        super().__init__()
        self.config = config
        self.image_spec = image_spec
        self.conditions = tuple(conditions)
        self.targets = tuple(targets)

    @abstractmethod
    def phases(self) -> Sequence[Phase]:
        """The players, in the order of their turns. Empty for closed-form families, which implement `PreparesOnData`."""

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next((p.device for p in chain(self.parameters(), self.buffers())), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Floating type of the parameters."""
        return next((p.dtype for p in chain(self.parameters(), self.buffers()) if p.is_floating_point()), torch.float32)

    @final
    def condition_spec(self, name: str) -> ConditionSpec | None:
        """The concrete slot called `name`, if this model has it."""
        return next((spec for spec in self.conditions if spec.name == name), None)

    @final
    def select(self, batch: Batch) -> Batch:
        """The batch with only the slots that this model has, its conditions apart from its targets, in its floating type."""
        given = Condition({**batch.condition.values, **batch.targets.values}, {**batch.condition.present, **batch.targets.present}).to(
            batch.x.device, self.dtype
        )
        condition, targets = (given.only(spec.name for spec in specs) for specs in (self.conditions, self.targets))
        return Batch(batch.x.to(dtype=self.dtype), condition, batch.index, targets)

    @final
    def _checked(self, condition: Condition | None, n: int) -> Condition:
        condition = check_condition(condition, self.conditions, self.required_conditions, n)
        return condition.to(self.device, self.dtype) if condition.values else condition

    @final
    def _checked_x(self, x: Tensor, spec: ImageSpec, name: str = "x") -> Tensor:
        if tuple(x.shape[1:]) != spec.size:
            raise DataError(f"`{name}` must have shape [B, {', '.join(map(str, spec.size))}]; got {tuple(x.shape)}.")
        if not x.is_floating_point():
            raise DataError(f"`{name}` must be floating, in model units (see `ImageSpec.intensity`); got {x.dtype}.")
        like = next((p for p in chain(self.parameters(), self.buffers()) if p.is_floating_point()), None)
        return x.to(self.device, self.dtype) if like is None else x.to(like.device, like.dtype)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the previous mode of every module comes back."""
    modes = [(module, module.training) for module in model.modules()]
    if any(mode for _, mode in modes):
        model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            if module.training != mode:  # setting an attribute of a module is slow
                module.training = mode


class Generator(Model):
    """A model that draws samples."""

    @abstractmethod
    def _sample(self, n: int, condition: Condition, noise: Noise) -> Tensor:
        """n samples [n, C, *S] in model units; every random number from `noise`. Called in evaluation mode without gradients."""

    @final
    def sample(self, n: int, *, condition: Condition | None = None, noise: Noise | int = 0, micro_batch: int = 64) -> Tensor:
        """Draw n samples [n, C, *S] in model units.

        Sample i depends on (weights, seed, i, condition i) only: not on n, the number of devices or the global RNG.

        Args:
            n: how many.
            condition: of the n samples.
            noise: a seed (samples 0..n-1), or the noise of n chosen samples.
            micro_batch: samples that go through the network at once; the same division gives the same bits, others agree to rounding.

        Raises:
            ConditionError: the condition does not fit.
        """
        if n < 0:
            raise ConfigError(f"`n` must not be negative; got {n}.")
        device = self.device
        checked = self._checked(condition, n)
        source = as_noise(noise, n, device)
        with evaluating(self):
            parts = [self._sample(r.stop - r.start, checked[r], source[r]) for r in cells(n, micro_batch)]
        return torch.cat(parts) if parts else torch.empty(0, *self.image_spec.size, device=device, dtype=self.dtype)


class DensityModel(Model):
    """A model with a log-density, exact, bounded from below, or estimated."""

    log_prob_kind: Literal["exact", "bound", "estimate"]
    """What `log_prob` is. Of the family, or of the model where its configuration decides."""

    log_prob_measure: Literal["density", "mass"] = "density"
    """Density with respect to model units, which changes with the units; or probability mass of discrete values, which does not."""

    @abstractmethod
    def _log_prob(self, x: Tensor, condition: Condition, noise: Noise, importance_samples: int) -> Tensor:
        """ln p(x | condition) in nats, [B], differentiable; every random number from `noise`."""

    @final
    def log_prob(self, x: Tensor, *, condition: Condition | None = None, noise: Noise | int = 0, importance_samples: int = 1) -> Tensor:
        """ln p(x | condition) in nats, [B], with respect to the model's units. `log_prob_kind` says what the number is.

        Args:
            x: [B, C, *S] in model units.
            condition: of the B samples.
            noise: of bounds and estimates; exact densities ignore it.
            importance_samples: draws per x of bounds and estimates.

        Raises:
            DataError, ConditionError: input that does not fit.
        """
        x = self._checked_x(x, self.image_spec)
        if importance_samples < 1:
            raise ConfigError(f"`importance_samples` must be at least 1; got {importance_samples}.")
        return self._log_prob(x, self._checked(condition, len(x)), as_noise(noise, len(x), x.device), importance_samples)

    @final
    def bits_per_dim(self, log_prob: Tensor) -> Tensor:
        """-log_prob / (D ln 2): bits per value in model units."""
        return -log_prob / (self.image_spec.numel * math.log(2.0))


class Translator(Model):
    """A model that turns a source image into a target image on the same grid."""

    stochastic: bool = False
    """Whether `translate` with noise draws one of several translations; else the noise is ignored. Of the family, or of the model."""

    @property
    @final
    def source_spec(self) -> ImageSpec:
        """Spec of the input: the image of condition slot "source"."""
        spec = self.condition_spec("source")
        if spec is None or spec.image is None:
            raise DataError("a translator must be created with a condition slot 'source' of kind 'image'.")
        return spec.image

    @abstractmethod
    def _translate(self, x: Tensor, condition: Condition, noise: Noise | None) -> Tensor:
        """[B, C', *S] in model units. Called in evaluation mode without gradients."""

    @final
    def translate(self, x: Tensor, *, condition: Condition | None = None, noise: Noise | int | None = None) -> Tensor:
        """Translate x [B, C, *S] into [B, C', *S]; spacing and affine are those of x.

        Args:
            x: source images in model units.
            condition: other slots than "source".
            noise: a seed or noise for one random translation; None for the deterministic one.
        """
        x = self._checked_x(x, self.source_spec)
        given = Condition() if condition is None else condition
        full = Condition({**given.values, "source": x}, given.present)
        with evaluating(self):
            return self._translate(x, self._checked(full, len(x)), None if noise is None else as_noise(noise, len(x), x.device))


class LatentModel(Model):
    """A model with a latent space."""

    @abstractmethod
    def _encode(self, x: Tensor, condition: Condition) -> torch.distributions.Distribution:
        """q(z | x, condition), with batch shape [B] and event shape `latent_shape`."""

    @abstractmethod
    def _decode(self, z: Tensor, condition: Condition) -> Tensor:
        """The most typical x [B, C, *S] of z [B, *latent_shape], differentiable."""

    @property
    @abstractmethod
    def latent_shape(self) -> tuple[int, ...]:
        """Shape of one latent."""

    @final
    def encode(self, x: Tensor, *, condition: Condition | None = None) -> torch.distributions.Distribution:
        """q(z | x, condition): a distribution with `mean` and `rsample`, batch shape [B]."""
        x = self._checked_x(x, self.image_spec)
        return self._encode(x, self._checked(condition, len(x)))

    @final
    def decode(self, z: Tensor, *, condition: Condition | None = None) -> Tensor:
        """The most typical x [B, C, *S] of z [B, *latent_shape], in model units."""
        if tuple(z.shape[1:]) != self.latent_shape:
            raise DataError(f"`z` must have shape [B, {', '.join(map(str, self.latent_shape))}]; got {tuple(z.shape)}.")
        return self._decode(z.to(self.device, self.dtype), self._checked(condition, len(z)))

    @final
    def reconstruct(self, x: Tensor, *, condition: Condition | None = None) -> Tensor:
        """decode(mean of encode(x)), without gradients and in evaluation mode."""
        with evaluating(self):
            return self.decode(self.encode(x, condition=condition).mean, condition=condition)


def cells(n: int, size: int) -> Iterator[slice]:
    """The micro-batches of n samples.

    Raises:
        ConfigError: `size` is not positive.
    """
    if size < 1:
        raise ConfigError(f"`micro_batch` must be at least 1; got {size}.")
    return (slice(start, min(start + size, n)) for start in range(0, n, size))
