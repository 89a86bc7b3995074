"""Segmenters for `medgen evaluate --segmenter medgen_translation.segmenters:hyperintense`. Yardsticks, no clinical tools."""

from __future__ import annotations

import torch
from torch import Tensor

from medgen.errors import DataError

__all__ = ["hyperintense"]

_TO_SD = 1.4826
"""Of a normal: its standard deviation over its median absolute deviation."""


def hyperintense(images: Tensor, regions: Tensor | None = None, *, k: float = 2.5, least: int = 3) -> Tensor:
    """Where the first channel > m + k s within the brain, in pieces of at least `least` voxels: bool [B, 1, *S].

    m is the median and s 1.4826 times the median absolute deviation of all brain voxels of all samples: mean and standard deviation of
    those that are no lesions, as long as lesions are few. Pieces are connected per sample, by sides, edges or corners.

    It is applied to target and translation alike and tells whether what is bright in one is bright in the other. It takes every bright
    structure for a lesion (choroid plexus, artefacts) and misses faint ones; compare it with an expert's masks before trusting its counts.

    Args:
        images: FLAIR-like, of one subject, [B, C, *S].
        regions: the brain is where these are not 0, [B, 1, *S]; without them, where the image is above 0. Which region does not matter.
        k: deviations above the rest.
        least: voxels of the smallest piece.

    Raises:
        DataError: shapes that do not fit, or no brain.

    >>> image = torch.tensor([[[1.0, 1.1, 0.9, 1.0, 5.0, 5.0, 5.0, 1.1, 0.9, 1.0, 5.0, 1.0, 0.0]]])
    >>> hyperintense(image).long().tolist()
    [[[0, 0, 0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0]]]
    """
    if images.dim() < 3 or (regions is not None and regions.shape != (len(images), 1, *images.shape[2:])):
        raise DataError(
            "`images` must have shape [B, C, *S], and `regions` [B, 1, *S]; "
            f"got {tuple(images.shape)} and {None if regions is None else tuple(regions.shape)}."
        )
    first = images[:, :1].double()
    brain = first > 0 if regions is None else regions != 0
    values = first[brain]
    if not len(values):
        raise DataError("there is no brain in these images: regions that are nowhere above 0, or without regions no value above 0.")
    middle = values.median()
    spread = _TO_SD * (values - middle).abs().median()
    return _large(brain & (first > middle + k * spread), least)


def _large(mask: Tensor, least: int) -> Tensor:
    """Without components of fewer voxels."""
    import numpy as np
    from scipy import ndimage

    kept = []
    for sample in mask[:, 0].cpu().numpy():
        labels, count = ndimage.label(sample, structure=np.ones((3,) * sample.ndim))
        sizes = np.bincount(labels.reshape(-1), minlength=count + 1)
        sizes[0] = 0
        kept.append(torch.from_numpy(sizes[labels] >= max(1, least)))
    return torch.stack(kept)[:, None].to(mask.device)
