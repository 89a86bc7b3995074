"""What a translator moved, lost or invented: displacement of edges, lesions of one image that the other has not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medgen.errors import DataError

__all__ = ["LesionChanges", "landmark_shift", "lesion_changes", "structure_shift"]

_POOL = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}
_FAINT = 0.05  # blocks whose edges are weaker than this share of the strongest say nothing of where they are
_ALIKE = 0.3  # least correlation of edges by which a block counts as found


def structure_shift(
    reference: Tensor,
    image: Tensor,
    *,
    block: int = 16,
    search: int = 3,
    spacing: Sequence[float] | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Mean displacement of edges between two images of each sample, [B]: how far a translation moved what the reference shows.

    The gradient magnitudes of both are compared block by block; a block's displacement is the shift of up to `search` voxels along each
    axis at which they correlate most, the smallest among equals. Blocks without edges, or found nowhere, do not count. Contrast may differ
    or be inverted: only the place of edges matters, so that the reference may be the source where there is no target.

    Args:
        reference, image: [B, C, *S], with 1 to 3 axes; channels are summed.
        block: side of a block in voxels; blocks lie half a block apart.
        search: the largest shift.
        spacing: of voxels; displacements are in voxels without it.
        mask: blocks count that lie in it by half, [B, 1, *S].

    Returns:
        NaN where a sample has no block with edges.

    Raises:
        DataError: shapes that differ, or too small for a block.

    >>> x = torch.rand(1, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    >>> structure_shift(x, 1 - x).item(), structure_shift(x, x.roll((2, 1), (2, 3))).round(decimals=3).item()
    (0.0, 2.236)
    """
    dim, shape = reference.dim() - 2, tuple(reference.shape[2:])
    if reference.shape != image.shape or dim not in _POOL or min(shape) < block + 2 * search:
        raise DataError(
            f"`reference` and `image` must have one shape [B, C, *S], every axis at least {block + 2 * search} long; got "
            f"{tuple(reference.shape)} and {tuple(image.shape)}."
        )
    inner: Any = (..., *(slice(search, n - search) for n in shape))
    still, moving = _edges(reference)[inner], _edges(image)

    def pooled(x: Tensor) -> Tensor:
        return _POOL[dim](x, block, max(1, block // 2))

    mean, square = pooled(still), pooled(still.square())
    spread = (square - mean.square()).clamp(min=0.0)
    best, length = torch.full_like(mean, -1.0), torch.zeros_like(mean)
    sizes = tuple(spacing) if spacing is not None else (1.0,) * dim
    shifts = sorted(
        itertools.product(range(-search, search + 1), repeat=dim), key=lambda s: math.hypot(*(a * b for a, b in zip(s, sizes, strict=True)))
    )
    for shift in shifts:
        place: Any = (..., *(slice(search + d, n - search + d) for d, n in zip(shift, shape, strict=True)))
        moved = moving[place]
        other = pooled(moved)
        variance = (pooled(moved.square()) - other.square()).clamp(min=0.0)
        alike = (pooled(still * moved) - mean * other) / (spread * variance).sqrt().clamp(min=1e-12)
        better = alike > best + 1e-6
        best = torch.where(better, alike, best)
        length = torch.where(better, math.hypot(*(a * b for a, b in zip(shift, sizes, strict=True))), length)
    counts = (spread > _FAINT * spread.flatten(1).amax(1).view(-1, *[1] * (dim + 1))) & (best > _ALIKE)
    if mask is not None:
        counts &= pooled((mask != 0).double()[inner]) >= 0.5
    weight = counts.double().flatten(1)
    return (length.flatten(1) * weight).sum(1) / weight.sum(1)


def _edges(x: Tensor) -> Tensor:
    """Magnitude of the gradient, [B, 1, *S]."""
    values = x.double().sum(1, keepdim=True)
    gradients = torch.gradient(values, dim=list(range(2, x.dim())))
    return torch.stack(gradients).square().sum(0).sqrt()


def landmark_shift(reference: Tensor, found: Tensor, spacing: Sequence[float] | None = None) -> Tensor:
    """Mean distance of landmarks, [B]; landmarks that are NaN in either do not count.

    Args:
        reference, found: positions in voxels [B, L, dim].
        spacing: of voxels.

    >>> landmark_shift(torch.zeros(1, 2, 2), torch.tensor([[[3.0, 4.0], [0.0, 0.0]]]), (1.0, 1.0)).tolist()
    [2.5]
    """
    size = torch.ones(reference.shape[-1]) if spacing is None else torch.tensor(list(spacing))
    return ((found - reference) * size).double().square().sum(2).sqrt().nanmean(1)


@dataclass(frozen=True)
class LesionChanges:
    """Lesions of the truth, how many of them the translation has nowhere, and how many it has where the truth has none."""

    lesions: int
    lost: int
    invented: int

    def __add__(self, other: LesionChanges) -> LesionChanges:
        return LesionChanges(self.lesions + other.lesions, self.lost + other.lost, self.invented + other.invented)


def lesion_changes(truth: Tensor, found: Tensor, *, least: int = 1) -> LesionChanges:
    """Connected lesions (neighbours share a side, an edge or a corner) of all samples that overlap with none of the other's.

    Args:
        truth, found: masks [B, 1, *S].
        least: voxels of a lesion; smaller ones do not count.

    >>> truth, found = torch.tensor([[[1, 1, 0, 1, 0, 0, 0]]]), torch.tensor([[[0, 1, 0, 0, 0, 1, 1]]])
    >>> lesion_changes(truth, found)
    LesionChanges(lesions=2, lost=1, invented=1)
    """
    if truth.shape != found.shape:
        raise DataError(f"masks must have the same shape; got {tuple(truth.shape)} and {tuple(found.shape)}.")
    total = LesionChanges(0, 0, 0)
    for a, b in zip((truth != 0)[:, 0].cpu().numpy(), (found != 0)[:, 0].cpu().numpy(), strict=True):
        lost, lesions = _without(a, b, least)
        total += LesionChanges(lesions, lost, _without(b, a, least)[0])
    return total


def _without(
    own: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], other: np.ndarray[tuple[int, ...], np.dtype[np.bool_]], least: int
) -> tuple[int, int]:
    """How many components of one mask the other does not touch, and how many there are."""
    from scipy import ndimage

    labels, count = ndimage.label(own, structure=np.ones((3,) * own.ndim))
    sizes = np.bincount(labels.reshape(-1), minlength=count + 1)[1:]
    touched = np.isin(np.arange(1, count + 1), labels[other & own])
    counted = sizes >= least
    return int((counted & ~touched).sum()), int(counted.sum())
