"""Layers by number of spatial axes: one spelling for signals, images and volumes."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["ResidualBlock", "Resize", "conv", "group_norm"]

_CONV: dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def conv(dim: int, in_channels: int, out_channels: int, kernel: int = 3, stride: int = 1) -> nn.Module:
    """Convolution over `dim` axes that keeps the size (stride 1) or halves it, rounding up (stride 2); a linear layer for dim 0.

    >>> conv(2, 1, 8), conv(0, 3, 8)
    (Conv2d(1, 8, kernel_size=(3, 3), stride=(1, 1), padding=(1, 1)), Linear(in_features=3, out_features=8, bias=True))
    """
    if dim == 0:
        return nn.Linear(in_channels, out_channels)
    return _CONV[dim](in_channels, out_channels, kernel, stride=stride, padding=kernel // 2)


def group_norm(channels: int) -> nn.Module:
    """Group normalisation with at most 8 groups: statistics of one sample only, so that no sample depends on its batch.

    A group has at least 2 channels: where the resolution has come down to one position, one channel alone would be normalised to 0.
    Hence a single channel stays as it is.

    >>> group_norm(12).num_groups, group_norm(4).num_groups, group_norm(1)
    (6, 2, Identity())
    """
    if channels == 1:
        return nn.Identity()
    return nn.GroupNorm(next(g for g in (8, 7, 6, 5, 4, 3, 2, 1) if channels % g == 0 and channels // g > 1), channels)


class ResidualBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))): [B, C, *S] -> [B, C, *S].

    The last layer starts at zero, so that the block starts as the identity.
    Paper: Identity Mappings in Deep Residual Networks (He et al., 2016) | https://arxiv.org/abs/1603.05027
    """

    def __init__(self, dim: int, channels: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = group_norm(channels), conv(dim, channels, channels)
        self.norm2, self.conv2 = group_norm(channels), conv(dim, channels, channels)
        for parameter in self.conv2.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, *S] -> [B, C, *S]."""
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


class Resize(nn.Module):
    """Nearest-neighbour resize to a fixed size: [B, C, *S] -> [B, C, *size]. Undoes strides of any odd or even size."""

    def __init__(self, size: tuple[int, ...]) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, *S] -> [B, C, *size]."""
        return F.interpolate(x, size=self.size, mode="nearest")

    def extra_repr(self) -> str:
        """Shown by repr."""
        return f"size={self.size}"
