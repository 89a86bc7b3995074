"""`Phase`: one player's turn in training. A VAE has one, a GAN two; a family never writes a loop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from medgen.interfaces.batch import Batch, Step

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
    validate: bool = True
    optimizer: Mapping[str, Any] = field(default_factory=dict)
    after: Callable[[], None] | None = None
    watch: Callable[[int, Mapping[str, float]], bool] | None = None


class PreparesOnData(ABC):
    """A model that looks at training data once before the first step: closed-form fits, data-dependent initialisation, scale factors."""

    @abstractmethod
    def prepare(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Called once, without gradients; each call of `batches` is one fresh pass over the training set, in a fixed order."""
