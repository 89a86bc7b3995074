"""Networks from source to target on the same grid."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

import torch
from torch import Tensor, nn

from medgen.errors import ConfigError
from medgen.interfaces import Condition
from medgen.nn import ConditionImages, Resize, UNet, conv, group_norm, level_shapes
from medgen.nn.adversarial import normalisation
from medgen.registry import ConditionSpec, ImageSpec
from medgen_translation.config import NetworkConfig, SourceNetConfig

__all__ = ["FCN", "ResNet", "SourceNet", "apply_net", "make_net", "required"]

_CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class FCN(nn.Module):
    """Convolutions, norms and ReLUs at full resolution, [B, C, *S] -> [B, C', *S]: nothing is pooled, so that no detail is lost.

    Paper: Medical Image Synthesis with Context-Aware Generative Adversarial Networks (Nie et al., 2017) |
    https://arxiv.org/abs/1612.05362

    Args:
        dim: spatial axes.
        in_channels, out_channels: C and C'.
        width: features.
        layers: convolutions.
        kernel: their width; with 1, nothing is normalised either, so that each voxel is on its own.

    >>> FCN(2, 1, 3, 8, 4)(torch.zeros(2, 1, 9, 7)).shape
    torch.Size([2, 3, 9, 7])
    """

    def __init__(self, dim: int, in_channels: int, out_channels: int, width: int, layers: int, kernel: int = 3) -> None:
        super().__init__()
        widths = [in_channels, *[width] * (layers - 1)]
        hidden: list[nn.Module] = []
        for a, b in pairwise(widths):
            hidden += [conv(dim, a, b, kernel), *([group_norm(b)] if kernel > 1 else []), nn.ReLU()]
        self.net = nn.Sequential(*hidden, conv(dim, widths[-1], out_channels, kernel))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, *S] -> [B, C', *S]."""
        return self.net(x)


class ResNet(nn.Module):
    """CycleGAN's generator, [B, C, *S] -> [B, C', *S]: 7-wide convolution, strided ones down, residual blocks, up, 7-wide convolution.

    Instance norm and ReLU after every convolution but the last. Borders repeat their last value, and the way up resizes before it
    convolves, so that any size will do and no checkerboard shows; the paper mirrors borders and transposes strided convolutions.
    Paper: Perceptual Losses for Real-Time Style Transfer and Super-Resolution (Johnson et al., 2016) | https://arxiv.org/abs/1603.08155

    Args:
        in_channels, out_channels: C and C'.
        shape: S.
        channels: features at each resolution, each half the last.
        blocks: residual blocks at the lowest resolution.

    >>> ResNet(1, 3, (9, 7), (8, 16), 2)(torch.zeros(2, 1, 9, 7)).shape
    torch.Size([2, 3, 9, 7])
    """

    def __init__(self, in_channels: int, out_channels: int, shape: Sequence[int], channels: Sequence[int], blocks: int) -> None:
        super().__init__()
        sizes = level_shapes(shape, len(channels))
        layers = _layers(len(shape), in_channels, channels[0], sizes[0], kernel=7)
        for level, (a, b) in enumerate(pairwise(channels), 1):
            layers += _layers(len(shape), a, b, sizes[level], stride=2)
        layers += [_Residual(len(shape), channels[-1], sizes[-1]) for _ in range(blocks)]
        for level, (a, b) in reversed(list(enumerate(pairwise(channels)))):
            layers += [Resize(tuple(sizes[level])), *_layers(len(shape), b, a, sizes[level])]
        self.net = nn.Sequential(*layers, _padded(len(shape), channels[0], out_channels, kernel=7))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, *S] -> [B, C', *S]."""
        return self.net(x)


class _Residual(nn.Module):
    def __init__(self, dim: int, width: int, size: Sequence[int]) -> None:
        super().__init__()
        self.net = nn.Sequential(*_layers(dim, width, width, size), *_layers(dim, width, width, size)[:-1])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.net(x)


def _padded(dim: int, a: int, b: int, kernel: int, stride: int = 1, *, bias: bool = True) -> nn.Module:
    return _CONV[dim](a, b, kernel, stride=stride, padding=kernel // 2, padding_mode="replicate", bias=bias)


def _layers(dim: int, a: int, b: int, size: Sequence[int], *, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    """Convolution, norm, ReLU; of one position alone an instance norm would leave nothing."""
    if prod(size) == 1:
        return [_padded(dim, a, b, kernel, stride), group_norm(b), nn.ReLU()]
    return [_padded(dim, a, b, kernel, stride, bias=False), normalisation("instance", dim, b), nn.ReLU()]


def make_net(config: NetworkConfig, in_channels: int, out_channels: int, shape: tuple[int, ...]) -> nn.Module:
    """The network of a configuration, [B, in_channels, *shape] -> [B, out_channels, *shape]; called by `apply_net`."""
    if config.network == "fcn":
        return FCN(len(shape), in_channels, out_channels, config.width, config.layers, config.kernel)
    if config.network == "resnet":
        return ResNet(in_channels, out_channels, shape, config.channels, config.residual_blocks)
    return UNet(
        in_channels,
        out_channels,
        shape,
        config.channels,
        blocks=config.blocks,
        attention=config.attention,
        dropout=config.dropout,
        checkpointing=config.checkpointing,
    )


def apply_net(net: nn.Module, x: Tensor) -> Tensor:
    """[B, C, *S] -> [B, C', *S]."""
    if isinstance(net, UNet):  # a U-Net of diffusion at a time that stands still
        return net(x, torch.zeros(len(x), dtype=torch.int64, device=x.device))
    return net(x)


class SourceNet(nn.Module):
    """The source of a batch, and further images -> [B, outputs * C', *S], in units in which bounded data lie in [-1, 1].

    Args:
        config: its size.
        image_spec: of the target.
        source: the slot.
        outputs: arrays of the target's channels.
        further: channels of further images, given to `forward` in the same units.

    Raises:
        ConfigError: a source on another grid, or one whose channels cannot be added to the target's.
    """

    def __init__(
        self, config: SourceNetConfig, image_spec: ImageSpec, source: ConditionSpec, *, outputs: int = 1, further: int = 0
    ) -> None:
        super().__init__()
        if source.image is None or source.image.shape != image_spec.shape:
            raise ConfigError(f"the source must lie on the grid {image_spec.shape} of the target; got {source.image}.")
        self.images = ConditionImages([source], image_spec.shape, required=["source"])
        self.skipped = source.image.channels if config.long_skip else 0
        if self.skipped not in (0, 1, image_spec.channels):
            raise ConfigError(f"`long_skip` needs a source of 1 channel, or of the target's {image_spec.channels}; got {self.skipped}.")
        self.outputs = outputs
        self.in_channels, out = self.images.channels + further, outputs * image_spec.channels
        self.net = make_net(config, self.in_channels, out, image_spec.shape)

    def forward(self, condition: Condition, further: Tensor | None = None) -> Tensor:
        """Of the slot "source"."""
        x = self.seen(condition, further)
        y = apply_net(self.net, x)
        if not self.skipped:
            return y
        first, *rest = y.chunk(self.outputs, 1)
        return torch.cat((first + x[:, : self.skipped], *rest), 1)

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
