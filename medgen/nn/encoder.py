"""Encoder and decoder between arrays [B, C, *S] and vectors [B, F], for any number of axes and any size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from medgen.nn.layers import ResidualBlock, Resize, conv, group_norm

__all__ = ["Decoder", "Encoder", "level_shapes"]


def level_shapes(shape: Sequence[int], levels: int) -> list[tuple[int, ...]]:
    """Spatial shape at each of `levels` resolutions, each half the last, rounded up.

    >>> level_shapes((28, 21), 3)
    [(28, 21), (14, 11), (7, 6)]
    """
    shapes = [tuple(shape)]
    for _ in range(levels - 1):
        shapes.append(tuple(math.ceil(s / 2) for s in shapes[-1]))
    return shapes


class Encoder(nn.Module):
    """[B, C, *S] (and an embedding [B, E]) -> [B, out_features].

    Args:
        in_channels: C.
        shape: S; () for vectors, whose encoder is a multi-layer perceptron.
        channels: features at each resolution; layer widths for vectors. Empty: one affine map.
        out_features: size of the result.
        blocks: residual blocks per resolution below the first.
        embedding: E, size of the condition's embedding; 0 for none.
    """

    def __init__(
        self, in_channels: int, shape: Sequence[int], channels: Sequence[int], out_features: int, *, blocks: int = 1, embedding: int = 0
    ) -> None:
        super().__init__()
        dim = len(shape)
        if dim == 0 or not channels:
            widths = [in_channels * math.prod(shape), *channels]
            self.trunk: nn.Module = nn.Sequential(nn.Flatten(1), *_perceptron(widths))
            features = widths[-1]
        else:
            layers: list[nn.Module] = [conv(dim, in_channels, channels[0]), nn.SiLU()]
            for wide, wider in pairwise(channels):
                layers += [conv(dim, wide, wider, stride=2), *(ResidualBlock(dim, wider) for _ in range(blocks))]
            positions = math.prod(level_shapes(shape, len(channels))[-1])
            # Over a single position small groups would leave little but signs.
            norm = group_norm(channels[-1]) if positions > 1 or channels[-1] == 1 else nn.GroupNorm(1, channels[-1])
            layers += [norm, nn.SiLU(), nn.Flatten(1)]
            self.trunk = nn.Sequential(*layers)
            features = channels[-1] * positions
        self.head = nn.Linear(features + embedding, out_features)

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Tensor:
        """x [B, C, *S], embedding [B, E] -> [B, out_features]."""
        h = self.trunk(x)
        return self.head(h if embedding is None else torch.cat((h, embedding), 1))


class Decoder(nn.Module):
    """[B, in_features] -> [B, C, *S]: the mirror of `Encoder`.

    Args:
        in_features: size of the vector (latent and embedding together).
        out_channels: C.
        shape: S; () for vectors.
        channels: as the encoder's, read backwards.
        blocks: residual blocks per resolution.
    """

    def __init__(self, in_features: int, out_channels: int, shape: Sequence[int], channels: Sequence[int], *, blocks: int = 1) -> None:
        super().__init__()
        dim = len(shape)
        if dim == 0 or not channels:
            widths = [in_features, *reversed(channels)]
            out = nn.Linear(widths[-1], out_channels * math.prod(shape))
            self.net = nn.Sequential(*_perceptron(widths), out, nn.Unflatten(1, (out_channels, *shape)))
            return
        shapes = level_shapes(shape, len(channels))
        layers: list[nn.Module] = [
            nn.Linear(in_features, channels[-1] * math.prod(shapes[-1])),
            nn.Unflatten(1, (channels[-1], *shapes[-1])),
        ]
        for level in range(len(channels) - 1, 0, -1):
            layers += [ResidualBlock(dim, channels[level]) for _ in range(blocks)]
            # The convolution runs before the resize: a quarter (2-D) or an eighth (3-D) of the work, and as smooth after the next one.
            layers += [conv(dim, channels[level], channels[level - 1], kernel=1), Resize(shapes[level - 1])]
            layers += [conv(dim, channels[level - 1], channels[level - 1]), nn.SiLU()]
        layers += [conv(dim, channels[0], out_channels)]
        self.net = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        """[B, in_features] -> [B, C, *S]."""
        return self.net(z)


def _perceptron(widths: Sequence[int]) -> list[nn.Module]:
    return [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.SiLU())]
