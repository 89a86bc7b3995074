"""`tiled`: a function of tiles applied to whole arrays, blended where tiles overlap."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from medgen.errors import ConfigError

__all__ = ["Blend", "tile_starts", "tile_weights", "tiled"]

Blend = Literal["hann", "gaussian"]


def tile_starts(length: int, size: int, overlap: float) -> list[int]:
    """First positions of tiles of `size` that cover 0..length-1, evenly spaced, each overlapping the next by at least `overlap` of it.

    >>> tile_starts(10, 4, 0.5), tile_starts(10, 4, 0.0), tile_starts(4, 4, 0.5)
    ([0, 2, 4, 6], [0, 3, 6], [0])
    """
    last = length - size
    if last <= 0:
        return [0]
    count = math.ceil(last / max(1, math.floor(size * (1 - overlap)))) + 1
    return [k * last // (count - 1) for k in range(count)]


def tile_weights(starts: Sequence[int], size: int, length: int, blend: Blend) -> Tensor:
    """Weights [len(starts), size], float64, that sum to 1 at every position: a window over the sum of the windows of all tiles there.

    hann: sin^2(pi (i + 1/2) / size). gaussian: exp(-((i + 1/2) / size - 1/2)^2 / (2 / 8^2)), the standard deviation an eighth of the tile.

    >>> first, second = tile_weights([0, 2], 4, 6, "hann")
    >>> first[:2].tolist(), (first[2:] + second[:2]).tolist(), second[2:].tolist()
    ([1.0, 1.0], [1.0, 1.0], [1.0, 1.0])
    """
    place = (torch.arange(size, dtype=torch.float64) + 0.5) / size
    window = (math.pi * place).sin().square() if blend == "hann" else torch.exp(-(place - 0.5).square() / (2 / 8**2))
    total = torch.zeros(length, dtype=torch.float64)
    for start in starts:
        total[start : start + size] += window
    return torch.stack([window / total[start : start + size] for start in starts])


@torch.no_grad()
def tiled(
    function: Callable[[Tensor, Tensor], Tensor],
    x: Tensor,
    size: Sequence[int],
    *,
    overlap: float = 0.5,
    blend: Blend = "hann",
    micro_batch: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """sum over tiles of w_tile * function(tile), w a partition of unity: [B, C, *S] -> [B, C', *S], without seams.

    The weights are products of one-dimensional windows, each divided by the sum of all windows along its axis, so that they sum to 1 up to
    rounding at every position, the border included; a function that acts on each position by itself comes back as if it had seen the whole.
    Arrays smaller than a tile are extended by their edge values, and the result is cut back.

    Args:
        function: (tiles [M, C, *size], their numbers int64 [M]) -> [M, C', *size]. Numbers count tiles over the batch: b * tiles + tile.
        x: [B, C, *S].
        size: of a tile.
        overlap: least share of a tile that the next one sees too, in [0, 1).
        blend: window of the weights.
        micro_batch: tiles that go through `function` at once.
        progress: called with the number of tiles done and of all.

    Raises:
        ConfigError: another number of axes, or an argument out of range.

    >>> x = torch.arange(12.0).view(1, 1, 12)
    >>> bool((tiled(lambda tiles, _: 2 * tiles, x, (5,)) - 2 * x).abs().max() < 1e-5)
    True
    """
    shape = tuple(x.shape[2:])
    if len(size) != len(shape) or min(size, default=0) < 1:
        raise ConfigError(f"`size` must give {len(shape)} positive numbers, one per axis of {shape}; got {tuple(size)}.")
    if not 0 <= overlap < 1 or micro_batch < 1 or blend not in ("hann", "gaussian"):
        raise ConfigError(
            f"`overlap` must be in [0, 1), `micro_batch` positive and `blend` hann or gaussian; got {overlap}, {micro_batch} and {blend!r}."
        )
    padded = _padded(x, size)
    starts = [tile_starts(n, s, overlap) for n, s in zip(padded.shape[2:], size, strict=True)]
    axes = zip(starts, size, padded.shape[2:], strict=True)
    weights = [tile_weights(first, s, n, blend).to(x.device) for first, s, n in axes]
    places = list(itertools.product(*(range(len(first)) for first in starts)))
    jobs, out = list(itertools.product(range(len(x)), range(len(places)))), None
    for begin in range(0, len(jobs), micro_batch):
        part = jobs[begin : begin + micro_batch]
        regions = [tuple(slice(f[k], f[k] + s) for f, k, s in zip(starts, places[tile], size, strict=True)) for _, tile in part]
        tiles = torch.stack([padded[b][(slice(None), *region)] for (b, _), region in zip(part, regions, strict=True)])
        numbers = torch.tensor([b * len(places) + tile for b, tile in part], device=x.device)
        done = function(tiles, numbers)
        if out is None:
            out = torch.zeros(len(x), done.shape[1], *padded.shape[2:], dtype=done.dtype, device=x.device)
        for (b, tile), region, values in zip(part, regions, done.to(x.device), strict=True):
            out[b][(slice(None), *region)] += (values * _outer([w[k] for w, k in zip(weights, places[tile], strict=True)])).to(out.dtype)
        if progress is not None:
            progress(begin + len(part), len(jobs))
    assert out is not None
    return out[(slice(None), slice(None), *map(slice, shape))]


def _padded(x: Tensor, size: Sequence[int]) -> Tensor:
    """At least one tile along every axis, by repeating the last value."""
    lacking = [max(0, s - n) for n, s in zip(x.shape[2:], size, strict=True)]
    if not any(lacking):
        return x
    return F.pad(x, [side for n in reversed(lacking) for side in (0, n)], mode="replicate")


def _outer(lines: Sequence[Tensor]) -> Tensor:
    """prod_k line_k[i_k], [*size]."""
    out = lines[0]
    for line in lines[1:]:
        out = out[..., None] * line
    return out
