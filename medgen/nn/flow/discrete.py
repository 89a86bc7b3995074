"""From bounded and discrete values to the whole line: `Logit` and `Dequantise`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgen.errors import ConfigError
from medgen.interfaces import Noise
from medgen.nn.flow.conditioners import Beside, ConvConditioner, MlpConditioner
from medgen.nn.flow.coupling import AffineCoupling, coupling_sizes
from medgen.nn.flow.transform import Chain, Transform, log_det_dtype
from medgen.ops.affine_coupling import Mask
from medgen.registry import ImageSpec

__all__ = ["Dequantise", "Logit", "has_levels"]


class Logit(Transform):
    """z = logit(alpha + (1 - 2 alpha) v), v = (x - low) / (high - low).

    alpha > 0 keeps z finite on all of [low, high]: the line is mapped to an interval that is wider by `margin` on either side. The inverse
    saturates there: it never leaves that interval and never gives NaN.

    Args:
        alpha: in (0, 1/2); 0.05 for images, 1e-6 for MNIST.
        low, high: limits of x.

    Papers: Real NVP (Dinh, Sohl-Dickstein, Bengio, 2016) | https://arxiv.org/abs/1605.08803 ;
    Masked Autoregressive Flow (Papamakarios, Pavlakou, Murray, 2017) | https://arxiv.org/abs/1705.07057

    >>> Logit(0.05)(torch.tensor([[0.0, 0.5, 1.0]]))[0]
    tensor([[-2.9444,  0.0000,  2.9444]])
    """

    def __init__(self, alpha: float, low: float = 0.0, high: float = 1.0) -> None:
        super().__init__()
        if not 0.0 < alpha < 0.5:
            raise ConfigError(f"`alpha` must be in (0, 0.5); got {alpha}.")
        self.alpha, self.low, self.high = alpha, low, high
        self._slope = (1.0 - 2.0 * alpha) / (high - low)
        self.margin = alpha / self._slope
        """How far x can lie beyond its limits, alpha (high - low) / (1 - 2 alpha)."""

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The logit; the log-determinant, hence any density, is -infinity beyond the margin."""
        p = self.alpha + self._slope * (x - self.low)
        inside = (p > 0.0) & (p < 1.0)
        p = torch.where(inside, p, 0.5)
        log_p, log_q = p.log(), torch.log1p(-p)
        return log_p - log_q, _total(torch.where(inside, math.log(self._slope) - log_p - log_q, -math.inf))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The sigmoid."""
        x = self.low + (torch.sigmoid(z) - self.alpha) / self._slope
        return x, _total(_log_slope(z) - math.log(self._slope))


def _log_slope(z: Tensor) -> Tensor:
    """ln sigmoid'(z)."""
    return F.logsigmoid(z) + F.logsigmoid(-z)


def _total(terms: Tensor) -> Tensor:
    """Sum per sample, [B]."""
    return terms.to(log_det_dtype(terms.dtype)).flatten(1).sum(1)


def has_levels(spec: ImageSpec) -> bool:
    """Whether the stored values are integers in a finite window, that is, levels.

    >>> from medgen.registry import Intensity
    >>> has_levels(ImageSpec(channels=1, shape=(4,), intensity=Intensity(high=(255,), dtype="uint8")))
    True
    """
    return spec.content == "intensity" and spec.intensity.clip and np.dtype(spec.intensity.dtype).kind in "iu"


