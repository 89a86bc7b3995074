"""`SelfAttention` over the positions of an array."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgen.errors import ConfigError
from medgen.nn.layers import group_norm

__all__ = ["SelfAttention"]

_FEW = 1024  # positions


class SelfAttention(nn.Module):
    """x + W softmax(Q K^T / sqrt(d)) V, every position attending to all others: [B, C, *S] -> [B, C, *S].

    W starts at zero, so that the layer starts as the identity. Its memory grows with the positions, not their square, where torch has a
    fused kernel.
    Paper: Attention Is All You Need (Vaswani et al., 2017) | https://arxiv.org/abs/1706.03762

    Args:
        channels: C.
        head_channels: d, features per head; the most that divides C is taken where it does not divide C itself.

    Raises:
        ConfigError: head_channels < 1.
    """

    def __init__(self, channels: int, head_channels: int = 32) -> None:
        super().__init__()
        if head_channels < 1:
            raise ConfigError(f"`head_channels` must be at least 1; got {head_channels}.")
        self.head_channels = next(d for d in range(min(head_channels, channels), 0, -1) if channels % d == 0)
        self.norm = group_norm(channels)
        # No bias: softmax does not see that of K, and the norm before has one for Q and V.
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.out = nn.Linear(channels, channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, *S] -> [B, C, *S]."""
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # [B, N, C]
        q, k, v = self.qkv(tokens).unflatten(2, (3, -1, self.head_channels)).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = _attend(q, k, v).transpose(1, 2).flatten(2)
        return x + self.out(mixed).transpose(1, 2).reshape(x.shape)


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V of [B, heads, N, d]."""
    if q.device.type == "cpu" and torch.is_grad_enabled() and q.shape[2] <= _FEW:
        # The fused kernel's backward pass for the CPU took 40 ms where this takes 4 (B = 64, 64 positions, bfloat16).
        return torch.softmax((q * q.shape[-1] ** -0.5) @ k.transpose(2, 3), 3) @ v
    return F.scaled_dot_product_attention(q, k, v)
