"""Several resolutions: blocks of positions become channels, and half of the channels leave at each resolution."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from itertools import chain

import torch
from torch import Tensor

from medgen.nn.flow.transform import Chain, Inverted, Transform, log_det_dtype

__all__ = ["MultiScale", "OnFirst", "Squeeze"]

Steps = Callable[[int, tuple[int, ...]], Iterable[Transform]]


class Squeeze(Transform):
    """[B, C, *S] -> [B, C 2^n, *S'], blocks of 2 positions along each of the n even axes become channels; log-determinant 0.

    An axis of odd size stays as it is.

    Args:
        shape: S.

    Paper: Density estimation using Real NVP (Dinh, Sohl-Dickstein, Bengio, 2016) | https://arxiv.org/abs/1605.08803

    >>> squeeze = Squeeze((2, 3))
    >>> squeeze(torch.tensor([[[[1, 2, 3], [4, 5, 6]]]]))[0].tolist(), squeeze.factor, squeeze.out_shape
    ([[[[1, 2, 3]], [[4, 5, 6]]]], 2, (1, 3))
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self._blocks = [2 if size % 2 == 0 else 1 for size in shape]
        self.factor = math.prod(self._blocks)
        """Channels after for each one before."""
        self.out_shape = tuple(size // block for size, block in zip(shape, self._blocks, strict=True))
        """S'."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Positions to channels."""
        n = len(self._blocks)
        split = list(chain.from_iterable(zip(self.out_shape, self._blocks, strict=True)))
        parts = x.reshape(*x.shape[:2], *split).permute(0, 1, *range(3, 3 + 2 * n, 2), *range(2, 2 + 2 * n, 2))
        return parts.reshape(len(x), -1, *self.out_shape), x.new_zeros(len(x), dtype=log_det_dtype(x.dtype))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Channels to positions."""
        n = len(self._blocks)
        parts = z.reshape(len(z), -1, *self._blocks, *self.out_shape)
        order = chain.from_iterable((2 + n + axis, 2 + axis) for axis in range(n))
        shape = [size * block for size, block in zip(self.out_shape, self._blocks, strict=True)]
        return parts.permute(0, 1, *order).reshape(len(z), -1, *shape), z.new_zeros(len(z), dtype=log_det_dtype(z.dtype))


class OnFirst(Transform):
    """A map of the first `channels` channels; the others pass through.

    >>> from medgen.nn.flow import Flip
    >>> OnFirst(Flip(), 2)(torch.tensor([[1.0, 2.0, 3.0]]))[0].tolist()
    [[2.0, 1.0, 3.0]]
    """

    def __init__(self, transform: Transform, channels: int) -> None:
        super().__init__()
        self.transform, self.channels = transform, channels

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The map on the first channels."""
        first, log_det = self.transform(x[:, : self.channels], context)
        return torch.cat((first, x[:, self.channels :]), 1), log_det

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Its inverse on the first channels."""
        first, log_det = self.transform.inverse(z[:, : self.channels], context)
        return torch.cat((first, z[:, self.channels :]), 1), log_det


class MultiScale(Transform):
    """At each resolution: `before`, squeeze, `after`; then the second half of the channels leaves through `prior`, the first goes deeper.

    The latent keeps the shape of x: what leaves is put back beside what went deeper, so the map drops nothing. A Gaussian prior of the
    leaving half b given the other half a is the affine coupling b -> (b - m(a)) / sd(a), which makes the whole latent standard normal.

    Args:
        channels, shape: C and S of x.
        levels: resolutions; fewer where no axis can be halved any more.
        after: transforms of [B, C', *S'] at a resolution, from (C', S').
        before: the same ahead of the squeeze, for masks over positions.
        prior: transforms of [B, C', *S'] that change the second half of the channels given the first, from (C', S').
        reversible: as in `Chain`, at every resolution.

    Papers: Real NVP (Dinh, Sohl-Dickstein, Bengio, 2016) | https://arxiv.org/abs/1605.08803 ; Glow (Kingma, Dhariwal, 2018) |
    https://arxiv.org/abs/1807.03039

    >>> from medgen.nn.flow import ActNorm
    >>> pyramid = MultiScale(1, (28, 28), 3, after=lambda channels, shape: [ActNorm(channels)])
    >>> pyramid.resolutions  # 7 is odd
    [(14, 14), (7, 7)]
    >>> pyramid(torch.zeros(2, 1, 28, 28))[0].shape
    torch.Size([2, 1, 28, 28])
    """

    def __init__(
        self,
        channels: int,
        shape: Sequence[int],
        levels: int,
        *,
        after: Steps,
        before: Steps = lambda _channels, _shape: (),
        prior: Steps = lambda _channels, _shape: (),
        reversible: bool = False,
    ) -> None:
        super().__init__()
        self.resolutions: list[tuple[int, ...]] = []
        """S' of each resolution."""
        self.reversible = reversible
        self._make = (before, after, prior)
        self.level = self._level(channels, tuple(shape), levels)
        del self._make  # closures do not belong in a module that is copied and pickled

    def _level(self, channels: int, shape: tuple[int, ...], remaining: int) -> Chain:
        before, after, prior = self._make
        squeeze = Squeeze(shape)
        wide, small = channels * squeeze.factor, squeeze.out_shape
        self.resolutions.append(small)
        parts = [*before(channels, shape), squeeze, *after(wide, small)]
        if remaining > 1 and any(size % 2 == 0 for size in small) and wide > 1:
            kept = wide // 2
            parts += [*prior(wide, small), OnFirst(self._level(kept, small, remaining - 1), kept)]
        return Chain([*parts, Inverted(squeeze)], reversible=self.reversible)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Through all resolutions."""
        found: tuple[Tensor, Tensor] = self.level(x, context)
        return found

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Back through them."""
        return self.level.inverse(z, context)
