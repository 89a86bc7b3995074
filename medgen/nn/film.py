"""Networks that know the time: `TimeEmbedding`, and `FilmBlock`, whose features it scales and shifts."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgen.nn.layers import conv, group_norm

__all__ = ["FilmBlock", "TimeEmbedding", "sinusoids"]


def sinusoids(t: Tensor, width: int, *, slowest: float = 10_000.0) -> Tensor:
    """(cos(t f_0), ..., sin(t f_0), ...) with f_i = slowest^(-i / (width / 2)): [B] -> [B, width]; float64 for float64 t, else float32.

    Paper: Attention Is All You Need (Vaswani et al., 2017) | https://arxiv.org/abs/1706.03762

    Args:
        t: times, of any dtype; the frequencies suit a range of about 0 to 1000.
        width: features; an odd one leaves a 0 at the end.
        slowest: 1 / the lowest frequency.

    >>> sinusoids(torch.tensor([0, 1]), 4)
    tensor([[1.0000, 1.0000, 0.0000, 0.0000],
            [0.5403, 0.9999, 0.8415, 0.0100]])
    """
    dtype = torch.float64 if t.dtype == torch.float64 else torch.float32
    half = max(1, width // 2)
    frequency = torch.exp(torch.arange(half, device=t.device, dtype=dtype) * (-math.log(slowest) / half))
    angle = t.to(dtype)[:, None] * frequency
    return F.pad(torch.cat((angle.cos(), angle.sin()), 1)[:, :width], (0, max(0, width - 2 * half)))


class TimeEmbedding(nn.Module):
    """silu(W2 silu(W1 sinusoids(t)) + W3 e): time [B] and a condition's embedding [B, E] -> [B, out_features].

    Args:
        features: of the sinusoids.
        out_features: of the result.
        embedding: E; 0 for none.
    """

    def __init__(self, features: int, out_features: int, embedding: int = 0) -> None:
        super().__init__()
        self.features = features
        self.layer1, self.layer2 = nn.Linear(features, out_features), nn.Linear(out_features, out_features)
        self.condition = nn.Linear(embedding, out_features, bias=False) if embedding else None

    def forward(self, t: Tensor, embedding: Tensor | None = None) -> Tensor:
        """[B], [B, E] -> [B, out_features]."""
        weight = self.layer1.weight
        wave = sinusoids(t.double() if weight.dtype == torch.float64 else t, self.features).to(weight.dtype)
        h = self.layer2(F.silu(self.layer1(wave)))
        if self.condition is not None and embedding is not None:
            h = h + self.condition(embedding)
        return F.silu(h)


class FilmBlock(nn.Module):
    """skip(x) + conv(drop(silu((1 + scale) norm(conv(silu(norm(x)))) + shift))): [B, C, *S] -> [B, C', *S].

    Scale and shift come from outside, [B, 2 C']: one linear layer makes those of all blocks of a network. The last layer starts at zero.
    Papers: Denoising Diffusion Probabilistic Models (Ho et al., 2020) | https://arxiv.org/abs/2006.11239;
    FiLM (Perez et al., 2018) | https://arxiv.org/abs/1709.07871

    Args:
        dim: spatial axes; 0 for vectors [B, C].
        in_channels, out_channels: C and C'.
        dropout: probability.
        positions: whether there is more than one; over a single one small groups would leave little but signs.
    """

    def __init__(self, dim: int, in_channels: int, out_channels: int, *, dropout: float = 0.0, positions: bool = True) -> None:
        super().__init__()
        self.out_channels, self.dim = out_channels, dim
        self.norm1, self.norm2 = (group_norm(c) if positions or c == 1 else nn.GroupNorm(1, c) for c in (in_channels, out_channels))
        self.conv1, self.conv2 = conv(dim, in_channels, out_channels), conv(dim, out_channels, out_channels)
        self.dropout = nn.Dropout(dropout)
        self.skip = conv(dim, in_channels, out_channels, kernel=1) if in_channels != out_channels else nn.Identity()
        for parameter in self.conv2.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, film: Tensor) -> Tensor:
        """x [B, C, *S], film [B, 2 C'] -> [B, C', *S]."""
        scale, shift = film.reshape(*film.shape, *[1] * self.dim).chunk(2, 1)
        h = self.norm2(self.conv1(F.silu(self.norm1(x))))
        return self.skip(x) + self.conv2(self.dropout(F.silu(torch.addcmul(shift, h, 1 + scale))))
