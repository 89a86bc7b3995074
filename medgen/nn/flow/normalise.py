"""Element-wise affine maps: by channel, initialised on data, or one factor per value."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgen.nn.flow.transform import Transform, log_det_dtype

__all__ = ["ActNorm", "DiagonalScale", "initialise"]


class ActNorm(Transform):
    """z = x exp(s) + b, per channel; ln |det| = prod(S) sum s. The identity until `initialise` fits b and s to data.

    Unlike batch normalisation, no sample ever depends on its batch.

    Args:
        channels: C of [B, C, *S].

    Paper: Glow: generative flow with invertible 1x1 convolutions (Kingma, Dhariwal, 2018) | https://arxiv.org/abs/1807.03039

    >>> norm = ActNorm(1)
    >>> initialise(norm, torch.tensor([[1.0], [3.0]]))
    >>> norm(torch.tensor([[1.0], [3.0]]))[0].tolist()
    [[-1.0], [1.0]]
    """

    zero: Tensor
    one: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))
        self.register_buffer("zero", torch.zeros(channels), persistent=False)
        self.register_buffer("one", torch.ones(channels), persistent=False)
        self.initialising = False

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scaled, then shifted."""
        if self.initialising:
            self._fit(x)
        # Batch normalisation by the statistics 0 and 1: one kernel there and one back, where the formula takes two and six.
        return F.batch_norm(x, self.zero, self.one, torch.exp(self.log_scale), self.bias, eps=0.0), self._log_det(x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Shifted, then scaled, back."""
        shape = (1, -1, *[1] * (z.dim() - 2))
        return (z - self.bias.view(shape)) * torch.exp(-self.log_scale).view(shape), -self._log_det(z)

    def _log_det(self, x: Tensor) -> Tensor:
        total = self.log_scale.sum(dtype=log_det_dtype(x.dtype))
        return (total * math.prod(x.shape[2:]) if x.dim() > 2 else total).expand(len(x))

    @torch.no_grad()
    def _fit(self, x: Tensor) -> None:
        values = x.double().transpose(0, 1).flatten(1)
        mean, sd = values.mean(1), values.std(1, correction=0)
        sd = torch.where(sd > 1e-6 * (1.0 + mean.abs()), sd, 1.0)  # a constant channel keeps its scale: its density has no maximum
        self.bias.copy_(-mean / sd)
        self.log_scale.copy_(-sd.log())


@torch.no_grad()
def initialise(transform: Transform, x: Tensor, context: Tensor | None = None) -> None:
    """Fit every `ActNorm` within `transform` so that its output over x has mean 0 and variance 1 per channel, the first one first.

    Called by families from `PreparesOnData.prepare`: which data initialises the model is said, rather than being the first to come along.

    Args:
        transform: changed in place.
        x: [B, C, *S], what `transform` takes.
        context: of these samples.
    """
    norms = [module for module in transform.modules() if isinstance(module, ActNorm)]
    try:
        for norm in norms:
            norm.initialising = True
        if norms:
            transform(x, context)
    finally:
        for norm in norms:
            norm.initialising = False


class DiagonalScale(Transform):
    """z = x exp(s), one s per value; ln |det| = sum s.

    Args:
        shape: (C, *S) of one sample.

    Paper: NICE: non-linear independent components estimation (Dinh, Krueger, Bengio, 2014) | https://arxiv.org/abs/1410.8516

    >>> DiagonalScale((2,))(torch.ones(1, 2))[0].tolist()
    [[1.0, 1.0]]
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(*shape))

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scaled."""
        return x * torch.exp(self.log_scale), self._log_det(x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Scaled back."""
        return z * torch.exp(-self.log_scale), -self._log_det(z)

    def _log_det(self, x: Tensor) -> Tensor:
        return self.log_scale.to(log_det_dtype(x.dtype)).sum().expand(len(x))
