"""`UNet` and `ResidualMLP`: networks from (x, time, condition) to an array of the same grid, for any number of axes and any size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from medgen.errors import ConfigError
from medgen.nn.attention import SelfAttention
from medgen.nn.encoder import level_shapes
from medgen.nn.film import FilmBlock, TimeEmbedding
from medgen.nn.layers import conv, group_norm

__all__ = ["ResidualMLP", "UNet", "time_net"]


class _TimeNet(nn.Module):
    """What both share: the embedding of time and condition, and scale and shift of every block from it in one matrix product."""

    def __init__(self, width: int, embedding: int, checkpointing: bool) -> None:
        super().__init__()
        self.checkpointing = checkpointing
        self.time = TimeEmbedding(width, 4 * width, embedding)
        self._film_sizes: list[int] = []

    def _register(self, block: FilmBlock) -> FilmBlock:
        self._film_sizes.append(2 * block.out_channels)
        return block

    def _films(self) -> nn.Linear:
        return nn.Linear(4 * self.time.features, sum(self._film_sizes))

    def _run(self, stage: nn.Module, x: Tensor, film: Tensor) -> Tensor:
        h: Tensor = checkpoint(stage, x, film, use_reentrant=False) if self.checkpointing and torch.is_grad_enabled() else stage(x, film)
        return h


class _Stage(nn.Module):
    """A block, and attention after it or nothing."""

    def __init__(self, block: FilmBlock, attention: nn.Module) -> None:
        super().__init__()
        self.block, self.attention = block, attention

    def forward(self, x: Tensor, film: Tensor) -> Tensor:
        h: Tensor = self.attention(self.block(x, film))
        return h


class UNet(_TimeNet):
    """(x [B, C, *S], t [B], embedding [B, E]) -> [B, C', *S].

    Per level `blocks` residual blocks, then a strided convolution; two blocks about an attention layer at the bottom; on the way up
    `blocks + 1` blocks per level, each of which also sees what its counterpart on the way down gave out. Sizes are matched on the way up,
    so that any size will do, also another than `shape`. The last layer starts at zero.

    Paper: Denoising Diffusion Probabilistic Models (Ho et al., 2020) | https://arxiv.org/abs/2006.11239, with scale-shift norms from
    Improved DDPM (Nichol, Dhariwal, 2021) | https://arxiv.org/abs/2102.09672

    Args:
        in_channels, out_channels: C and C'.
        shape: S, of 1 to 3 axes.
        channels: features at each level, each of half the resolution of the last.
        blocks: residual blocks per level.
        attention: levels, from 0 (or from the bottom: -1), whose blocks are followed by self-attention; the two blocks at the bottom have
            one between them where any level has.
        head_channels: features per head of attention.
        embedding: E, size of the condition's embedding; 0 for none.
        dropout: probability within the blocks.
        checkpointing: keep only the inputs of blocks for the backward pass, and compute the rest again.

    Raises:
        ConfigError: no channels, no spatial axes, or a level that does not exist.

    >>> net = UNet(1, 2, (13, 9), [8, 16], attention=[1], embedding=3)
    >>> net(torch.zeros(4, 1, 13, 9), torch.arange(4), torch.zeros(4, 3)).shape
    torch.Size([4, 2, 13, 9])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        shape: Sequence[int],
        channels: Sequence[int],
        *,
        blocks: int = 2,
        attention: Sequence[int] = (),
        head_channels: int = 32,
        embedding: int = 0,
        dropout: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        if not channels or not shape:
            raise ConfigError(f"a U-Net needs `channels` and 1 to 3 axes; got {list(channels)} for {tuple(shape)}. See ResidualMLP.")
        levels = len(channels)
        if any(not -levels <= level < levels for level in attention):
            raise ConfigError(f"`attention` must name some of the levels 0 to {levels - 1}, or -1 to {-levels}; got {list(attention)}.")
        attentive = {level % levels for level in attention}
        super().__init__(channels[0], embedding, checkpointing)
        dim, many = len(shape), [math.prod(s) > 1 for s in level_shapes(shape, levels)]

        def stage(level: int, width: int, *, attend: bool) -> _Stage:
            out, attend = channels[level], attend and many[level]  # a single position has nothing to attend to
            block = self._register(FilmBlock(dim, width, out, dropout=dropout, positions=many[level]))
            return _Stage(block, SelfAttention(out, head_channels) if attend else nn.Identity())

        self.first = conv(dim, in_channels, channels[0])
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        width, skips = channels[0], [channels[0]]
        for level, out in enumerate(channels):
            for _ in range(blocks):
                self.down.append(stage(level, width, attend=level in attentive))
                skips.append(width := out)
            if level + 1 < levels:
                self.down.append(conv(dim, width, width, stride=2))
                skips.append(width)
        last = levels - 1
        self.middle = nn.ModuleList((stage(last, width, attend=bool(attentive)), stage(last, width, attend=False)))
        for level, out in reversed(list(enumerate(channels))):
            for _ in range(blocks + 1):
                self.up.append(stage(level, width + skips.pop(), attend=level in attentive))
                width = out
            if level:
                self.up.append(conv(dim, width, width))
        self.norm = group_norm(width) if many[0] or width == 1 else nn.GroupNorm(1, width)
        self.last = _zero(conv(dim, width, out_channels))
        self.film = self._films()

    def forward(self, x: Tensor, t: Tensor, embedding: Tensor | None = None) -> Tensor:
        """x [B, C, *S], t [B] of any dtype, embedding [B, E] -> [B, C', *S]."""
        films = iter(self.film(self.time(t, embedding)).split(self._film_sizes, 1))
        h = self.first(x)
        skips = [h]
        for stage in self.down:
            h = self._run(stage, h, next(films)) if isinstance(stage, _Stage) else stage(h)
            skips.append(h)
        for stage in self.middle:
            h = self._run(stage, h, next(films))
        for stage in self.up:
            if isinstance(stage, _Stage):
                h = self._run(stage, torch.cat((h, skips.pop()), 1), next(films))
            else:  # the convolution runs at the lower resolution: a quarter (2-D) or an eighth (3-D) of the work
                h = F.interpolate(stage(h), size=skips[-1].shape[2:], mode="nearest")
        return self.last(F.silu(self.norm(h)))


class ResidualMLP(_TimeNet):
    """The same for vectors: (x [B, C], t [B], embedding [B, E]) -> [B, C'], `blocks` residual blocks of each of the widths.

    Args:
        in_channels, out_channels: C and C'.
        channels: widths.
        blocks, embedding, dropout, checkpointing: as in `UNet`.

    >>> ResidualMLP(3, 3, [16, 16])(torch.zeros(4, 3), torch.arange(4)).shape
    torch.Size([4, 3])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        channels: Sequence[int],
        *,
        blocks: int = 2,
        embedding: int = 0,
        dropout: float = 0.0,
        checkpointing: bool = False,
    ) -> None:
        if not channels:
            raise ConfigError("a residual network needs `channels`; got none.")
        super().__init__(channels[0], embedding, checkpointing)
        self.first = nn.Linear(in_channels, channels[0])
        widths = [channels[0], *(width for width in channels for _ in range(blocks))]
        self.blocks = nn.ModuleList(self._register(FilmBlock(0, a, b, dropout=dropout, positions=False)) for a, b in pairwise(widths))
        self.norm = nn.GroupNorm(1, widths[-1]) if widths[-1] > 1 else nn.Identity()
        self.last = _zero(nn.Linear(widths[-1], out_channels))
        self.film = self._films()

    def forward(self, x: Tensor, t: Tensor, embedding: Tensor | None = None) -> Tensor:
        """x [B, C], t [B] of any dtype, embedding [B, E] -> [B, C']."""
        films = self.film(self.time(t, embedding)).split(self._film_sizes, 1)
        h = self.first(x)
        for block, film in zip(self.blocks, films, strict=True):
            h = self._run(block, h, film)
        return self.last(F.silu(self.norm(h)))


def time_net(
    in_channels: int,
    out_channels: int,
    shape: Sequence[int],
    channels: Sequence[int],
    *,
    blocks: int = 2,
    attention: Sequence[int] = (),
    head_channels: int = 32,
    embedding: int = 0,
    dropout: float = 0.0,
    checkpointing: bool = False,
) -> nn.Module:
    """The network for arrays of `shape`: a `UNet`, or for () a `ResidualMLP`, which has no attention. Arguments as there.

    >>> type(time_net(3, 3, (), [16])).__name__
    'ResidualMLP'
    """
    if not shape:
        return ResidualMLP(
            in_channels, out_channels, channels, blocks=blocks, embedding=embedding, dropout=dropout, checkpointing=checkpointing
        )
    return UNet(
        in_channels,
        out_channels,
        shape,
        channels,
        blocks=blocks,
        attention=attention,
        head_channels=head_channels,
        embedding=embedding,
        dropout=dropout,
        checkpointing=checkpointing,
    )


def _zero(layer: nn.Module) -> nn.Module:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
