"""Two sets of shapes compared by what one sees first: how large they are, and whether they are in one piece.

The foreground of an image is where it exceeds the middle of the range of the real images; of several channels, where any does.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from scipy import ndimage, stats
from torch import Tensor

from medgen.evaluation.plan import metric_plan

__all__ = ["connected", "volume_ks"]

Bools = npt.NDArray[np.bool_]


def _foregrounds(real: Tensor, fake: Tensor) -> tuple[Bools, Bools]:
    middle = 0.5 * float(real.min() + real.max())
    own, other = ((x > middle).any(1).cpu().numpy() for x in (real, fake))
    return own, other


def _share_in_one_piece(shapes: Bools) -> float:
    axes = shapes.ndim - 1
    structure = ndimage.generate_binary_structure(axes, axes)  # diagonal neighbours belong together
    return float(np.mean([ndimage.label(shape, structure)[1] == 1 for shape in shapes]))


def _connected_real(real: Tensor, fake: Tensor) -> Mapping[str, float]:
    return {"of the real samples": _share_in_one_piece(_foregrounds(real, fake)[0])}


_FOREGROUND = "above the middle of the range of the real samples, in any channel"


@metric_plan(
    recipe={"foreground": _FOREGROUND, "neighbours": "diagonal ones too"},
    limits=(0.0, 1.0),
    on="images",
    details=_connected_real,
)
def connected(real: Tensor, fake: Tensor) -> float:
    """Share of generated samples whose foreground is exactly one connected piece; the note has the share of the real ones.

    Args:
        real: images [N, C, *S].
        fake: images [M, C, *S].

    >>> import torch
    >>> whole, broken = torch.tensor([[[0.0, 1, 1, 0]]]), torch.tensor([[[1.0, 0, 0, 1]]])
    >>> connected(whole, torch.cat((whole, broken)))
    0.5
    """
    return _share_in_one_piece(_foregrounds(real, fake)[1])


def _volumes(real: Tensor, fake: Tensor) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    own, other = (shapes.reshape(len(shapes), -1).sum(1).astype(np.float64) for shapes in _foregrounds(real, fake))
    return own, other


def _volume_details(real: Tensor, fake: Tensor) -> Mapping[str, float]:
    own, other = _volumes(real, fake)
    p = float(stats.ks_2samp(own, other).pvalue)
    return {"p": p, "mean voxels of the real samples": float(own.mean()), "of the generated ones": float(other.mean())}


@metric_plan(recipe={"foreground": _FOREGROUND}, limits=(0.0, 1.0), on="images", details=_volume_details)
def volume_ks(real: Tensor, fake: Tensor) -> float:
    """Kolmogorov-Smirnov statistic of the foreground volumes, sup |F_real - F_generated|; the note has the p-value of the two-sample test.

    Args:
        real: images [N, C, *S].
        fake: images [M, C, *S].

    >>> import torch
    >>> volume_ks(torch.eye(4).view(4, 1, 4), torch.ones(4, 1, 4))
    1.0
    """
    return float(stats.ks_2samp(*_volumes(real, fake)).statistic)
