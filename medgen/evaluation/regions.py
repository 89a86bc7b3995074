"""Figures of regions: lesion contrast, overlap of segmentations, discrepancy by region, demyelination. [B, C, *S] each, in float64."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from medgen.errors import DataError

__all__ = ["contrast_ratio", "demyelination_dice", "dice", "lesion_dice", "region_discrepancy"]

Segmenter = Callable[[Tensor], Tensor]
"""Images [B, C, *S] -> bool [B, 1, *S]."""


def contrast_ratio(image: Tensor, inside: Tensor, reference: Tensor) -> Tensor:
    """mean of the image inside / mean in the reference, of each sample, [B]: "Ratio 1" of lesions and normal-appearing white matter.

    Args:
        image: [B, 1, *S] in units whose 0 means no signal.
        inside, reference: where, [B, 1, *S], not 0.

    Returns:
        NaN for samples that lack one of them.

    Paper: Fluid and White Matter Suppression with Deep Networks: FLAIR synthesis (Wei et al., 2019) | https://doi.org/10.1117/1.JMI.6.1.014005

    >>> contrast_ratio(torch.tensor([[[3.0, 3.0, 2.0]]]), torch.tensor([[[1, 1, 0]]]), torch.tensor([[[0, 0, 1]]])).tolist()
    [1.5]
    """
    return _mean_in(image, _checked(inside, image, "inside")) / _mean_in(image, _checked(reference, image, "reference"))


def dice(a: Tensor, b: Tensor) -> Tensor:
    """2 |A and B| / (|A| + |B|) of each sample, [B]; 1 where both are empty.

    >>> dice(torch.tensor([[1, 1, 0]]), torch.tensor([[0, 1, 1]])).tolist()
    [0.5]
    """
    if a.shape != b.shape:
        raise DataError(f"masks must have the same shape; got {tuple(a.shape)} and {tuple(b.shape)}.")
    a, b = (a != 0).flatten(1), (b != 0).flatten(1)
    total = (a.sum(1) + b.sum(1)).double()
    return torch.where(total > 0, 2.0 * (a & b).sum(1).double() / total.clamp(min=1.0), 1.0)


def lesion_dice(real: Tensor, fake: Tensor, segment: Segmenter) -> Tensor:
    """`dice` of what one segmenter finds in real images and in translated ones, [B].

    >>> lesion_dice(torch.tensor([[[0.2, 0.9]]]), torch.tensor([[[0.8, 0.9]]]), lambda x: x > 0.5).round(decimals=4).tolist()
    [0.6667]
    """
    return dice(segment(real), segment(fake))


def region_discrepancy(real: Tensor, fake: Tensor, regions: Tensor, count: int) -> Tensor:
    """mean |real - fake| in each region of each sample, [B, count]; NaN where a sample lacks a region.

    Args:
        real, fake: [B, C, *S].
        regions: labels 0..count-1, [B, 1, *S].
        count: of regions.

    >>> region_discrepancy(torch.zeros(1, 1, 3), torch.tensor([[[1.0, 2.0, 4.0]]]), torch.tensor([[[0, 1, 1]]]), 3).tolist()
    [[1.0, 3.0, nan]]
    """
    error = (real.double() - fake.double()).abs()
    return torch.stack([_mean_in(error, _checked(regions == k, error, "regions")) for k in range(count)], 1)


def demyelination_dice(real: Tensor, fake: Tensor, lesion: Tensor, *, mean: float, sd: float, k: float = 1.0) -> Tensor:
    """`dice` of the lesion voxels below mean - k sd in the real and in the translated myelin map, [B].

    Args:
        real, fake: myelin maps, [B, 1, *S].
        lesion: where lesions are, [B, 1, *S].
        mean, sd: of the maps in healthy white matter, of controls.
        k: how far below the mean of controls a voxel counts as demyelinated; the paper's threshold is not published.

    Paper: Predicting PET-derived Demyelination from Multimodal MRI using Sketcher-Refiner Adversarial Training for Multiple Sclerosis
    (Wei et al., 2019) | https://doi.org/10.1016/j.media.2019.101546

    >>> real, fake = torch.tensor([[[0.2, 0.9, 0.1]]]), torch.tensor([[[0.3, 0.2, 0.1]]])
    >>> demyelination_dice(real, fake, torch.tensor([[[1, 1, 0]]]), mean=1.0, sd=0.3).round(decimals=4).tolist()
    [0.6667]
    """
    inside, limit = _checked(lesion, real, "lesion") != 0, mean - k * sd
    return dice((real < limit) & inside, (fake < limit) & inside)


def _checked(mask: Tensor, image: Tensor, name: str) -> Tensor:
    if mask.dim() != image.dim() or mask.shape[1] not in (1, image.shape[1]) or mask[:, 0].shape != image[:, 0].shape:
        raise DataError(f"`{name}` must have shape [B, 1 or C, *S] for {tuple(image.shape)}; got {tuple(mask.shape)}.")
    return mask.expand_as(image)


def _mean_in(image: Tensor, mask: Tensor) -> Tensor:
    weight = (mask != 0).double().flatten(1)
    return (image.double().flatten(1) * weight).sum(1) / weight.sum(1)
