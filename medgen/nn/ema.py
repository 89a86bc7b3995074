"""Exponential moving average of a model's parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["EMA"]


class EMA:
    """average <- d average + (1 - d) parameter after every step, with d = min(decay, (1 + steps) / (10 + steps)).

    The rising d forgets the random initial weights quickly. Parameters are averaged; buffers are used as they are.

    Args:
        model: whose trainable parameters are averaged.
        decay: in [0, 1).
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self._live = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.averages: dict[str, Tensor] = {name: p.detach().clone() for name, p in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Call once per optimizer step."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(list(self.averages.values()), [p.detach() for p in self._live.values()], 1.0 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the model holds the averages."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for name, parameter in self._live.items():
            average = self.averages[name]
            held = parameter.detach().clone()
            parameter.copy_(average)
            average.copy_(held)
