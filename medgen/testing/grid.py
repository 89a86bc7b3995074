"""Grids over the plane, and functions evaluated on many points."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["box_of", "evaluate", "lattice"]


def box_of(points: Tensor, *, within: tuple[float, float] | None = None) -> tuple[Tensor, Tensor]:
    """A box [D], [D] around points [N, ...] with a margin of six standard deviations and four units, or as far as values go."""
    flat = points.flatten(1)
    margin = 6 * flat.std(0) + 4
    low, high = flat.amin(0) - margin, flat.amax(0) + margin
    return (low, high) if within is None else (low.clamp(min=within[0]), high.clamp(max=within[1]))


def lattice(low: Tensor, high: Tensor, sides: int) -> tuple[Tensor, float]:
    """Midpoints of sides^D equal cells of a box [sides^D, D], the last axis fastest, and the volume of one cell.

    >>> lattice(torch.zeros(1), torch.ones(1), 2)
    (tensor([[0.2500],
            [0.7500]], dtype=torch.float64), 0.5)
    """
    step = (high - low).double() / sides
    axes = [low[i].double() + step[i] * (torch.arange(sides, dtype=torch.float64) + 0.5) for i in range(len(low))]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, len(low)), step.prod().item()


def evaluate(function: Callable[[Tensor], Tensor], points: Tensor, chunk: int = 8192) -> Tensor:
    """`function` of points [N, ...], a chunk at a time."""
    return torch.cat([function(part) for part in points.split(chunk)])
