"""`Phase`: one player's turn in training. A VAE has one, a GAN two; a family never writes a loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from medgen.errors import ConfigError
from medgen.interfaces.batch import Batch, Step
from medgen.interfaces.noise import Noise

__all__ = ["Phase", "PreparesOnData"]


@dataclass(frozen=True)
class Phase:
    """What one player minimises, over which parameters, and how often.

    Args:
        name: appears in logs; unique within the model.
        parameters: what the phase's optimizer updates; phases may not share parameters.
        loss: (batch, step) -> scalars by name; "loss" is minimised, the others are logged.
        every: runs at steps divisible by this.
        repeat: updates per turn, each on a fresh batch (k discriminator steps).
        span: the part of the training in which it runs, from one share of the steps up to another, for models whose parts learn one after
            the other. Its steps, and with them `every`, `watch`, its learning rate and `Step`, count within that part.
        validate: its loss can be evaluated without gradients, on validation data.
        optimizer: overrides of the training configuration: "optimizer", "lr", "betas", "weight_decay".
        after: called after each update, e.g. to clip a critic's weights.
        watch: called at each logged step with its number and the phase's logged scalars by name, means over all devices; true ends training
            after this step, as early stopping does.
    """

    name: str
    parameters: Sequence[nn.Parameter]
    loss: Callable[[Batch, Step], Mapping[str, Tensor]]
    every: int = 1
    repeat: int = 1
    span: tuple[float, float] = (0.0, 1.0)
    validate: bool = True
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    after: Callable[[], None] | None = None
    watch: Callable[[int, Mapping[str, float]], bool] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.span[0] < self.span[1] <= 1:
            raise ConfigError(f"phase {self.name!r}: `span` must be two shares of the training, 0 <= from < to <= 1; got {self.span}.")

    def steps(self, total: int) -> range:
        """The steps of its span, of a training of `total`.

        >>> Phase("refiner", [], lambda batch, step: {}, span=(0.5, 1.0)).steps(5)
        range(2, 5)
        """
        return range(round(self.span[0] * total), round(self.span[1] * total))

    def step(self, number: int, total: int, noise: Noise) -> Step:
        """Step `number` of a training of `total`, as its loss counts it."""
        steps = self.steps(total)
        return Step(number - steps.start, len(steps), noise)


class PreparesOnData(ABC):
    """A model that looks at training data once before the first step: closed-form fits, data-dependent initialisation, scale factors."""

    @abstractmethod
    def prepare(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Called once, without gradients; each call of `batches` is one fresh pass over the training set, in a fixed order."""
