"""`play`: the phases of a model in turn on points in memory, with a look at it now and then."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from medgen.interfaces import Batch, Model, Noise, Step

__all__ = ["play"]

_ROW = 6  # noise stream of which points a batch has


def play(model: Model, points: Tensor, *, steps: int, batch_size: int, every: int, seed: int = 0) -> Iterator[int]:
    """Train by Adam at rates that fall linearly to 0; yields the number of steps done, first 0, then each time `every` more are done.

    Args:
        model: its phases say who updates what, how often and at which rate; one without a rate has 1e-3.
        points: the data [N, C].
        steps: turns of all phases.
        batch_size: points per update, drawn with replacement.
        every: steps between looks.
        seed: of every random number.
    """
    phases = list(model.phases())
    optimizers = [
        torch.optim.Adam(p.parameters, p.optimizer.get("lr", 1e-3), betas=p.optimizer.get("betas", (0.9, 0.999)), fused=True)
        for p in phases
    ]
    row = 0
    yield 0
    peaks = [optimizer.param_groups[0]["lr"] for optimizer in optimizers]
    for number in range(steps):
        for optimizer, peak in zip(optimizers, peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * (1.0 - number / steps)
        for phase, optimizer in zip(phases, optimizers, strict=True):
            for _ in range(phase.repeat):
                noise = Noise(seed, torch.arange(row, row + batch_size))
                row += batch_size
                batch = Batch(points[noise.integers(len(points), stream=_ROW)])
                _update(phase.loss(batch, Step(number, steps, noise))["loss"], optimizer)
                if phase.after is not None:
                    phase.after()
        if (number + 1) % every == 0 or number + 1 == steps:
            yield number + 1


def _update(loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
    own: list[Tensor] = [p for group in optimizer.param_groups for p in group["params"]]
    for p, gradient in zip(own, torch.autograd.grad(loss, own, allow_unused=True), strict=True):
        p.grad = gradient
    optimizer.step()
