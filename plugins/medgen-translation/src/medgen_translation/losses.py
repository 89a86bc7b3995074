"""Losses of translators: per voxel, by region, of gradients. y the target, y' the translation, [B, C, *S]."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medgen.errors import ConfigError
from medgen.interfaces import Condition
from medgen.registry import ConditionSpec

__all__ = ["check_weighting", "gradient_difference", "region_mean", "relative_l1", "weighted_mean"]

_REGIONS = "regions"


def gradient_difference(real: Tensor, fake: Tensor) -> Tensor:
    """sum over axes a of mean (|grad_a y| - |grad_a y'|)^2, a scalar; grad_a is the difference of neighbours along a.

    An axis of length 1 has no gradient and adds 0.

    Paper: Medical Image Synthesis with Context-Aware Generative Adversarial Networks (Nie et al., 2017) |
    https://arxiv.org/abs/1612.05362

    >>> y = torch.tensor([[[0.0, 1.0, 3.0]]])
    >>> gradient_difference(y, -y).item(), gradient_difference(y, torch.zeros_like(y)).item()
    (0.0, 2.5)
    """
    total = real.new_zeros(())
    for axis in range(2, real.dim()):
        if real.shape[axis] > 1:
            total = total + (real.diff(dim=axis).abs() - fake.diff(dim=axis).abs()).square().mean()
    return total


def relative_l1(real: Tensor, fake: Tensor, threshold: float) -> Tensor:
    """Mean of |y - y'| over the values with |y - y'| >= threshold |y|, a scalar; 0 where there are none.

    Code: ginobilinie/medSynthesisV1, RelativeThreshold_RegLoss

    >>> relative_l1(torch.tensor([1.0, 2.0]), torch.tensor([1.05, 3.0]), 0.1).item()
    1.0
    """
    error = (real - fake).abs()
    kept = (error >= threshold * real.abs()).to(error.dtype)
    return (error * kept).sum() / kept.sum().clamp(min=1.0)


def region_mean(values: Tensor, regions: Tensor, present: Tensor | None = None) -> Tensor:
    """(1/M_b) sum_r sum_i w_ri v_i / sum_i w_ri of each sample b, [B]: every region counts alike, whatever its size.

    M_b is the number of regions that a sample has; a region absent from it is left out. A sample without regions gets its plain mean.

    Papers: Predicting PET-derived Demyelination from Multimodal MRI using Sketcher-Refiner Adversarial Training for Multiple Sclerosis
    (Wei et al., 2019) | https://doi.org/10.1016/j.media.2019.101546

    Args:
        values: [B, C, *S].
        regions: weights w, e.g. one-hot, [B, R, *S].
        present: whether a sample has regions, bool [B]; by default all do.

    >>> values = torch.tensor([[[4.0, 1.0, 1.0, 1.0]]])
    >>> lesion = torch.tensor([[[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 0.0]]])
    >>> region_mean(values, lesion).tolist()
    [2.5]
    """
    flat, weights = values.flatten(2).mean(1), regions.to(values.dtype).flatten(2)
    if present is not None:
        weights = torch.where(present.view(-1, 1, 1), weights, 0.0)
    size = weights.sum(2)
    has = size > 0
    each = torch.einsum("bs,brs->br", flat, weights) / torch.where(has, size, 1.0)
    count = has.sum(1)
    mean = (each * has).sum(1) / count.clamp(min=1)
    return torch.where(count > 0, mean, flat.mean(1))


def weighted_mean(each: Tensor, condition: Condition, weighting: str) -> Tensor:
    """Errors [B, C, *S] -> [B]: of all voxels alike ("voxels"), or of the regions of the condition alike ("regions", see `region_mean`)."""
    if weighting == "voxels" or _REGIONS not in condition:
        return each.flatten(1).mean(1)
    return region_mean(each, condition.values[_REGIONS], condition.mask(_REGIONS))


def check_weighting(weighting: str, conditions: Sequence[ConditionSpec]) -> None:
    """That there are regions where losses are weighted by them.

    Raises:
        ConfigError: there are none.
    """
    if weighting == _REGIONS and all(spec.name != _REGIONS for spec in conditions):
        raise ConfigError("`weighting` regions needs data with the condition 'regions'; see the data option `regions`.")
