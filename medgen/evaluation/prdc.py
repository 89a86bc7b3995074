"""Precision, recall, density and coverage: which generated samples lie among the real ones, and which real ones are reached.

All four count memberships of balls around samples, whose radius is the distance to the k-th nearest other sample of the same set.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medgen.errors import DataError
from medgen.evaluation.distances import blocks, check_features, radii, squared_distances
from medgen.evaluation.plan import metric_plan

__all__ = ["coverage", "density", "precision", "recall"]

_UNEQUAL = 1.1  # sizes that differ by more get a warning


def _advice(real: int, fake: int, features: int) -> str:  # noqa: ARG001
    if max(real, fake) > _UNEQUAL * min(real, fake):
        return f"n real = {real} and n generated = {fake} differ: balls shrink as sets grow, so compare at equal sizes only"
    return f"n = {min(real, fake)} < 100: balls are large and the figure is coarse" if min(real, fake) < 100 else ""


@metric_plan(recipe={"k": 3, "definition": "generated inside any real k-ball"}, limits=(0.0, 1.0), least=4, advice=_advice)
def precision(real: Tensor, fake: Tensor, *, k: int = 3) -> float:
    """Share of generated samples y with |y - x_i| <= r_k(x_i) for some real x_i.

    Args:
        real: features [N, F].
        fake: features [M, F].
        k: which neighbour sets the radius.

    Raises:
        DataError: fewer than k + 1 rows, other columns, or values that are not finite.

    Paper: Improved Precision and Recall Metric for Assessing Generative Models (Kynkaanniemi et al., 2019) | https://arxiv.org/abs/1904.06991

    >>> real = torch.arange(6.0)[:, None]
    >>> precision(real, torch.tensor([[2.5], [3.5], [40.0], [50.0]]))
    0.5
    """
    real, fake = _checked(real, fake, k)
    return _share_inside_any(real, fake, k)


@metric_plan(recipe={"k": 3, "definition": "real inside any generated k-ball"}, limits=(0.0, 1.0), least=4, advice=_advice)
def recall(real: Tensor, fake: Tensor, *, k: int = 3) -> float:
    """Share of real samples x with |x - y_j| <= r_k(y_j) for some generated y_j: `precision` with the sets exchanged.

    >>> real = torch.arange(6.0)[:, None]
    >>> recall(real, real[:4] / 10)
    0.16666666666666666
    """
    real, fake = _checked(real, fake, k)
    return _share_inside_any(fake, real, k)


@metric_plan(
    recipe={"k": 5, "definition": "real k-balls around a generated sample, / k"},
    limits=(0.0, math.inf),
    least=6,
    advice=_advice,
)
def density(real: Tensor, fake: Tensor, *, k: int = 5) -> float:
    """(1 / (k M)) sum_j sum_i [|y_j - x_i| < r_k(x_i)]: about 1 for equal sets, more where y crowds into dense parts.

    Paper: Reliable Fidelity and Diversity Metrics for Generative Models (Naeem et al., 2020) | https://arxiv.org/abs/2002.09797

    >>> real = torch.arange(8.0)[:, None]
    >>> density(real, torch.full((6, 1), 3.5))
    1.6
    """
    real, fake = _checked(real, fake, k)
    radius = radii(real, k)
    inside = sum(float((squared_distances(fake[rows], real) < radius).sum()) for rows in blocks(len(fake), len(real)))
    return inside / (k * len(fake))


@metric_plan(recipe={"k": 5, "definition": "real k-balls that hold a generated sample"}, limits=(0.0, 1.0), least=6, advice=_advice)
def coverage(real: Tensor, fake: Tensor, *, k: int = 5) -> float:
    """(1 / N) sum_i [min_j |y_j - x_i| < r_k(x_i)]: share of real samples with a generated one nearer than their k-th neighbour.

    Its expectation for equal distributions and N = M is 1 - (N - 1) ... (N - k) / ((2N - 1) ... (2N - k)), about 1 - 2^-k.

    Paper: as `density`.

    >>> real = torch.arange(8.0)[:, None]
    >>> coverage(real, torch.full((6, 1), -3.5))  # in the ball of 0 only
    0.125
    """
    real, fake = _checked(real, fake, k)
    radius = radii(real, k)
    reached = [(squared_distances(real[rows], fake) < radius[rows, None]).any(1) for rows in blocks(len(real), len(fake))]
    return float(torch.cat(reached).double().mean())


def _checked(real: Tensor, fake: Tensor, k: int) -> tuple[Tensor, Tensor]:
    if k < 1:
        raise DataError(f"`k` must be at least 1; got {k}.")
    return check_features(real, fake, k + 1)


def _share_inside_any(centres: Tensor, points: Tensor, k: int) -> float:
    radius = radii(centres, k)
    inside = [(squared_distances(points[rows], centres) <= radius).any(1) for rows in blocks(len(points), len(centres))]
    return float(torch.cat(inside).double().mean())
