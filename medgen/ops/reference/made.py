"""The inverse of a masked autoregressive transform in PyTorch: D passes through the network, and its gradients.

Papers: MADE (Germain, Gregor, Murray, Larochelle, 2015) | https://arxiv.org/abs/1502.03509
Masked Autoregressive Flow (Papamakarios, Pavlakou, Murray, 2017) | https://arxiv.org/abs/1705.07057
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from medgen.errors import ConfigError
from medgen.ops.reference.affine_coupling import bounded

__all__ = ["ACTIVATIONS", "FORMS", "check_made", "made_invert", "made_invert_backward", "made_invert_gradients", "made_masks", "network"]

ACTIVATIONS = ("relu", "tanh", "silu")
"""phi of the hidden layers; numbered as in csrc/core/made.h."""

FORMS = ("affine", "gated")
"""How x_i becomes z_i; numbered as in csrc/core/made.h."""


def made_masks(degrees: Sequence[Tensor], outputs: int = 2) -> list[Tensor]:
    """What each layer may see, [out, in] bool: a hidden unit the degrees up to its own, the outputs of a feature the degrees below its own.

    >>> made_masks([torch.tensor([1, 2]), torch.tensor([1])], outputs=1)
    [tensor([[ True, False]]), tensor([[False],
            [ True]])]
    """
    hidden = [after[:, None] >= before for before, after in pairwise(degrees)]
    return [*hidden, degrees[0].repeat(outputs)[:, None] > degrees[-1]]


def check_made(z: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], degrees: Sequence[Tensor], context: Tensor | None) -> None:
    """Raise ConfigError where the shapes do not fit."""
    if z.dim() != 2:
        raise ConfigError(f"`z` must be [B, D]; got shape {tuple(z.shape)}.")
    if not len(weights) == len(biases) == len(degrees) >= 1:
        got = f"{len(weights)}, {len(biases)} and {len(degrees)}"
        raise ConfigError(f"`weights` and `biases` must be of every layer, `degrees` of the inputs and of every hidden layer; got {got}.")
    widths = [z.shape[1], *(len(d) for d in degrees[1:]), 2 * z.shape[1]]
    if len(degrees[0]) != z.shape[1]:
        raise ConfigError(f"`degrees` must begin with those of {z.shape[1]} inputs; got {len(degrees[0])}.")
    want = list(zip(widths[1:], widths[:-1], strict=True))
    if [tuple(w.shape) for w in weights] != want or [tuple(b.shape) for b in biases] != [(w,) for w in widths[1:]]:
        raise ConfigError(f"`weights` must be {want}, with biases; got {[tuple(w.shape) for w in weights]}.")
    if context is not None and tuple(context.shape) != (len(z), context_size(degrees)):
        raise ConfigError(f"`context` must be {(len(z), context_size(degrees))}; got {tuple(context.shape)}.")


def context_size(degrees: Sequence[Tensor]) -> int:
    """Columns of the context: one for each unit of the first hidden layer, one for each output."""
    return (len(degrees[1]) if len(degrees) > 1 else 0) + 2 * len(degrees[0])


def _activate(h: Tensor, activation: int) -> Tensor:
    return (torch.relu, torch.tanh, F.silu)[activation](h)


def network(
    x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], degrees: Sequence[Tensor], context: Tensor | None, activation: int
) -> tuple[list[Tensor], Tensor]:
    """What the hidden layers hold before phi, and [raw log-scale | shift] [B, 2 D]."""
    masked = [w * mask.to(w.dtype) for w, mask in zip(weights, made_masks(degrees), strict=True)]
    hidden: list[Tensor] = []
    h = x
    for number, (w, b) in enumerate(zip(masked, biases, strict=True)):
        h = F.linear(h, w, b)
        last = number == len(masked) - 1
        if context is not None and (number == 0 and not last):
            h = h + context[:, : len(b)]
        if context is not None and last:
            h = h + context[:, context.shape[1] - len(b) :]
        if not last:
            hidden.append(h)
            h = _activate(h, activation)
    return hidden, h


def log_scale(s: Tensor, form: int, s_max: float) -> Tensor:
    """b = s_max tanh(l / s_max) with l = s, or l = ln sigmoid(s) of a gate."""
    return bounded(F.logsigmoid(s) if form == 1 else s, 1, s_max)


def _solve(z: Tensor, b: Tensor, t: Tensor, form: int) -> Tensor:
    """x of z = (x - t) exp(-b), or of z = exp(b) x + (1 - exp(b)) t."""
    return z * torch.exp(b) + t if form == 0 else (z + torch.expm1(b) * t) * torch.exp(-b)


def made_invert(
    z: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    degrees: Sequence[Tensor],
    context: Tensor | None,
    activation: int,
    form: int,
    s_max: float,
) -> tuple[Tensor, Tensor]:
    """x and ln |det dx/dz|. Pass d finds the feature of degree d, whose parameters depend on those found before."""
    check_made(z, weights, biases, degrees, context)
    x, b = torch.zeros_like(z), torch.zeros_like(z)
    for degree in range(1, z.shape[1] + 1):
        s, t = network(x, weights, biases, degrees, context, activation)[1].chunk(2, 1)
        now = log_scale(s, form, s_max)
        due = degrees[0] == degree
        x, b = torch.where(due, _solve(z, now, t, form), x), torch.where(due, now, b)
    return x.contiguous(), (b if form == 0 else -b).sum(1, dtype=torch.float64).to(z.dtype)


def _derivative(before: Tensor, activation: int) -> Tensor:
    """phi' of what a hidden layer holds before phi."""
    if activation == 0:
        return (before > 0).to(before.dtype)
    if activation == 1:
        return 1.0 - torch.tanh(before).square()
    gate = torch.sigmoid(before)
    return gate * (1.0 + before * (1.0 - gate))


