"""Affine and additive coupling: one pass over x and its parameters, forward, inverse, log-det and gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from medgen.errors import ConfigError
from medgen.ops._define import define, ensure_native
from medgen.ops.reference import affine_coupling as reference

__all__ = ["Bound", "Mask", "additive_coupling", "affine_coupling"]

Mask = Literal["first", "second", "even", "odd", "checkerboard_even", "checkerboard_odd"]
Bound = Literal["none", "tanh", "soft"]

_MASKS = {name: number for number, name in enumerate(reference.MASKS)}
_READY: set[torch.device] = set()  # devices whose native ops were looked for
_BOUNDS = {name: number for number, name in enumerate(reference.BOUNDS)}


def folded(name: str) -> Callable[..., Any]:
    """The vmap rule of the op `name` whose tensors are all [B, ...]: the mapped axis joins the batch, and leaves it in every output."""

    def rule(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> Any:
        n = info.batch_size

        def fold(value: Any, dim: int | None) -> Any:
            if not isinstance(value, Tensor):
                return value
            moved = value.expand(n, *value.shape) if dim is None else value.movedim(dim, 0)
            return moved.flatten(0, 1)

        out = getattr(torch.ops.medgen, name).default(*(fold(value, dim) for value, dim in zip(args, in_dims, strict=True)))
        several = out if isinstance(out, tuple) else (out,)
        # an empty tensor stands for no gradient
        unfolded = tuple(v.unflatten(0, (n, -1 if v.shape[0] else 0)) if v.dim() > 1 or v.numel() else v.expand(n, 0) for v in several)
        return (unfolded, (0,) * len(unfolded)) if isinstance(out, tuple) else (unfolded[0], 0)

    return rule


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
    op = reference.affine_gradients if torch.is_grad_enabled() else (_gradients_op if by_registered_autograd() else _gradients_call)
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


# Below OpOverload.__call__, which costs as much as a small coupling.
_affine_call, _affine_out_call, _gradients_call = _affine_op._op, _affine_out_op._op, _gradients_op._op


class _Affine(torch.autograd.Function):
    """What torch.library's autograd does, at half its cost per call."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        with torch._C._AutoDispatchBelowAutograd():
            output = _affine_call(*inputs)
        _save(ctx, inputs, output)
        return output

    backward = staticmethod(_gradients)


class _AffineOfFunc(torch.autograd.Function):
    """The same for torch.func, which torch.library's autograd does not serve."""

    generate_vmap_rule = True
    setup_context = staticmethod(_save)
    backward = staticmethod(_gradients)

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor]:
        return _affine_op(*inputs)


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
    form = (_number(_MASKS, mask, "mask"), x.size(1) // 2 if split is None else split, _number(_BOUNDS, bound, "bound"), s_max, inverse)
    if not s_max > 0.0:
        raise ConfigError(f"`s_max` must be > 0; got {s_max}.")
    if (device := x.device) not in _READY:
        ensure_native(device)
        _READY.add(device)
    dtype = x.dtype
    if dtype is not log_scale.dtype or (shift is not None and shift.dtype is not dtype) or dtype not in _NATIVE:
        return _cast_affine(x, log_scale, shift, form, out)
    if by_registered_autograd():
        if out is not None:
            return out, _affine_out_op(x, log_scale, shift, *form, out)
        return (_affine_op if torch.compiler.is_compiling() else _AffineOfFunc.apply)(x, log_scale, shift, *form)
    try:
        if out is not None:
            refuse_gradients(x, log_scale, shift)
            return out, mutated(out, _affine_out_call(x, log_scale, shift, *form, out))
        if torch.is_grad_enabled() and (x.requires_grad or log_scale.requires_grad or (shift is not None and shift.requires_grad)):
            return _Affine.apply(x, log_scale, shift, *form)
        with torch._C._AutoDispatchBelowAutograd():
            return _affine_call(x, log_scale, shift, *form)
    except RuntimeError:
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
    form = (_number(_MASKS, mask, "mask"), x.size(1) // 2 if split is None else split, inverse)
    wide = compute_dtype(x, shift)
    log_det, shift = torch.zeros(x.shape[:1], dtype=wide, device=x.device), shift.to(wide)
    ensure_native(x.device)
    try:
        if out is None:
            return _additive_op(x.to(wide), shift, *form).to(x.dtype), log_det
        refuse_gradients(x, shift, None)
        if out.dtype is wide and x.dtype is wide:
            mutated(out, _additive_out_op(x, shift, *form, out))
        else:
            out.copy_(_additive_op(x.to(wide), shift, *form))
        return out, log_det
    except RuntimeError:
        reference.check(x, shift, form[0], form[1], 1, "shift")
        check_out(out, x)
        raise


_NATIVE = (torch.float32, torch.float64)


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """float64 where any is, else float32."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


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


def _number(names: dict[str, int], name: str, argument: str) -> int:
    try:
        return names[name]
    except KeyError:
        raise ConfigError(f"`{argument}` must be one of {', '.join(names)}; got {name!r}.") from None


def mask_number(mask: str) -> int:
    """What an op's schema holds for a mask."""
    return _number(_MASKS, mask, "mask")


def refuse_gradients(x: Tensor, first: Tensor, second: Tensor | None) -> None:
    if torch.is_grad_enabled() and (x.requires_grad or first.requires_grad or (second is not None and second.requires_grad)):
        raise ConfigError("`out` must be None where gradients are needed; got a tensor. Call under torch.no_grad(), or without out.")


def check_out(out: Tensor | None, x: Tensor) -> None:
    """Raise ConfigError where `out` cannot hold the transform of x."""
    if out is not None and (out.shape != x.shape or out.dtype != x.dtype or not (out.numel() == 0 or out[0].is_contiguous())):
        raise ConfigError(f"`out` must be {x.dtype} {list(x.shape)}, contiguous in each sample; got {out.dtype} {list(out.shape)}.")


def mutated(out: Tensor, result: Any) -> Any:
    """Tell autograd that whoever saved `out` holds something else now."""
    if not torch.compiler.is_compiling():
        torch.autograd.graph.increment_version(out)
    return result


def by_registered_autograd() -> bool:
    """torch.compile and torch.func need the op's registered autograd; ordinary calls take a shorter way."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
