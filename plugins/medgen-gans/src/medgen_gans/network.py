"""`GeneratorNet`: from z to an array in model units."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medgen.interfaces import Noise
from medgen.nn import conv, level_shapes
from medgen.nn.adversarial import VirtualBatchNorm, normalisation
from medgen.registry import ImageSpec

__all__ = ["GeneratorNet"]

_TRANSPOSED: dict[int, type[nn.Module]] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_REFERENCE = 0x5EED  # seed of the reference batch


class GeneratorNet(nn.Module):
    """v [B, F] -> x [B, C, *S], as DCGAN: a linear layer, per level norm, rectifier and transposed convolution; a last convolution.

    The kernels are 4 wide at stride 2, so that every position gets as many terms; what is beyond an odd size is cut off.
    Values with bounds leave through tanh, label maps through softmax, all others as they are.
    Paper: Unsupervised Representation Learning with Deep Convolutional GANs (Radford et al., 2016) | https://arxiv.org/abs/1511.06434

    Args:
        in_features: F.
        spec: of x.
        channels: features at each resolution; layer widths for vectors.
        norm: "none", "batch", "group" or "virtual".
        reference: samples of the reference batch of virtual batch normalisation; it is drawn from N(0, I) once and kept with the weights.
    """

    reference: Tensor | None

    def __init__(self, in_features: int, spec: ImageSpec, channels: Sequence[int], *, norm: str, reference: int) -> None:
        super().__init__()
        self.spec, self._norm, self._rows, dim = spec, norm, reference, spec.dim
        shapes = level_shapes(spec.shape, len(channels))
        layers: list[nn.Module] = []
        if dim == 0:
            width = in_features
            for wide in reversed(channels):
                layers += [nn.Linear(width, wide, bias=self._bias), self._normal(0, wide), nn.ReLU()]
                width = wide
            layers.append(nn.Linear(width, spec.channels))
        else:
            layers += [nn.Linear(in_features, channels[-1] * math.prod(shapes[-1])), nn.Unflatten(1, (channels[-1], *shapes[-1]))]
            for level in range(len(channels) - 1, -1, -1):
                layers += [self._normal(dim, channels[level]), nn.ReLU()]
                if level:
                    layers.append(_Double(shapes[level - 1], channels[level], channels[level - 1], bias=self._bias))
            layers.append(conv(dim, channels[0], spec.channels))
        self.net = nn.Sequential(*layers)
        drawn = Noise(_REFERENCE, torch.arange(reference)).normal(in_features) if norm == "virtual" else None
        self.register_buffer("reference", drawn)

    @property
    def _bias(self) -> bool:
        return self._norm in ("none", "group")  # the others take it away again

    def _normal(self, dim: int, channels: int) -> nn.Module:
        return VirtualBatchNorm(channels, self._rows) if self._norm == "virtual" else normalisation(self._norm, dim, channels)

    def forward(self, v: Tensor) -> Tensor:
        """[B, F] -> [B, C, *S] in model units; label maps as shares of the classes."""
        if self.reference is None:
            return self._finished(self.net(v))
        return self._finished(self.net(torch.cat((self.reference.to(v.dtype), v)))[self._rows :])

    def _finished(self, h: Tensor) -> Tensor:
        if self.spec.content == "labels":
            return torch.softmax(h, 1)
        if self.spec.bounds is None:
            return h
        low, high = self.spec.bounds
        return 0.5 * (low + high) + 0.5 * (high - low) * torch.tanh(h)


class _Double(nn.Module):
    """[B, C, *(S / 2 rounded up)] -> [B, C', *S]."""

    def __init__(self, shape: tuple[int, ...], in_channels: int, out_channels: int, *, bias: bool) -> None:
        super().__init__()
        self.net = _TRANSPOSED[len(shape)](in_channels, out_channels, 4, stride=2, padding=1, bias=bias)
        self._within = (slice(None), slice(None), *(slice(size) for size in shape))

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.net(x)[self._within]
        return h