def made_invert_backward(
    grad_x: Tensor,
    grad_log_det: Tensor,
    x: Tensor,
    hidden: Sequence[Tensor],
    parameters: Tensor,
    weights: Sequence[Tensor],
    degrees: Sequence[Tensor],
    activation: int,
    form: int,
    s_max: float,
) -> tuple[Tensor, list[Tensor]]:
    """Gradient to z, and those to what every layer's units hold before phi, from the solution x and the network's values there.

    The derivative of x with respect to z is triangular in the order of the degrees. It is undone by the chain rule from the last degree to
    the first: when a unit's turn comes, everything that depends on it has had its own.
    """
    masked = [w * mask.to(w.dtype) for w, mask in zip(weights, made_masks(degrees), strict=True)]
    s, t = parameters.chunk(2, 1)
    b = log_scale(s, form, s_max)
    slope = 1.0 - (b / s_max).square()
    slope = slope * torch.sigmoid(-s) if form == 1 else slope
    sign, ratio = (1.0, torch.exp(b)) if form == 0 else (-1.0, torch.exp(-b))
    by_b, by_t = sign * (x - t), torch.ones_like(b) if form == 0 else -torch.expm1(-b)
    deltas = [torch.zeros_like(h) for h in (*hidden, parameters)]
    derivatives = [_derivative(h, activation) for h in hidden]
    grad_z = torch.zeros_like(x)

    def hidden_units(degree: int) -> None:
        for layer in range(len(hidden) - 1, -1, -1):
            units = degrees[layer + 1] == degree
            deltas[layer] = torch.where(units, deltas[layer + 1] @ masked[layer + 1] * derivatives[layer], deltas[layer])

    for degree in range(x.shape[1], 0, -1):
        hidden_units(degree)
        due = degrees[0] == degree
        total = grad_x + deltas[0] @ masked[0]
        grad_z = torch.where(due, total * ratio, grad_z)
        last = torch.cat([(total * by_b + sign * grad_log_det[:, None]) * slope, total * by_t], 1)
        deltas[-1] = torch.where(due.repeat(2), last, deltas[-1])
    hidden_units(0)
    return grad_z.contiguous(), [d.contiguous() for d in deltas]


def made_invert_gradients(
    deltas: Sequence[Tensor], x: Tensor, hidden: Sequence[Tensor], degrees: Sequence[Tensor], activation: int, has_context: bool
) -> tuple[list[Tensor], list[Tensor], Tensor | None]:
    """Gradients to weights, biases and context, from those to the units."""
    inputs = [x, *(_activate(h, activation) for h in hidden)]
    weights = [d.mT @ h * mask.to(h.dtype) for d, h, mask in zip(deltas, inputs, made_masks(degrees), strict=True)]
    context = (torch.cat([deltas[0], deltas[-1]], 1) if hidden else deltas[-1]) if has_context else None
    return weights, [d.sum(0) for d in deltas], context
