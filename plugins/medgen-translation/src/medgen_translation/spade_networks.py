"""Parts of `spade`: normalisation modulated by a label map, residual blocks, generator, encoder of styles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch.nn.functional as F
from torch import Tensor, nn

from medgen.errors import ConfigError
from medgen.nn import conv, level_shapes
from medgen.nn.adversarial import spectral_norm

__all__ = ["SpadeBlock", "SpadeGenerator", "SpadeNorm", "StyleEncoder"]

_SLOPE = 0.2  # of leaky rectifiers
_LOG_VARIANCE = 14.0  # the log-variance of a style lies between -14 and 14


class SpadeNorm(nn.Module):
    """norm(h) (1 + gamma(m)) + beta(m): h [B, C, *S] and a label map m [B, K, *S] -> [B, C, *S].

    norm(h) = (h - mean) / sqrt(variance + 1e-5) over the positions of each channel of each sample, without parameters. With
    a = relu(conv3(m)), gamma and beta are conv3(a): a label acts on its 5-wide neighbourhood, and nowhere else.

    Paper: Semantic Image Synthesis with Spatially-Adaptive Normalization (Park et al., 2019) | https://arxiv.org/abs/1903.07291

    Args:
        dim: spatial axes.
        channels: C.
        classes: K.
        hidden: features of a.
    """

    def __init__(self, dim: int, channels: int, classes: int, hidden: int) -> None:
        super().__init__()
        self.shared, self.affine = conv(dim, classes, hidden), conv(dim, hidden, 2 * channels)

    def modulation(self, m: Tensor) -> tuple[Tensor, Tensor]:
        """gamma and beta, [B, C, *S] each."""
        gamma, beta = self.affine(F.relu(self.shared(m))).chunk(2, 1)
        return gamma, beta

    def forward(self, h: Tensor, m: Tensor) -> Tensor:
        """[B, C, *S], [B, K, *S] -> [B, C, *S]."""
        gamma, beta = self.modulation(m)
        return F.instance_norm(h) * (1.0 + gamma) + beta


class SpadeBlock(nn.Module):
    """x + conv3(leaky(spade(conv3(leaky(spade(x, m))), m))): [B, C, *S] -> [B, C', *S]; where C' is not C, conv1(spade(x, m)) for x.

    Args:
        dim: spatial axes.
        a, b: C and C'.
        classes, hidden: of `SpadeNorm`.
        wrap: what becomes of each convolution.
    """

    def __init__(self, dim: int, a: int, b: int, classes: int, hidden: int, wrap: Callable[[nn.Module], nn.Module]) -> None:
        super().__init__()
        middle = min(a, b)
        self.norm1, self.conv1 = SpadeNorm(dim, a, classes, hidden), wrap(conv(dim, a, middle))
        self.norm2, self.conv2 = SpadeNorm(dim, middle, classes, hidden), wrap(conv(dim, middle, b))
        self.norm3 = SpadeNorm(dim, a, classes, hidden) if a != b else None
        self.conv3 = wrap(conv(dim, a, b, kernel=1)) if a != b else None

    def forward(self, x: Tensor, m: Tensor) -> Tensor:
        """[B, C, *S], [B, K, *S] -> [B, C', *S]."""
        h = self.conv1(F.leaky_relu(self.norm1(x, m), _SLOPE))
        h = self.conv2(F.leaky_relu(self.norm2(h, m), _SLOPE))
        if self.norm3 is not None and self.conv3 is not None:
            x = self.conv3(self.norm3(x, m))
        return x + h


class SpadeGenerator(nn.Module):
    """A label map [B, K, *S] and styles [B, Z] -> [B, C, *S], unbounded.

    h at the lowest resolution is an affine map of z or, without styles, conv3 of the label map; then blocks at each resolution, each of
    which sees the label map resized by nearest neighbours, and nearest upsampling between them.

    Args:
        classes, out_channels: K and C.
        shape: S.
        channels: features at each resolution, from the full one on.
        blocks, hidden: residual blocks per resolution; features of the label map.
        style_dim: Z; 0 for none.
        spectral: divide the convolutions by their largest singular value.

    Raises:
        ConfigError: the lowest resolution is a single position, over which nothing can be normalised.
    """

    def __init__(
        self,
        classes: int,
        out_channels: int,
        shape: Sequence[int],
        channels: Sequence[int],
        *,
        blocks: int = 1,
        hidden: int = 128,
        style_dim: int = 256,
        spectral: bool = False,
    ) -> None:
        super().__init__()
        dim, wrap = len(shape), spectral_norm if spectral else _same
        self.shapes = level_shapes(shape, len(channels))[::-1]
        if math.prod(self.shapes[0]) < 2:
            raise ConfigError(
                f"`multipliers` of {len(channels)} resolutions bring shape {tuple(shape)} down to one position; use fewer of them."
            )
        widths = [channels[-1], *channels[::-1]]
        self.width = channels[-1]
        start = nn.Linear(style_dim, self.width * math.prod(self.shapes[0])) if style_dim else wrap(conv(dim, classes, self.width))
        self.start, self.styled = start, style_dim > 0
        self.levels = nn.ModuleList(
            nn.ModuleList(SpadeBlock(dim, a if k == 0 else b, b, classes, hidden, wrap) for k in range(blocks)) for a, b in pairwise(widths)
        )
        self.out = conv(dim, channels[0], out_channels)

    def forward(self, labels: Tensor, z: Tensor | None = None) -> Tensor:
        """[B, K, *S], [B, Z] -> [B, C, *S]."""
        maps = [F.interpolate(labels, size=size, mode="nearest") for size in self.shapes[:-1]] + [labels]
        h = self.start(z).view(-1, self.width, *self.shapes[0]) if self.styled else self.start(maps[0])
        for m, blocks in zip(maps, self.levels, strict=True):
            if h.shape[2:] != m.shape[2:]:
                h = F.interpolate(h, size=m.shape[2:], mode="nearest")
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h, m)
        return self.out(F.leaky_relu(h, _SLOPE))


class StyleEncoder(nn.Module):
    """Images [B, C, *S] -> mean and log-variance of q(z | x), [B, Z] each: strided conv3, instance norm and leaky rectifier per level.

    Args:
        in_channels: C.
        shape: S.
        channels: features after each halving.
        style_dim: Z.
        spectral: divide the convolutions by their largest singular value.
    """

    def __init__(self, in_channels: int, shape: Sequence[int], channels: Sequence[int], style_dim: int, *, spectral: bool = False) -> None:
        super().__init__()
        wrap = spectral_norm if spectral else _same
        self.convs = nn.ModuleList(wrap(conv(len(shape), a, b, stride=2)) for a, b in pairwise([in_channels, *channels]))
        positions = math.prod(level_shapes(shape, len(channels) + 1)[-1])
        self.mean, self.log_variance = (nn.Linear(channels[-1] * positions, style_dim) for _ in range(2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C, *S] -> [B, Z], [B, Z]."""
        for layer in self.convs:
            x = layer(x)
            if math.prod(x.shape[2:]) > 1:  # a single position would be normalised to 0
                x = F.instance_norm(x)
            x = F.leaky_relu(x, _SLOPE)
        h = x.flatten(1)
        return self.mean(h), _LOG_VARIANCE * (self.log_variance(h) / _LOG_VARIANCE).tanh()


def _same(layer: nn.Module) -> nn.Module:
    return layer
