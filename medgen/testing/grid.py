"""Grids over the plane, functions evaluated on many points, and what statistics the laws need."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from scipy.stats import chi2
from torch import Tensor

from medgen.testing.expect import expect

__all__ = ["box_of", "chi_square", "evaluate", "lattice", "log_student"]

_CHANCE = 1e-6  # of a false alarm, were the seeds not fixed


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


def log_student(u: Tensor, nu: float) -> Tensor:
    """ln density of the standard Student t with nu degrees of freedom at u [N, D], [N]."""
    d = u.shape[1]
    constant = math.lgamma((nu + d) / 2) - math.lgamma(nu / 2) - d / 2 * math.log(nu * math.pi)
    return constant - (nu + d) / 2 * torch.log1p(u.square().sum(1) / nu)


def chi_square(counts: Tensor, chances: Tensor, what: str) -> None:
    """Raise AssertionError where counts are not those of the chances; cells with fewer than 8 expected are pooled."""
    expected = chances * counts.sum()
    rare = expected < 8
    pooled = [torch.cat((v[~rare], v[rare].sum()[None])) for v in (counts, expected)]
    keep = pooled[1] > 1e-6
    statistic = ((pooled[0] - pooled[1]).square()[keep] / pooled[1][keep]).sum().item()
    chance = float(chi2.sf(statistic, max(1, int(keep.sum()) - 1)))
    expect(chance > _CHANCE, f"{what} must agree; chi-square is {statistic:.0f} over {int(keep.sum())} cells, chance {chance:.1g}.")
