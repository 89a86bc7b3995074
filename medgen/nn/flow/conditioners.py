"""Networks that emit the parameters of a coupling. Their last layer starts at zero: affine and additive couplings start as the identity."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from medgen.nn.layers import ResidualBlock, conv

__all__ = ["Beside", "ConvConditioner", "MlpConditioner"]


class _Conditioner(nn.Module):
    """h = first(x) + V c; out = last(trunk(h)), with first and last affine, or convolutions."""

    def __init__(self, first: nn.Module, trunk: nn.Module, last: nn.Module, width: int, context: int) -> None:
        super().__init__()
        self.first, self.trunk, self.last = first, trunk, last
        self.context = nn.Linear(context, width, bias=False) if context else None
        for parameter in last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x [B, in, *S], context [B, K] -> [B, out, *S]."""
        if x.shape[1] == 0:  # nothing passes through: the parameters are constants, or the context's alone
            x = x.new_zeros(x.shape[0], 1, *x.shape[2:])
        h = self.first(x)
        if self.context is not None and context is not None:
            h = h + self.context(context).view(*h.shape[:2], *[1] * (h.dim() - 2))
        return self.last(self.trunk(h))


class MlpConditioner(_Conditioner):
    """Multi-layer perceptron with SiLU, with which flows of tables fit better than with ReLU: [B, in_features] -> [B, out_features].

    Args:
        in_features, out_features: as `coupling_sizes` and the coupling say.
        width: features of each hidden layer.
        depth: hidden layers, at least 1.
        context: K, size of the context vector, added before the first activation; 0 for none.

    >>> MlpConditioner(2, 4)(torch.randn(3, 2))
    tensor([[0., 0., 0., 0.], [0., 0., 0., 0.], [0., 0., 0., 0.]], grad_fn=<AddmmBackward0>)
    """

    def __init__(self, in_features: int, out_features: int, *, width: int = 64, depth: int = 2, context: int = 0) -> None:
        hidden = [layer for _ in range(depth - 1) for layer in (nn.SiLU(), nn.Linear(width, width))]
        first = nn.Linear(max(1, in_features), width)
        super().__init__(first, nn.Sequential(*hidden, nn.SiLU()), nn.Linear(width, out_features), width, context)


class ConvConditioner(_Conditioner):
    """Residual convolutional network that keeps the grid: [B, in_channels, *S] -> [B, out_channels, *S].

    Args:
        dim: number of spatial axes, 1 to 3.
        in_channels, out_channels: as `coupling_sizes` and the coupling say.
        width: features of each hidden layer.
        blocks: residual blocks.
        context: K, size of the context vector, added to the first features at every position; 0 for none.

    >>> ConvConditioner(3, 2, 4, width=8)(torch.randn(1, 2, 5, 6, 7), None).shape
    torch.Size([1, 4, 5, 6, 7])
    """

    def __init__(self, dim: int, in_channels: int, out_channels: int, *, width: int = 64, blocks: int = 2, context: int = 0) -> None:
        trunk = nn.Sequential(*(ResidualBlock(dim, width) for _ in range(blocks)), nn.SiLU())
        super().__init__(conv(dim, max(1, in_channels), width), trunk, conv(dim, width, out_channels), width, context)


class Beside(nn.Module):
    """A conditioner whose context is an array [B, C', *S] on the grid of x, joined to x as channels."""

    def __init__(self, conditioner: nn.Module) -> None:
        super().__init__()
        self.conditioner = conditioner

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """x [B, in, *S], context [B, C', *S] -> [B, out, *S]."""
        assert context is not None
        return self.conditioner(torch.cat((x, context), 1))
