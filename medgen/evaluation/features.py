"""Extractors turn arrays [B, C, *S] into features [B, F]. Two ship, need no download and no training; users bring their own.

`medgen-random-conv-v1` is not Inception: its distances compare models that were measured with it, on the same data and n, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

from medgen.errors import DataError
from medgen.ops import philox_normal

__all__ = ["IDENTITY", "MAPPED", "RANDOM_CONV", "Extractor", "Identity", "RandomConv", "extract", "resized"]

MAPPED = "value_range mapped to [-1, 1]"  # "input" in the recipe of an extractor to which the units of the model make no difference
RANDOM_CONV = "medgen-random-conv-v1"
IDENTITY = "medgen-identity-v1"

Range = tuple[float, float]


@runtime_checkable
class Extractor(Protocol):
    """What turns arrays into features.

    Attributes:
        name: unique for the numbers it gives: another version, another name.
        dim: F.
        recipe: plain JSON values that describe it: input size, range, channels, file hash.
    """

    name: str
    dim: int
    recipe: Mapping[str, Any]

    def __call__(self, x: Tensor, value_range: Range) -> Tensor:
        """Features [B, F] of x [B, C, *S], whose units span `value_range`."""
        ...


class RandomConv:
    """Fixed random convolutions, `medgen-random-conv-v1`: texture statistics at four scales, and a coarse picture.

    x is mapped to [-1, 1]; four times: h <- |W * h| with 3^d filters of mean zero (edges replicated), whose spatial means and standard
    deviations per filter are features, then h <- mean over 2^d voxels. The filters, 8, 12, 16 and 20, come from Philox, are orthogonal
    where their fan-in allows, and are rounded to 1/1024, so that they are the same integers everywhere. To these 112 features come the
    means of x over a grid of 16 (1-D), 4^2 or 3^3 cells per channel.

    What it is: a scattering-like summary that grows with blur, noise, contrast change, displacement, and missing modes, in 1-D, 2-D and
    3-D, with any number of channels, without a download. What it is not: trained, semantic, or comparable with any published figure.

    Args:
        channels: C.
        dim: number of spatial axes, 1 to 3.

    >>> x = torch.linspace(-1, 1, 64).view(1, 1, 8, 8)
    >>> features = RandomConv(channels=1, spatial_dim=2)(x, (-1.0, 1.0))
    >>> tuple(features.shape), [round(v, 3) for v in features[0, :3].tolist()]
    ((1, 128), [-0.857, -0.794, -0.73])
    """

    WIDTHS = (8, 12, 16, 20)
    GRID: Mapping[int, int] = {1: 16, 2: 4, 3: 3}
    GAIN = 2.0
    SEED = 0x6D656467656E  # "medgen" in ASCII

    def __init__(self, channels: int, spatial_dim: int) -> None:
        if spatial_dim not in self.GRID:
            raise DataError(f"extractor {RANDOM_CONV!r} needs 1 to 3 spatial axes; got {spatial_dim}. Vectors take {IDENTITY!r}.")
        self.name = RANDOM_CONV
        self.spatial_dim = spatial_dim
        fans = [3**spatial_dim * c for c in (channels, *self.WIDTHS[:-1])]
        self.filters = [self._integers(level, out, fan) for level, (out, fan) in enumerate(zip(self.WIDTHS, fans, strict=True))]
        self.dim = 2 * sum(self.WIDTHS) + channels * self.GRID[spatial_dim] ** spatial_dim
        self.recipe: Mapping[str, Any] = {
            "network": "fixed random convolutions, 4 levels; not Inception",
            "input": MAPPED,
        }

    @classmethod
    def _integers(cls, level: int, out: int, fan: int) -> Tensor:
        """Filters of one level times 1024, int64 [out, fan]: rows of norm about 1024 and sum about 0."""
        rows = philox_normal(cls.SEED, torch.arange(out), (fan,), stream=level, dtype=torch.float64)
        rows = rows - rows.mean(1, keepdim=True)
        if out < fan:
            q, r = torch.linalg.qr(rows.T)
            rows = (q * r.diagonal().sign()).T  # LAPACKs differ in the sign of a column
        else:
            rows = rows / rows.norm(dim=1, keepdim=True)
        return (rows * 1024).round().long()

    def __call__(self, x: Tensor, value_range: Range) -> Tensor:
        """Features [B, F] of x [B, C, *S]."""
        d = self.spatial_dim
        conv = (F.conv1d, F.conv2d, F.conv3d)[d - 1]
        pools: tuple[Callable[..., Tensor], ...] = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)
        h = 2.0 * (x.float() - value_range[0]) / (value_range[1] - value_range[0]) - 1.0
        features = [_cell_means(h, (self.GRID[d],) * d).flatten(1)]
        for integers in self.filters:
            weight = (integers.to(h.device).float() * (self.GAIN / 1024)).view(len(integers), -1, *(3,) * d)
            h = conv(F.pad(h, [1] * (2 * d), mode="replicate"), weight).abs()
            features += [h.flatten(2).mean(2), h.flatten(2).std(2, correction=0)]
            h = pools[d - 1](h, [min(2, size) for size in h.shape[2:]], ceil_mode=True)
        return torch.cat(features, 1)


class Identity:
    """The values themselves, each standardised by the real set: `medgen-identity-v1`, for vectors and table rows.

    Args:
        real: the real set [N, C, *S], whose mean and standard deviation (1/N) become 0 and 1; constant columns are only centred.

    >>> Identity(torch.tensor([[1.0], [3.0]]))(torch.tensor([[5.0]]), (0.0, 1.0)).tolist()
    [[3.0]]
    """

    def __init__(self, real: Tensor) -> None:
        flat = real.flatten(1).double()
        self.name = IDENTITY
        self.dim = flat.shape[1]
        self.mean, sd = flat.mean(0), flat.std(0, correction=0)
        self.sd = torch.where(sd > 0, sd, 1.0)
        self.recipe: Mapping[str, Any] = {"network": "none: the values themselves", "input": "standardised by the real set"}

    def __call__(self, x: Tensor, value_range: Range) -> Tensor:
        """Features [B, F] of x [B, C, *S]."""
        return (x.flatten(1).double() - self.mean.to(x.device)) / self.sd.to(x.device)


def extract(extractor: Extractor, x: Tensor, value_range: Range) -> Tensor:
    """Features [N, F] of x [N, C, *S] without gradients, in batches of about 2^22 values.

    Raises:
        DataError: the extractor returns something else than finite [B, F].
    """
    size = max(1, min(256, 2**22 // max(1, x[0].numel())))
    with torch.no_grad():
        parts = [_checked(extractor, rows, extractor(rows, value_range)) for rows in x.split(size)]
    return torch.cat(parts)


def _checked(extractor: Extractor, x: Tensor, features: Any) -> Tensor:
    expected = (len(x), extractor.dim)
    if not isinstance(features, Tensor) or tuple(features.shape) != expected:
        got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise DataError(f"extractor {extractor.name!r} must return features of shape {expected}; got {got}.")
    if not bool(features.isfinite().all()):
        raise DataError(f"extractor {extractor.name!r} returned NaN or infinity; check the value range it expects.")
    return features


def resized(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """x [B, C, *S] on the grid `size`: mean over cells along axes that shrink (no aliasing), linear along axes that grow.

    >>> resized(torch.tensor([[[0.0, 2.0, 4.0, 6.0]]]), (2,)).tolist()
    [[[1.0, 5.0]]]

    Raises:
        DataError: another number of axes, or an axis below 1.
    """
    shape = tuple(x.shape[2:])
    if len(size) != len(shape) or min(size, default=0) < 1:
        raise DataError(f"`resize` must give {len(shape)} sizes of at least 1, one per axis of {shape}; got {size}.")
    smaller = tuple(min(pair) for pair in zip(size, shape, strict=True))
    if smaller != shape:
        x = _cell_means(x, smaller)
    if smaller != size:
        x = F.interpolate(x, size=size, mode=("linear", "bilinear", "trilinear")[len(shape) - 1], align_corners=False)
    return x


def _cell_means(x: Tensor, size: tuple[int, ...]) -> Tensor:
    pools: tuple[Callable[..., Tensor], ...] = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d, F.adaptive_avg_pool3d)
    return pools[len(size) - 1](x, size)
