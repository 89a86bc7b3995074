"""Rational-quadratic spline coupling."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medgen.ops._coupling import Mask, check_out, compute_dtype, folded, mask_number, refuse_gradients
from medgen.ops._define import define, under_func
from medgen.ops.reference import rq_spline as reference

__all__ = ["rq_spline_coupling"]

_FORM = "int bins, float tail, int mask, int split, bool inverse"


def _out(x: Tensor, parameters: Tensor, *args: Any) -> Tensor:
    *form, out = args
    y, log_det = reference.rq_spline_coupling(x, parameters, *form)
    out.copy_(y)
    return log_det


def _gradients_fake(_g: Tensor, _h: Tensor, x: Tensor, parameters: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(parameters.shape)


_gradients_op = define(
    f"rq_spline_coupling_backward(Tensor grad_y, Tensor grad_log_det, Tensor x, Tensor parameters, {_FORM}) -> (Tensor, Tensor)",
    reference=reference.rq_spline_gradients,
    fake=_gradients_fake,
    vmap=folded("rq_spline_coupling_backward"),
)


def _gradients(ctx: Any, grad_y: Tensor, grad_log_det: Tensor) -> tuple[Any, ...]:
    op = reference.rq_spline_gradients if torch.is_grad_enabled() else _gradients_op
    return *op(grad_y, grad_log_det, *ctx.saved_tensors, *ctx.form), None, None, None, None, None


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:  # noqa: ARG001  (called by keyword)
    x, parameters, *form = inputs
    ctx.form = form
    ctx.save_for_backward(x, parameters)


_op = define(
    f"rq_spline_coupling(Tensor x, Tensor parameters, {_FORM}) -> (Tensor, Tensor)",
    reference=reference.rq_spline_coupling,
    fake=lambda x, *_: (x.new_empty(x.shape), x.new_empty(x.shape[:1])),
    backward=_gradients,
    setup_context=_save,
    vmap=folded("rq_spline_coupling"),
    autocast=torch.float32,
)
_out_op = define(
    f"rq_spline_coupling_out(Tensor x, Tensor parameters, {_FORM}, Tensor(a!) out) -> Tensor",
    reference=_out,
    fake=lambda x, *_: x.new_empty(x.shape[:1]),
)


def rq_spline_coupling(
    x: Tensor,
    parameters: Tensor,
    *,
    bins: int,
    tail: float = 3.0,
    mask: Mask = "second",
    split: int | None = None,
    inverse: bool = False,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """y = f(x) and log |dy/dx| = sum log f', f a monotone rational-quadratic spline on [-tail, tail], the identity beyond; or its inverse.

    Args:
        x: [B, D] or [B, C, *S].
        parameters: [B, P (3 K - 1), *S] as a network emits it: for each of the P transformed features or channels (or of all; always of all
            for a checkerboard) K raw widths, K raw heights and K - 1 raw slopes, one after another along dim 1. Widths and heights are at
            least 1e-3 of the interval, slopes at least 1e-3.
        bins: K >= 1.
        tail: half the interval's length, > 0.
        mask, split, inverse, out: as in `affine_coupling`.

    Returns:
        y in the dtype of x, and the log-det [B], float32 (float64 for float64 inputs) summed in float64.

    Raises:
        ConfigError: shapes, mask, bins or tail do not fit.

    Paper: Neural Spline Flows (Durkan, Bekasov, Murray, Papamakarios, 2019) | https://arxiv.org/abs/1906.04032

    >>> x, p = torch.tensor([[0.5, 1.0, 9.0]]), torch.zeros(1, 2 * 11)
    >>> y, log_det = rq_spline_coupling(x, p, bins=4)
    >>> y, log_det
    (tensor([[0.5000, 1.0393, 9.0000]]), tensor([0.1060]))
    >>> rq_spline_coupling(y, p, bins=4, inverse=True)[0]
    tensor([[0.5000, 1.0000, 9.0000]])
    """
    form = (bins, tail, mask_number(mask), x.size(1) // 2 if split is None else split, inverse)
    wide = compute_dtype(x, parameters)
    wide_x, wide_p = x.to(wide), parameters.to(wide)
    reference.check_spline(x, parameters, *form[:4])
    if out is not None:
        refuse_gradients(x, parameters, None)
        check_out(out, x)
        if x.dtype is wide:
            return out, _out_op(x, wide_p, *form, out)
        y, log_det = _op(wide_x, wide_p, *form)
        return out.copy_(y), log_det
    # autograd under torch.func cannot go through the op's gradients
    y, log_det = (reference.rq_spline_coupling if under_func() else _op)(wide_x, wide_p, *form)
    return y.to(x.dtype), log_det
