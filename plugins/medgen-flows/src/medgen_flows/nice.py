"""`nice`: additive couplings and one scale per value.

Paper: NICE: non-linear independent components estimation (Dinh, Krueger, Bengio, 2014) | https://arxiv.org/abs/1410.8516
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from medgen.maths import log_standard_normal
from medgen.nn.flow import AdditiveCoupling, Chain, DiagonalScale, Inverted, MlpConditioner, Transform, coupling_sizes, log_det_dtype
from medgen.ops.affine_coupling import Mask
from medgen.registry import ConditionSpec, ImageSpec
from medgen_flows.config import NiceConfig
from medgen_flows.flow import Flow

__all__ = ["LogisticToNormal", "Nice"]


class Nice(Flow):
    """z = x + t by turns on even and odd values of the flattened sample, then z exp(s).

    >>> import medgen
    >>> model = medgen.create("nice", medgen.ImageSpec(channels=1, shape=(6, 6)), width=16)
    >>> model.log_prob(model.sample(3, noise=0)).shape
    torch.Size([3])
    """

    config: NiceConfig

    def __init__(self, config: NiceConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        super().__init__(config, image_spec, conditions)
        size = image_spec.numel
        masks: tuple[Mask, ...] = ("odd", "even") if size > 1 else ("even",)
        flatten = _Flatten(image_spec.size)
        parts: list[Transform] = [flatten]
        for number in range(config.couplings):
            mask = masks[number % len(masks)]
            seen, changed = coupling_sizes(size, mask)
            net = MlpConditioner(seen, changed, width=config.width, depth=config.depth, context=self.embedding.size)
            parts.append(AdditiveCoupling(net, mask=mask))
        parts.append(DiagonalScale((size,)))
        if config.prior == "logistic":
            parts.append(LogisticToNormal())
        self.transform = Chain([*parts, Inverted(flatten)])


class _Flatten(Transform):
    """[B, C, *S] -> [B, C prod(S)]."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return x.flatten(1), x.new_zeros(len(x), dtype=log_det_dtype(x.dtype))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return z.reshape(len(z), *self.shape), z.new_zeros(len(z), dtype=log_det_dtype(z.dtype))


class LogisticToNormal(Transform):
    """u = Phi^-1(sigmoid(z)): a standard logistic prior of z, as a standard normal one of u. Computed in float64.

    >>> LogisticToNormal()(torch.tensor([[0.0, 2.0, 200.0]]))[0]
    tensor([[ 0.0000,  1.1790, 19.8037]])
    """

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The normal quantile, by Newton's method on ln Phi in the lower half, where neither tail rounds to 1."""
        z = x.double()
        below = torch.where(z > 0, -z, z)
        target = F.logsigmoid(below)
        with torch.no_grad():
            tail = -2.0 * target
            u = torch.where(target > -5.0, torch.special.ndtri(target.exp()), -(tail - (6.2832 * tail).log()).clamp(min=0.0).sqrt())
            for _ in range(4):
                u = u - (torch.special.log_ndtr(u) - target) / _hazard(u)
        u = u - (torch.special.log_ndtr(u) - target) / _hazard(u)  # once more for the gradient: du = d target / hazard
        log_det = F.logsigmoid(z) + F.logsigmoid(-z) - log_standard_normal(u)
        return torch.where(z > 0, -u, u).to(x.dtype), log_det.flatten(1).sum(1).to(log_det_dtype(x.dtype))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """ln Phi(u) - ln Phi(-u)."""
        u = z.double()
        x = torch.special.log_ndtr(u) - torch.special.log_ndtr(-u)
        log_det = log_standard_normal(u) - F.logsigmoid(x) - F.logsigmoid(-x)
        return x.to(z.dtype), log_det.flatten(1).sum(1).to(log_det_dtype(z.dtype))


def _hazard(u: Tensor) -> Tensor:
    """d ln Phi(u) / du."""
    return torch.exp(log_standard_normal(u) - torch.special.log_ndtr(u))
