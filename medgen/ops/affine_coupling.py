"""Affine and additive coupling: one pass over x and its parameters, forward, inverse, log-det and gradients."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from medgen.errors import ConfigError
from medgen.ops._coupling import MASKS, NATIVE, Mask, check_out, compute_dtype, folded, mask_number, number_of, refuse_gradients
from medgen.ops._define import define
from medgen.ops.reference import affine_coupling as reference

__all__ = ["Bound", "Mask", "additive_coupling", "affine_coupling"]

Bound = Literal["none", "tanh", "soft"]

_BOUNDS = {name: number for number, name in enumerate(reference.BOUNDS)}


def _affine_fake(x: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), x.new_empty(x.shape[:1])


def _affine_out(x: Tensor, *args: Any) -> Tensor:
    *rest, out = args
    y, log_det = reference.affine_coupling(x, *rest)
    out.copy_(y)
    return log_det


def _gradients_fake(_g: Tensor, _h: Tensor, side: Tensor, log_scale: Tensor, packed: bool, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    return side.new_empty(side.shape), side.new_empty(log_scale.shape), side.new_empty(0 if packed else log_scale.shape)


_FORM = "int mask, int split, int bound, float s_max, bool inverse"

_gradients_op = define(
    f"affine_coupling_backward(Tensor grad_y, Tensor grad_log_det, Tensor side, Tensor log_scale, bool packed, {_FORM}) "
    "-> (Tensor, Tensor, Tensor)",
    reference=reference.affine_gradients,
    fake=_gradients_fake,
    vmap=folded("affine_coupling_backward"),
)


def _gradients(ctx: Any, grad_y: Tensor, grad_log_det: Tensor) -> tuple[Any, ...]:
    side, log_scale = ctx.saved_tensors
    # Under create_graph the formula in PyTorch, so that any further order is autograd's business.
    op = reference.affine_gradients if torch.is_grad_enabled() else _gradients_op
    x, s, t = op(grad_y, grad_log_det, side, log_scale, ctx.packed, *ctx.form)
    return x, s, None if ctx.packed else t, None, None, None, None, None


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, log_scale, shift, *form = inputs
    ctx.form, ctx.packed = form, shift is None
    ctx.save_for_backward(output[0] if form[-1] else x, log_scale)


_affine_op = define(
    f"affine_coupling(Tensor x, Tensor log_scale, Tensor? shift, {_FORM}) -> (Tensor, Tensor)",
    reference=reference.affine_coupling,
    fake=_affine_fake,
    backward=_gradients,
    setup_context=_save,
    vmap=folded("affine_coupling"),
    autocast=torch.float32,
)
_affine_out_op = define(
    f"affine_coupling_out(Tensor x, Tensor log_scale, Tensor? shift, {_FORM}, Tensor(a!) out) -> Tensor",
    reference=_affine_out,
    fake=lambda x, *_: x.new_empty(x.shape[:1]),
)


def _additive_gradients(ctx: Any, grad_y: Tensor) -> tuple[Any, ...]:
    mask, split, inverse, full = ctx.form
    part = reference.take(grad_y, mask, split)
    shift = reference.put(torch.zeros_like(grad_y), part, mask, split) if full or mask >= 4 else part
    return grad_y, -shift if inverse else shift, None, None, None


def _additive_save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001  (called by keyword)
    x, shift, mask, split, inverse = inputs
    ctx.form = mask, split, inverse, shift.shape[1] == x.shape[1]


def _additive_out(x: Tensor, shift: Tensor, mask: int, split: int, inverse: bool, out: Tensor) -> None:
    out.copy_(reference.additive_coupling(x, shift, mask, split, inverse))


_additive_op = define(
    "additive_coupling(Tensor x, Tensor shift, int mask, int split, bool inverse) -> Tensor",
    reference=reference.additive_coupling,
    fake=lambda x, *_: x.new_empty(x.shape),
    backward=_additive_gradients,
    setup_context=_additive_save,
    vmap=folded("additive_coupling"),
    autocast=torch.float32,
)
_additive_out_op = define(
    "additive_coupling_out(Tensor x, Tensor shift, int mask, int split, bool inverse, Tensor(a!) out) -> ()",
    reference=_additive_out,
    fake=lambda *_: None,
)


def affine_coupling(
    x: Tensor,
    log_scale: Tensor,
    shift: Tensor | None = None,
    *,
    mask: Mask = "second",
    split: int | None = None,
    bound: Bound = "tanh",
    s_max: float = 2.0,
    inverse: bool = False,
    out: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """y = x exp(b(s)) + t and log |dy/dx| = sum b(s); inverse: x = (y - t) exp(-b(s)) and -sum b(s). Other elements pass through.

    Args:
        x: [B, D] or [B, C, *S].
        log_scale: raw s. Its dim 1 covers either all of x's or, except for a checkerboard, only the transformed part; the rest is x's.
            Without `shift`, [s | t] along dim 1 as networks emit it.
        shift: t, shaped as `log_scale`.
        mask: what is transformed: the "first" or "second" part of dim 1, its "even" or "odd" indices, or the sites of the spatial axes
            whose indices sum to an even or odd number, in every channel.
        split: size of the first part; C // 2 where not given.
        bound: b(s) = s ("none"), s_max tanh(s / s_max) ("tanh"), or s / (1 + |s| / s_max) ("soft").
        s_max: > 0, in nats.
        inverse: x is y.
        out: write the result here, contiguous and perhaps x itself; no gradients then.

    Returns:
        y in the dtype of x, and the log-det [B], float32 (float64 for float64 inputs) summed in float64. Half and bfloat16 are computed
        in float32.

    Raises:
        ConfigError: shapes, mask, bound or s_max do not fit.

    Paper: Density estimation using Real NVP (Dinh, Sohl-Dickstein, Bengio, 2016) | https://arxiv.org/abs/1605.08803

    >>> x, p = torch.tensor([[1.0, 2.0, 3.0, 4.0]]), torch.tensor([[0.5, -0.5, 1.0, 1.0]])
    >>> y, log_det = affine_coupling(x, p, bound="none")
    >>> y, log_det
    (tensor([[1.0000, 2.0000, 5.9462, 3.4261]]), tensor([0.]))
    >>> affine_coupling(y, p, bound="none", inverse=True)[0]
    tensor([[1., 2., 3., 4.]])
    """
    if not s_max > 0.0:
        raise ConfigError(f"`s_max` must be > 0; got {s_max}.")
    try:  # this function's own time is a quarter of a small call
        form = (MASKS[mask], x.size(1) // 2 if split is None else split, _BOUNDS[bound], s_max, inverse)
    except KeyError:
        number_of(MASKS, mask, "mask")
        number_of(_BOUNDS, bound, "bound")
        raise
    dtype = x.dtype
    if dtype is not log_scale.dtype or (shift is not None and shift.dtype is not dtype) or dtype not in NATIVE:
        return _cast_affine(x, log_scale, shift, form, out)
    try:
        if out is None:
            return _affine_op(x, log_scale, shift, *form)
        refuse_gradients(x, log_scale, shift)
        return out, _affine_out_op(x, log_scale, shift, *form, out)
    except RuntimeError:
        if torch.compiler.is_compiling():
            raise
        reference.check_affine(x, log_scale, shift, form[0], form[1])
        check_out(out, x)
        raise


def additive_coupling(
    x: Tensor, shift: Tensor, *, mask: Mask = "second", split: int | None = None, inverse: bool = False, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """y = x + t, inverse x = y - t, on the elements of `mask`; the log-det [B] is 0. Arguments as in `affine_coupling`.

    Paper: NICE: non-linear independent components estimation (Dinh, Krueger, Bengio, 2014) | https://arxiv.org/abs/1410.8516

    >>> additive_coupling(torch.zeros(1, 4), torch.tensor([[5.0, 6.0]]), mask="odd")
    (tensor([[0., 5., 0., 6.]]), tensor([0.]))
    """
    form = (mask_number(mask), x.size(1) // 2 if split is None else split, inverse)
    wide = compute_dtype(x, shift)
    log_det, shift = torch.zeros(x.shape[:1], dtype=wide, device=x.device), shift.to(wide)
    try:
        if out is None:
            return _additive_op(x.to(wide), shift, *form).to(x.dtype), log_det
        refuse_gradients(x, shift, None)
        if out.dtype is wide and x.dtype is wide:
            _additive_out_op(x, shift, *form, out)
        else:
            out.copy_(_additive_op(x.to(wide), shift, *form))
        return out, log_det
    except RuntimeError:
        reference.check(x, shift, form[0], form[1], 1, "shift")
        check_out(out, x)
        raise


def _cast_affine(
    x: Tensor, log_scale: Tensor, shift: Tensor | None, form: tuple[int, int, int, float, bool], out: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Half, bfloat16 and mixed inputs."""
    wide = compute_dtype(x, log_scale)
    names: dict[str, Any] = {"mask": reference.MASKS[form[0]], "split": form[1], "bound": reference.BOUNDS[form[2]]}
    wider = None if shift is None else shift.to(wide)
    if out is not None and out.dtype is wide and x.dtype is wide:
        return affine_coupling(x, log_scale.to(wide), wider, **names, s_max=form[3], inverse=form[4], out=out)
    y, log_det = affine_coupling(x.to(wide), log_scale.to(wide), wider, **names, s_max=form[3], inverse=form[4])
    if out is None:
        return y.to(x.dtype), log_det
    refuse_gradients(x, log_scale, shift)
    return out.copy_(y), log_det