class Dequantise(nn.Module):
    """v = (k + u) / L in (0, 1), with k = 0..L-1 the stored level of x and u ~ q(u | k) on (0, 1).

    ln P(k) >= E_q[ln p(v) - ln q(v | k)], ln q(v | k) = ln q(u | k) + sum ln L: for uniform u, ln p(v) - sum ln L on average.

    Args:
        spec: of the images; integers in a window (see `has_levels`), L = high - low + 1 levels per channel.
        kind: "uniform", or "variational": u = sigmoid(g(logit(w); k)), w uniform, g four affine couplings conditioned on the image. They
            start as the identity, hence u as uniform.
        width: features of those couplings' networks.

    Raises:
        ConfigError: the spec's values have no levels.

    Papers: A note on the evaluation of generative models (Theis, van den Oord, Bethge, 2016) | https://arxiv.org/abs/1511.01844 ;
    Flow++ (Ho, Chen, Srinivas, Duan, Abbeel, 2019) | https://arxiv.org/abs/1902.00275

    >>> from medgen.registry import Intensity
    >>> grey = ImageSpec(channels=1, shape=(2,), intensity=Intensity(high=(255,), dtype="uint8"))
    >>> dequantise = Dequantise(grey)
    >>> v, weight = dequantise(torch.tensor([[[0.0, 1.0]]]), Noise.of(0, [0]))
    >>> weight  # -2 ln 256
    tensor([-11.0904])
    >>> dequantise.inverse(v)
    tensor([[[0., 1.]]])
    """

    first: Tensor
    count: Tensor
    low: Tensor
    width: Tensor

    def __init__(self, spec: ImageSpec, kind: Literal["uniform", "variational"] = "uniform", *, width: int = 32) -> None:
        super().__init__()
        if not has_levels(spec):
            rule = spec.intensity
            raise ConfigError(
                "dequantisation needs stored integers in a window (content 'intensity', an integer dtype, clipped); "
                f"got content {spec.content!r}, dtype {rule.dtype}, clip={rule.clip}. Use dequantise=none."
            )
        self._a, self._b = spec.intensity.range
        low, high = (_per_channel(values, spec) for values in (spec.intensity.low, spec.intensity.high))
        first = low.round()
        buffers = {"low": low, "width": high - low, "first": first, "count": high.round() - first + 1.0}
        for name, value in buffers.items():
            self.register_buffer(name, value, persistent=False)  # known from the spec
        self.log_cells = float(buffers["count"].double().log().sum()) * math.prod(spec.shape)
        """Sum of ln L over the values of one sample."""
        self.flow = Chain(_couplings(spec, width)) if kind == "variational" else None

    def forward(self, x: Tensor, noise: Noise, stream: int = 0) -> tuple[Tensor, Tensor]:
        """v [B, C, *S] and -ln q(v | k) [B], for x in model units."""
        k = self._levels(x)
        weight = x.new_full((len(x),), -self.log_cells, dtype=log_det_dtype(x.dtype))
        u = noise.uniform(*x.shape[1:], stream=stream, dtype=x.dtype)
        if self.flow is not None:
            y = u.log() - torch.log1p(-u)
            z, log_det = self.flow(y, 2.0 * (k + 0.5) / self.count - 1.0)
            weight = weight + log_det + _total(_log_slope(z) - _log_slope(y))
            u = torch.sigmoid(z).clamp(1e-6, 1.0 - 1e-6)  # the sigmoid may round to 1, which belongs to the next level
        return (k + u) / self.count, weight

    def centre(self, x: Tensor) -> Tensor:
        """v with u = 1/2."""
        return (self._levels(x) + 0.5) / self.count

    def inverse(self, v: Tensor, *, rounded: bool = True) -> Tensor:
        """x of v: the level below v L, or, without rounding and differentiable, v L - 1/2, which inverts `centre`. Always in [a, b]."""
        k = torch.floor(v * self.count) if rounded else v * self.count - 0.5
        k = torch.minimum(k.clamp(min=0.0), self.count - 1.0)
        return (self._a + (k + self.first - self.low) / self.width * (self._b - self._a)).clamp(self._a, self._b)

    def _levels(self, x: Tensor) -> Tensor:
        k = (self.low + (x - self._a) / (self._b - self._a) * self.width).round() - self.first
        return torch.minimum(k.clamp(min=0.0), self.count - 1.0)


def _per_channel(values: Sequence[float], spec: ImageSpec) -> Tensor:
    return torch.tensor(values).expand(spec.channels).clone().view(-1, *[1] * spec.dim)


def _couplings(spec: ImageSpec, width: int) -> list[AffineCoupling]:
    masks: tuple[Mask, ...] = ("checkerboard_even", "checkerboard_odd") if spec.dim else ("even", "odd") if spec.channels > 1 else ("even",)
    parts = []
    for mask in masks * 2:
        seen, changed = coupling_sizes(spec.channels, mask)
        seen += spec.channels
        net = ConvConditioner(spec.dim, seen, 2 * changed, width=width) if spec.dim else MlpConditioner(seen, 2 * changed, width=width)
        parts.append(AffineCoupling(Beside(net), mask=mask))
    return parts
