"""`GeneratorNet`: from z to an array in model units; and the units in which a discriminator sees it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medgen.interfaces import Noise
from medgen.nn import Resize, conv, level_shapes
from medgen.nn.adversarial import VirtualBatchNorm, normalisation
from medgen.registry import ImageSpec

__all__ = ["GeneratorNet", "centred"]

_REFERENCE = 0x5EED  # seed of the reference batch


class GeneratorNet(nn.Module):
    """v [B, F] -> x [B, C, *S], as DCGAN: a linear layer, then per level norm, rectifier, doubling and convolution.

    Doubling repeats neighbours before a convolution where DCGAN has transposed convolutions: no checkerboards, and any size.
    Values with bounds leave through tanh, label maps through softmax, all others as they are.
    Papers: Unsupervised Representation Learning with Deep Convolutional GANs (Radford et al., 2016) | https://arxiv.org/abs/1511.06434;
    Deconvolution and Checkerboard Artifacts (Odena et al., 2016) | https://doi.org/10.23915/distill.00003

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
                    layers += [Resize(shapes[level - 1]), self._wide(conv(dim, channels[level], channels[level - 1]))]
            layers.append(conv(dim, channels[0], spec.channels))
        self.net = nn.Sequential(*layers)
        drawn = Noise(_REFERENCE, torch.arange(reference)).normal(in_features) if norm == "virtual" else None
        self.register_buffer("reference", drawn)

    @property
    def _bias(self) -> bool:
        return self._norm in ("none", "group")  # the others take it away again

    def _wide(self, layer: nn.Module) -> nn.Module:
        if not self._bias:
            layer.register_parameter("bias", None)
        return layer

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


def centred(x: Tensor, spec: ImageSpec) -> Tensor:
    """Values with bounds in [-1, 1], all others as they are."""
    if spec.bounds is None:
        return x
    low, high = spec.bounds
    return (x - 0.5 * (low + high)) * (2.0 / (high - low))
