"""Metrics of pairs: one figure per sample, [B, C, *S] x [B, C, *S] -> [B], in 1-D, 2-D and 3-D. All in float64.

Every function takes `value_range` (a, b), the interval of the units that the arrays are in, and an optional `mask`: True where voxels
count, [B, 1 or C, *S]. Images are measured from a, so that the figures do not depend on whether the units are [0, 1] or [-1, 1].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medgen.errors import DataError
from medgen.evaluation.plan import metric_plan

__all__ = ["checked_pair", "mae", "masked_mean", "mse", "psnr", "psnr_image_max"]

Range = tuple[float, float]


@metric_plan(recipe={"definition": "mean |real - fake| over the voxels of a sample"}, limits=(0.0, math.inf))
def mae(real: Tensor, fake: Tensor, *, value_range: Range = (0.0, 1.0), mask: Tensor | None = None) -> Tensor:
    """(1/N) sum_i |x_i - y_i| of each sample, [B], in the units of the arrays: in HU if they are in HU.

    Args:
        real: [B, C, *S].
        fake: the same shape.
        value_range: not used by this metric.
        mask: True where voxels count, [B, 1 or C, *S].

    Raises:
        DataError: shapes that differ, values that are not finite, or a mask that is empty for some sample.

    >>> mae(torch.zeros(1, 1, 2), torch.tensor([[[1.0, -3.0]]])).tolist()
    [2.0]
    """
    real, fake, mask = checked_pair(real, fake, value_range, mask)
    return masked_mean((real - fake).abs(), mask)


@metric_plan(recipe={"definition": "mean (real - fake)^2 over the voxels of a sample"}, limits=(0.0, math.inf))
def mse(real: Tensor, fake: Tensor, *, value_range: Range = (0.0, 1.0), mask: Tensor | None = None) -> Tensor:
    """(1/N) sum_i (x_i - y_i)^2 of each sample, [B], in squared units of the arrays. Arguments and errors as `mae`.

    >>> mse(torch.zeros(1, 1, 2), torch.tensor([[[1.0, -3.0]]])).tolist()
    [5.0]
    """
    real, fake, mask = checked_pair(real, fake, value_range, mask)
    return masked_mean((real - fake).pow(2), mask)


@metric_plan(recipe={"definition": "20 log10(MAX) - 10 log10(MSE)", "maximum": "b - a of value_range"})
def psnr(
    real: Tensor, fake: Tensor, *, value_range: Range = (0.0, 1.0), mask: Tensor | None = None, data_range: float | None = None
) -> Tensor:
    """20 log10(MAX) - 10 log10(MSE) in dB of each sample, [B]; infinite for equal samples. MAX = b - a.

    Args:
        real, fake, mask: as `mae`.
        value_range: (a, b).
        data_range: MAX, where it is not b - a.

    >>> psnr(torch.zeros(1, 1, 4), torch.full((1, 1, 4), 0.1)).round(decimals=4).tolist()
    [20.0]
    """
    maximum = torch.as_tensor(value_range[1] - value_range[0] if data_range is None else data_range, dtype=torch.float64)
    if not bool(maximum > 0):
        raise DataError(f"`data_range` must be positive; got {float(maximum)}.")
    return 20.0 * maximum.log10() - 10.0 * mse(real, fake, value_range=value_range, mask=mask).log10()


@metric_plan(recipe={"definition": "20 log10(MAX) - 10 log10(MSE)", "maximum": "largest voxel of the real sample in its mask, minus a"})
def psnr_image_max(real: Tensor, fake: Tensor, *, value_range: Range = (0.0, 1.0), mask: Tensor | None = None) -> Tensor:
    """`psnr` with MAX = max(x) - a, the largest voxel of each real sample: for images whose range has no natural upper end.

    Raises:
        DataError: as `mae`; or a real sample without a voxel above a.

    >>> psnr_image_max(torch.tensor([[[0.5, 0.0]]]), torch.tensor([[[0.45, 0.05]]])).round(decimals=4).tolist()
    [20.0]
    """
    checked, _, inside = checked_pair(real, fake, value_range, mask)
    masked = checked if inside is None else checked.masked_fill(inside == 0, -math.inf)
    maximum = masked.flatten(1).amax(1) - value_range[0]
    if flat := torch.nonzero(maximum <= 0)[:5, 0].tolist():
        raise DataError(f"every real sample must have a voxel above {value_range[0]}; samples {flat} have none.")
    return 20.0 * maximum.log10() - 10.0 * mse(real, fake, value_range=value_range, mask=mask).log10()


def checked_pair(real: Tensor, fake: Tensor, value_range: Range, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """Both arrays and the mask (as 0 and 1, [B, C, *S]) in float64, if they fit.

    Raises:
        DataError: saying what does not fit.
    """
    if real.shape != fake.shape or real.dim() < 2:
        raise DataError(f"`real` and `fake` must have the same shape [B, C, *S]; got {tuple(real.shape)} and {tuple(fake.shape)}.")
    if not value_range[0] < value_range[1]:
        raise DataError(f"`value_range` must be (low, high) with low < high; got {value_range}.")
    for name, value in (("real", real), ("fake", fake)):
        if bad := torch.nonzero(~value.isfinite().flatten(1).all(1))[:, 0].tolist():
            raise DataError(f"`{name}` must be finite; got NaN or infinity in samples {bad[:5]}.")
    if mask is None:
        return real.double(), fake.double(), None
    fits = mask.dim() == real.dim() and mask.shape[1] in (1, real.shape[1]) and mask[:, 0].shape == real[:, 0].shape
    if not fits:
        raise DataError(f"`mask` must have shape [B, 1 or C, *S] for {tuple(real.shape)}; got {tuple(mask.shape)}.")
    weight = (mask != 0).double().expand_as(real)
    if missing := empty(weight):
        raise DataError(f"`mask` must have a voxel in every sample and channel; samples {missing} have none.")
    return real.double(), fake.double(), weight


def empty(weight: Tensor) -> list[int]:
    """Which samples of [B, C, *S] have a channel without any weight (the first five)."""
    return torch.nonzero((weight.flatten(2).sum(2) == 0).any(1))[:5, 0].tolist()


def masked_mean(values: Tensor, mask: Tensor | None) -> Tensor:
    """Mean of each sample over the voxels whose mask is not 0: [B, C, *S] -> [B]."""
    if mask is None:
        return values.flatten(1).mean(1)
    return (values * mask).flatten(1).sum(1) / mask.flatten(1).sum(1)
