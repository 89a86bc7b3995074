"""One player's turn: what its loss is given, and who is frozen meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from medgen.interfaces import Batch, Model, Phase, Step
from medgen.training.compiled import Losses

__all__ = ["PhaseModule", "Piece", "only"]


class Piece:
    """One phase's share of a batch on this rank. A plain class, since Fabric's conversion of inputs refuses frozen dataclasses."""

    def __init__(self, phase: Phase, batch: Batch, step: Step, seed: int) -> None:
        self.phase, self.batch, self.step, self.seed = phase, batch, step, seed


class PhaseModule(nn.Module):
    """Gives every phase's loss one `forward`, which is what distributed wrappers and autocast act on."""

    def __init__(self, model: Model, losses: Losses) -> None:
        super().__init__()
        self.model, self._losses = model, losses

    def forward(self, piece: Piece) -> dict[str, Tensor]:
        """The losses of one piece, by name."""
        return dict(self._losses[piece.phase](piece.batch, piece.step))


@contextmanager
def only(model: Model, parameters: Sequence[nn.Parameter]) -> Iterator[None]:
    """Gradients for one player only; the others' parameters are constants for the time being."""
    chosen = {id(p) for p in parameters}
    others = [p for p in model.parameters() if p.requires_grad and id(p) not in chosen]
    for parameter in others:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in others:
            parameter.requires_grad_(True)
