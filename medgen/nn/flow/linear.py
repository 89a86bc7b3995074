"""Invertible linear maps across channels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from medgen.nn.flow.transform import Transform, log_det_dtype

__all__ = ["InvertibleConv"]


class InvertibleConv(Transform):
    """z = W x at every position, W = P L (U + diag(sign exp(s))) [C, C]; ln |det| = prod(S) sum s.

    P is a fixed permutation, L unit lower triangular, U strictly upper triangular; W starts as a random rotation. The inverse takes two
    triangular solves. Products are in float32 or better under autocast too, since the inverse must undo them.

    Args:
        channels: C of [B, C, *S]; any number of axes, none included.

    Paper: Glow: generative flow with invertible 1x1 convolutions (Kingma, Dhariwal, 2018) | https://arxiv.org/abs/1807.03039

    >>> mix = InvertibleConv(3)
    >>> x = torch.randn(2, 3, 4)
    >>> z, log_det = mix(x)
    >>> log_det.abs().max().item() < 1e-5, bool(((mix.inverse(z)[0] - x).abs() < 1e-5).all())  # a rotation
    (True, True)
    """

    sign: Tensor
    order: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64)).Q
        p, lower, upper = torch.linalg.lu(rotation)
        diagonal = upper.diagonal()
        self.lower = nn.Parameter(lower.tril(-1).float())
        self.upper = nn.Parameter(upper.triu(1).float())
        self.log_scale = nn.Parameter(diagonal.abs().log().float())
        self.register_buffer("sign", diagonal.sign().float())
        self.register_buffer("order", p.argmax(1))  # (P y)_i = y_order(i)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """W x."""
        with torch.autocast(x.device.type, enabled=False):
            wide = log_det_dtype(x.dtype)
            lower, upper = self._factors(wide)
            z = (lower @ upper)[self.order] @ x.to(wide).flatten(2) if x.dim() > 2 else x.to(wide) @ (lower @ upper)[self.order].T
        return z.view(x.shape).to(x.dtype), self._log_det(x)

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """W^-1 z."""
        with torch.autocast(z.device.type, enabled=False):
            wide = log_det_dtype(z.dtype)
            lower, upper = self._factors(wide)
            columns = z.to(wide).transpose(0, 1).flatten(1)[self.order.argsort()]  # P^T z, [C, B prod(S)]
            columns = torch.linalg.solve_triangular(lower, columns, upper=False, unitriangular=True)
            columns = torch.linalg.solve_triangular(upper, columns, upper=True)
            x = columns.view(z.shape[1], len(z), *z.shape[2:]).transpose(0, 1)
        return x.to(z.dtype).contiguous(), -self._log_det(z)

    def _factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        lower = self.lower.to(dtype).tril(-1) + torch.eye(len(self.sign), dtype=dtype, device=self.sign.device)
        return lower, self.upper.to(dtype).triu(1) + torch.diag(self.sign.to(dtype) * torch.exp(self.log_scale.to(dtype)))

    def _log_det(self, x: Tensor) -> Tensor:
        return (self.log_scale.to(log_det_dtype(x.dtype)).sum() * math.prod(x.shape[2:])).expand(len(x))
