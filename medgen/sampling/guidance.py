"""Wrappers that make one denoiser of another: classifier-free guidance and dynamic thresholding."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from medgen.errors import ConfigError
from medgen.maths import Prediction, x0_coefficients

__all__ = ["dynamic_threshold", "guided"]

Network = Callable[[Tensor, Tensor], Tensor]
"""(x [B, *S], t or sigma [B]) -> output."""


def guided(denoiser: Network, scale: float) -> Network:
    """Classifier-free guidance, u + scale (c - u), by one call of 2 B samples: a denoiser of B samples.

    The condition is doubled once, before the loop; x and t are doubled here, into buffers kept from step to step. Holds for any
    prediction, since x_0, eps, v and the score are linear in each other. A learned variance is the conditional one, not extrapolated.

    Paper: Classifier-Free Diffusion Guidance (Ho, Salimans, 2022) | https://arxiv.org/abs/2207.12598; their w is scale - 1.

    Args:
        denoiser: (x [2 B, *S], t [2 B]) -> output, of which rows 0..B-1 are conditional (c) and rows B..2B-1 unconditional (u).
        scale: 0 is unconditional, 1 conditional, more than 1 guided.

    Raises:
        ConfigError: a scale that is not finite; in the loop: an output without 2 B rows.

    >>> shift = torch.tensor([[1.0], [0.0]])  # what the condition adds, for B = 1
    >>> guided(lambda x, t: x + shift, 3.0)(torch.zeros(1, 1), torch.tensor([0]))
    tensor([[3.]])
    """
    if not math.isfinite(scale):
        raise ConfigError(f"`scale` must be finite; got {scale}.")
    buffers: dict[str, Tensor] = {}

    def doubled(name: str, tensor: Tensor) -> Tensor:
        buffer = buffers.get(name)
        shape = (2 * len(tensor), *tensor.shape[1:])
        if buffer is None or buffer.shape != shape or buffer.dtype != tensor.dtype or buffer.device != tensor.device:
            buffer = buffers[name] = tensor.new_empty(shape)
        buffer.view(2, *tensor.shape).copy_(tensor)
        return buffer

    def call(x: Tensor, t: Tensor) -> Tensor:
        output = denoiser(doubled("x", x), doubled("t", t))
        if len(output) != 2 * len(x):
            raise ConfigError(f"`denoiser` must return {2 * len(x)} rows, conditional then unconditional; got {len(output)}.")
        conditional, unconditional = output.tensor_split(2)
        if output.shape[1:] == x.shape[1:]:
            return torch.lerp(unconditional, conditional, scale)
        channels = x.shape[1]
        mean = torch.lerp(unconditional[:, :channels], conditional[:, :channels], scale)
        return torch.cat((mean, conditional[:, channels:]), 1)

    return call


def dynamic_threshold(
    denoiser: Network, *, alpha_bar: Tensor | None = None, prediction: Prediction = "x0", quantile: float = 0.995, bound: float = 1.0
) -> Network:
    """x_0 -> clamp(x_0, -s, s) bound / s, s = the `quantile` of |x_0| of each sample, at least `bound`: predicts what `denoiser` does.

    It keeps strongly guided samples from saturating. The quantile is an element (the smallest with that share of elements not above it).

    Paper: Imagen (Saharia et al., 2022) | https://arxiv.org/abs/2205.11487, section 2.3

    Args:
        denoiser: (x [B, *S], t [B]) -> output.
        alpha_bar: [T], needed to make x_0 of a prediction other than "x0", t then being int64.
        prediction: what the denoiser predicts.
        quantile: in (0, 1].
        bound: positive; data lie in [-bound, bound].

    Raises:
        ConfigError: an argument out of range, or no alpha_bar where one is needed.

    >>> dynamic_threshold(lambda x, t: 4 * x, quantile=0.5)(torch.tensor([[0.1, 0.5, 1.0, -1.0]]), torch.tensor([0]))
    tensor([[ 0.2000,  1.0000,  1.0000, -1.0000]])
    """
    if not 0 < quantile <= 1 or not bound > 0:
        raise ConfigError(f"`quantile` must be in (0, 1] and `bound` positive; got {quantile} and {bound}.")
    if prediction != "x0" and alpha_bar is None:
        raise ConfigError(f"`alpha_bar` must be given for a denoiser that predicts {prediction}; got None.")
    bar = torch.full((1,), 0.5) if alpha_bar is None else alpha_bar.detach().double()
    table = torch.stack(x0_coefficients(bar.sqrt(), (1 - bar).sqrt(), prediction))

    def limited(x0: Tensor) -> Tensor:
        sizes = x0.flatten(1).abs()
        limit = sizes.kthvalue(max(math.ceil(quantile * sizes.shape[1]), 1), dim=1).values.clamp(min=bound)
        limit = limit.view(-1, *[1] * (x0.dim() - 1))
        return torch.clamp(x0, -limit, limit) * (bound / limit)

    def call(x: Tensor, t: Tensor) -> Tensor:
        nonlocal table
        output = denoiser(x, t)
        first = output if output.shape == x.shape else output[:, : x.shape[1]]
        if prediction == "x0":
            result = limited(first)
        else:
            if table.device != x.device or table.dtype != x.dtype:
                table = table.to(x.device, x.dtype)
            on_x, on_output = table[:, t].reshape(2, -1, *[1] * (x.dim() - 1)).unbind(0)
            result = (limited(on_x * x + on_output * first) - on_x * x) / on_output
        return result if output.shape == x.shape else torch.cat((result, output[:, x.shape[1] :]), 1)

    return call
