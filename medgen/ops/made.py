"""The inverse of a masked autoregressive transform, every unit of its network computed once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from medgen.errors import ConfigError
from medgen.ops._coupling import compute_dtype
from medgen.ops._define import define, ensure_native, under_func
from medgen.ops._vmap import by_rows
from medgen.ops.reference import made as reference

__all__ = ["Activation", "Form", "made_invert"]

Activation = Literal["relu", "tanh", "silu"]
Form = Literal["affine", "gated"]

_SHAPE = "int activation, int form, float s_max"


def _backward_fake(_g: Tensor, _h: Tensor, x: Tensor, hidden: Sequence[Tensor], parameters: Tensor, *_: Any) -> tuple[Tensor, list[Tensor]]:
    return x.new_empty(x.shape), [h.new_empty(h.shape) for h in (*hidden, parameters)]


_backward_op = define(
    "made_invert_backward(Tensor grad_x, Tensor grad_log_det, Tensor x, Tensor[] hidden, Tensor parameters, Tensor[] weights, "
    f"Tensor[] degrees, {_SHAPE}) -> (Tensor, Tensor[])",
    reference=reference.made_invert_backward,
    fake=_backward_fake,
)


def _gradients(ctx: Any, grad_x: Tensor, grad_log_det: Tensor) -> tuple[Any, ...]:
    n = ctx.layers
    z, x, context, *tensors = ctx.saved_tensors
    weights, biases, degrees = tensors[:n], tensors[n : 2 * n], tensors[2 * n :]
    if torch.is_grad_enabled():  # under create_graph: the D passes, so that any further order is autograd's business
        return _by_autograd(grad_x, grad_log_det, z, weights, biases, degrees, context, ctx.form)
    hidden, parameters = reference.network(x, weights, biases, degrees, context, ctx.form[0])
    grad_z, deltas = _backward_op(grad_x.contiguous(), grad_log_det.contiguous(), x, hidden, parameters, weights, degrees, *ctx.form)
    found = reference.made_invert_gradients(deltas, x, hidden, degrees, ctx.form[0], context is not None)
    return grad_z, found[0], found[1], [None] * n, found[2], None, None, None


def _by_autograd(
    grad_x: Tensor,
    grad_log_det: Tensor,
    z: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    degrees: Sequence[Tensor],
    context: Tensor | None,
    form: tuple[int, int, float],
) -> tuple[Any, ...]:
    n = len(weights)
    leaves = [
        v if v.requires_grad else v.detach().requires_grad_() for v in (z, *weights, *biases, *([] if context is None else [context]))
    ]
    outputs = reference.made_invert(
        leaves[0], leaves[1 : n + 1], leaves[n + 1 : 2 * n + 1], degrees, leaves[-1] if context is not None else None, *form
    )
    found = torch.autograd.grad(outputs, leaves, [grad_x, grad_log_det], create_graph=True, materialize_grads=True)
    last = found[-1] if context is not None else None
    return found[0], list(found[1 : n + 1]), list(found[n + 1 : 2 * n + 1]), [None] * n, last, None, None, None


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    z, weights, biases, degrees, context, *form = inputs
    ctx.form, ctx.layers = tuple(form), len(weights)
    ctx.save_for_backward(z, output[0], context, *weights, *biases, *degrees)


_op = define(
    f"made_invert(Tensor z, Tensor[] weights, Tensor[] biases, Tensor[] degrees, Tensor? context, {_SHAPE}) -> (Tensor, Tensor)",
    reference=reference.made_invert,
    fake=lambda z, *_: (z.new_empty(z.shape), z.new_empty(z.shape[:1])),
    backward=_gradients,
    setup_context=_save,
    vmap=by_rows("made_invert", 0, 4),
    autocast=torch.float32,
)


def made_invert(
    z: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    degrees: Sequence[Tensor],
    *,
    context: Tensor | None = None,
    activation: Activation = "relu",
    form: Form = "affine",
    s_max: float = 2.0,
) -> tuple[Tensor, Tensor]:
    """x of z_i = (x_i - t_i) exp(-b_i) ("affine") or z_i = g_i x_i + (1 - g_i) t_i ("gated"), and ln |det dx/dz|.

    [s | t] = W_L phi(... phi(W_1 x + b_1)) + b_L with masked weights, so that s_i and t_i depend on features of lower degree only;
    b = s_max tanh(s / s_max), and for gates ln g = s_max tanh(ln sigmoid(s) / s_max).

    Feature after feature, in the order of the degrees: every hidden unit is computed once, when its last input is known. The whole costs
    about one pass through the network, where asking the network D times costs D. On CUDA, D passes. Gradients go backwards through the
    same order; they are differentiable again (then by D passes).

    Args:
        z: [B, D].
        weights: [H_1, D], [H_2, H_1], ..., [2 D, H_L] of L >= 0 hidden layers; entries that the degrees forbid are never read.
        biases: [H_1], ..., [2 D].
        degrees: int64 [D], a permutation of 1..D, the features' order; then [H_1], ..., [H_L]: a hidden unit sees what has a degree up to
            its own, an output what has a lower one than its feature.
        context: [B, H_1 + 2 D] (2 D without hidden layers), added to the first hidden layer and to the outputs.
        activation: phi.
        form: of the transform.
        s_max: > 0, in nats.

    Returns:
        x in the dtype of z, and the log-det [B], float32 (float64 for float64 inputs) summed in float64. A row is the same to the bit in
        any batch and at any number of threads.

    Raises:
        ConfigError: shapes, degrees, activation, form or s_max do not fit.

    Papers: MADE (Germain et al., 2015) | https://arxiv.org/abs/1502.03509; MAF (Papamakarios et al., 2017) | https://arxiv.org/abs/1705.07057

    >>> w = torch.tensor([[0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.5, 0.0]])  # t_2 = x_1 / 2, no hidden layer
    >>> made_invert(torch.tensor([[2.0, 3.0]]), [w], [torch.zeros(4)], [torch.tensor([1, 2])])
    (tensor([[2., 4.]]), tensor([0.]))
    """
    numbers = _number(reference.ACTIVATIONS, activation, "activation"), _number(reference.FORMS, form, "form"), s_max
    if not s_max > 0.0:
        raise ConfigError(f"`s_max` must be > 0; got {s_max}.")
    reference.check_made(z, weights, biases, degrees, context)
    wide = compute_dtype(z, *weights)
    inputs = z.to(wide), [w.to(wide) for w in weights], [b.to(wide) for b in biases], list(degrees)
    extra = None if context is None else context.to(wide)
    if not torch.compiler.is_compiling():
        _check_degrees(degrees)
    ensure_native(z.device)
    # torch.func has no rule for the gradient of an op of the library; the reference it can take apart
    call = reference.made_invert if under_func() else _op
    x, log_det = call(*inputs, extra, *numbers)
    return x.to(z.dtype), log_det


def _check_degrees(degrees: Sequence[Tensor]) -> None:
    count = len(degrees[0])
    if not torch.equal(degrees[0].sort()[0], torch.arange(1, count + 1, device=degrees[0].device)):
        raise ConfigError(f"`degrees` must begin with a permutation of 1..{count}; got {degrees[0].tolist()}.")
    if any(values.numel() and int(values.min()) < 0 for values in degrees[1:]):
        raise ConfigError("`degrees` of hidden units must not be negative; 0 is for those that see the context alone.")


def _number(names: Sequence[str], name: str, argument: str) -> int:
    if name not in names:
        raise ConfigError(f"`{argument}` must be one of {', '.join(names)}; got {name!r}.")
    return names.index(name)
