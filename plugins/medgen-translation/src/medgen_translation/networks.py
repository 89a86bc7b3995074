"""Networks from source to target on the same grid."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from medgen.errors import ConfigError
from medgen.interfaces import Condition
from medgen.nn import ConditionImages, UNet, conv, group_norm
from medgen.registry import ConditionSpec, ImageSpec
from medgen_translation.config import NetworkConfig

__all__ = ["FCN", "SourceNet", "required"]


class FCN(nn.Module):
    """Convolutions, norms and ReLUs at full resolution, [B, C, *S] -> [B, C', *S]: nothing is pooled, so that no detail is lost.

    Paper: Medical Image Synthesis with Context-Aware Generative Adversarial Networks (Nie et al., 2017) |
    https://arxiv.org/abs/1612.05362

    Args:
        dim: spatial axes.
        in_channels, out_channels: C and C'.
        width: features.
        layers: convolutions.

    >>> FCN(2, 1, 3, 8, 4)(torch.zeros(2, 1, 9, 7)).shape
    torch.Size([2, 3, 9, 7])
    """

    def __init__(self, dim: int, in_channels: int, out_channels: int, width: int, layers: int) -> None:
        super().__init__()
        widths = [in_channels, *[width] * (layers - 1)]
        hidden = [layer for a, b in pairwise(widths) for layer in (conv(dim, a, b), group_norm(b), nn.ReLU())]
        self.net = nn.Sequential(*hidden, conv(dim, widths[-1], out_channels))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, *S] -> [B, C', *S]."""
        return self.net(x)


class SourceNet(nn.Module):
    """The source of a batch, and further images -> [B, outputs * C', *S], in units in which bounded data lie in [-1, 1].

    Args:
        config: its size.
        image_spec: of the target.
        source: the slot.
        outputs: arrays of the target's channels.
        further: channels of further images, given to `forward` in the same units.

    Raises:
        ConfigError: a source on another grid.
    """

    def __init__(self, config: NetworkConfig, image_spec: ImageSpec, source: ConditionSpec, *, outputs: int = 1, further: int = 0) -> None:
        super().__init__()
        if source.image is None or source.image.shape != image_spec.shape:
            raise ConfigError(f"the source must lie on the grid {image_spec.shape} of the target; got {source.image}.")
        self.images = ConditionImages([source], image_spec.shape, required=["source"])
        self.in_channels, out = self.images.channels + further, outputs * image_spec.channels
        if config.network == "fcn":
            self.net: nn.Module = FCN(image_spec.dim, self.in_channels, out, config.width, config.layers)
        else:
            self.net = UNet(
                self.in_channels,
                out,
                image_spec.shape,
                config.channels,
                blocks=config.blocks,
                attention=config.attention,
                dropout=config.dropout,
                checkpointing=config.checkpointing,
            )

    def forward(self, condition: Condition, further: Tensor | None = None) -> Tensor:
        """Of the slot "source"."""
        x = self.seen(condition, further)
        if isinstance(self.net, UNet):  # a U-Net of diffusion at a time that stands still
            return self.net(x, torch.zeros(len(x), dtype=torch.int64, device=x.device))
        return self.net(x)

    def seen(self, condition: Condition, further: Tensor | None = None) -> Tensor:
        """What goes in: source and further images, [B, in_channels, *S]."""
        images = self.images(condition, condition.values["source"])
        assert images is not None
        return images if further is None else torch.cat((images, further.to(images.dtype)), 1)


def required(conditions: Sequence[ConditionSpec], name: str) -> ConditionSpec:
    """The slot `name`.

    Raises:
        ConfigError: there is none.
    """
    for spec in conditions:
        if spec.name == name:
            return spec
    raise ConfigError(f"this family needs the condition {name!r}; got {[c.name for c in conditions]}.")
