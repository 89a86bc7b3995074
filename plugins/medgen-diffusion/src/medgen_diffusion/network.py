"""`Network`: the denoising network of a model with its conditions, and `Scaling`, the units it sees."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from medgen.interfaces import Batch, Condition, Noise
from medgen.nn import ConditionEmbedding, ConditionImages, time_net
from medgen.registry import ConditionSpec, ImageSpec
from medgen_diffusion.config import NetworkConfig

__all__ = ["Denoise", "Network", "Scaling"]

Denoise = Callable[[Tensor, Tensor], Tensor]
"""(x [B, C, *S], t [B]) -> output [B, C', *S] of x's type."""

Net = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(x, t, embedding [B, E]) -> output."""


class Network(nn.Module):
    """A U-Net (residual network for vectors) that knows time and conditions: images beside x, all else embedded.

    Images with another number of axes than x are embedded too.

    Args:
        config: its size.
        image_spec: of x.
        conditions: the slots.
        required: those that are never missing.
        outputs: C' / C.
    """

    def __init__(
        self,
        config: NetworkConfig,
        image_spec: ImageSpec,
        conditions: Sequence[ConditionSpec],
        *,
        required: Sequence[str],
        outputs: int = 1,
    ) -> None:
        super().__init__()
        self._size = image_spec.size
        beside = [spec for spec in conditions if spec.image is not None and spec.image.dim == image_spec.dim]
        others = [spec for spec in conditions if spec not in beside]
        self.embedding = ConditionEmbedding(others, config.condition_width, required=[s.name for s in others if s.name in required])
        self.images = ConditionImages(beside, image_spec.shape, required=required)
        self.net = time_net(
            image_spec.channels + self.images.channels,
            outputs * image_spec.channels,
            image_spec.shape,
            config.channels,
            blocks=config.blocks,
            attention=config.attention,
            head_channels=config.head_channels,
            embedding=self.embedding.size,
            dropout=config.dropout,
            checkpointing=config.checkpointing,
        )

    def given(self, condition: Condition, like: Tensor, net: Net | None = None) -> Denoise:
        """The network under the conditions of a batch `like` x [B, C, *S], which are embedded once, not at every step.

        Args:
            condition, like: of B samples.
            net: to call instead of the own one, with the same inputs.
        """
        return self._bound(net or self.net, self.embedding(condition, len(like)), self.images(condition, like))

    def with_and_without(self, condition: Condition, like: Tensor, net: Net | None = None) -> Denoise:
        """The network on 2 B rows, of which the first B have the conditions of a batch `like` x, and the others none."""
        none = Condition()
        pairs = zip(
            (self.embedding(condition, len(like)), self.images(condition, like)),
            (self.embedding(none, len(like)), self.images(none, like)),
            strict=True,
        )
        return self._bound(net or self.net, *(None if a is None or b is None else torch.cat((a, b)) for a, b in pairs))

    def probe(self) -> Iterator[tuple[Tensor, Tensor, Tensor | None]]:
        """Inputs of `net` on which two ways to compute it are compared: noise at four times, the same for every model of this shape."""
        own = next(self.net.parameters())
        x = (self._size[0] + self.images.channels, *self._size[1:])
        rows = max(1, -(-1024 // math.prod(self._size)))
        noise = Noise(0, torch.arange(rows, device=own.device))
        for stream, time in enumerate((125, 375, 625, 875)):  # of the 0 to 1000 or so that all families use
            embedding = noise.normal(self.embedding.size, stream=2 * stream + 1) if self.embedding.size else None
            yield noise.normal(*x, stream=2 * stream), torch.full((rows,), time, device=own.device), embedding

    def _bound(self, net: Net, embedding: Tensor | None, images: Tensor | None) -> Denoise:
        def denoise(x: Tensor, t: Tensor) -> Tensor:
            output = net(x if images is None else torch.cat((x, images), 1), t, embedding)
            return output.to(x.dtype)  # autocast may have halved it

        return denoise


class Scaling(nn.Module):
    """Between model units x and those of the diffusion, u.

    u lies in [-1, 1] where x has bounds and `standardise` is not asked for. Else each channel has mean 0 and standard deviation 1; where x
    has bounds, and channels so are of one kind, that of all channels together.

    Args:
        spec: of x.
        standardise: measure data with bounds too.
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, spec: ImageSpec, *, standardise: bool = False) -> None:
        super().__init__()
        self.bounded, self._pooled = spec.bounds is not None and not standardise, spec.bounds is not None
        self._positions = math.prod(spec.shape)
        low, high = spec.bounds or (-1.0, 1.0)
        channels = (spec.channels, *[1] * spec.dim)
        for name, value in (("mean", (low + high) / 2), ("sd", (high - low) / 2)):
            self.register_buffer(name, torch.full(channels, value), persistent=not self.bounded)  # bounds are known from the spec

    def forward(self, x: Tensor) -> Tensor:
        """u = (x - mean) / sd."""
        return (x - self.mean) / self.sd

    def inverse(self, u: Tensor) -> Tensor:
        """x = mean + sd u."""
        return torch.addcmul(self.mean, u, self.sd)

    @property
    def log_det(self) -> Tensor:
        """ln |det du/dx| of one sample, a scalar."""
        return -self.sd.log().sum() * self._positions

    @torch.no_grad()
    def fit(self, batches: Iterable[Batch]) -> None:
        """Measure mean and standard deviation, but where the bounds are the scale. Constant channels keep theirs."""
        if self.bounded:
            return
        n, centre = 0, self.mean.double()
        first, second = torch.zeros_like(centre), torch.zeros_like(centre)
        axes = [0, *range(2, centre.dim() + 1)]
        for batch in batches:
            x = batch.x.double()
            if n == 0:
                centre = x.mean(axes, keepdim=True)[0]  # sums about some value near the mean lose no digits
            n += x.numel() // x.shape[1]
            first += (x - centre).sum(axes, keepdim=True)[0]
            second += (x - centre).square().sum(axes, keepdim=True)[0]
        if n:
            variance = second / n - (first / n).square()
            variance = variance.mean().expand_as(variance) if self._pooled else variance
            self.mean.copy_(centre + first / n)
            self.sd.copy_(torch.where(variance > 0, variance.sqrt(), self.sd.double()))
