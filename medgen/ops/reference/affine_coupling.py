"""Affine and additive coupling in PyTorch: which elements are transformed, the bounded log-scale, the transform, its gradients.

Papers: NICE (Dinh, Krueger, Bengio, 2014) | https://arxiv.org/abs/1410.8516 ;
Density estimation using Real NVP (Dinh, Sohl-Dickstein, Bengio, 2016) | https://arxiv.org/abs/1605.08803
"""

from __future__ import annotations

import torch
from torch import Tensor

from medgen.errors import ConfigError

__all__ = [
    "BOUNDS",
    "MASKS",
    "additive_coupling",
    "affine_coupling",
    "affine_gradients",
    "bounded",
    "check",
    "check_affine",
    "passed",
    "put",
    "take",
    "total",
    "transformed",
]

MASKS = ("first", "second", "even", "odd", "checkerboard_even", "checkerboard_odd")
"""The elements that are transformed. An op's schema holds the position in this tuple, csrc/torch/coupling.h the same numbers."""

BOUNDS = ("none", "tanh", "soft")
"""How the raw log-scale is bounded; numbered as in csrc/core/affine.h."""


def bounded(s: Tensor, bound: int, s_max: float) -> Tensor:
    """b(s): s, s_max tanh(s / s_max), or s / (1 + |s| / s_max)."""
    if bound == 1:
        return s_max * torch.tanh(s / s_max)
    return s / (1.0 + s.abs() / s_max) if bound == 2 else s


def transformed(channels: int, mask: int, split: int) -> int:
    """How many of the channels along dim 1 hold transformed elements."""
    return (split, channels - split, (channels + 1) // 2, channels // 2, channels, channels)[mask]


def check(x: Tensor, parameters: Tensor, mask: int, split: int, per_element: int, name: str) -> bool:
    """Whether `parameters` [B, P * per_element, *S] cover every element of x (P = C) rather than the transformed ones only.

    Raises:
        ConfigError: the shapes do not fit.
    """
    if x.dim() < 2 or (mask >= 4 and not 3 <= x.dim() <= 5):
        need = "[B, C, *S] with one to three spatial axes for a checkerboard" if mask >= 4 else "[B, D] or [B, C, *S]"
        raise ConfigError(f"`x` must be {need}; got shape {tuple(x.shape)}.")
    channels = x.shape[1]
    if not 0 <= split <= channels:
        raise ConfigError(f"`split` must be in [0, {channels}], the channels of x; got {split}.")
    allowed = {channels * per_element, transformed(channels, mask, split) * per_element}
    rest = (x.shape[0], *x.shape[2:])
    if parameters.dim() != x.dim() or (parameters.shape[0], *parameters.shape[2:]) != rest or parameters.shape[1] not in allowed:
        sizes = " or ".join(map(str, sorted(allowed)))
        raise ConfigError(f"`{name}` must be {list(x.shape)} with dim 1 of size {sizes}; got {list(parameters.shape)}.")
    return parameters.shape[1] == channels * per_element


def take(x: Tensor, mask: int, split: int) -> Tensor:
    """The transformed part along dim 1, a view; all of it for a checkerboard."""
    if mask >= 4:
        return x
    return (x[:, :split], x[:, split:], x[:, 0::2], x[:, 1::2])[mask]


def passed(x: Tensor, mask: int, split: int) -> Tensor:
    """What a conditioner sees: the other part along dim 1; for a checkerboard all of x with its transformed sites set to 0."""
    return put(x, torch.zeros_like(x), mask, split) if mask >= 4 else take(x, mask ^ 1, split)


def put(x: Tensor, part: Tensor, mask: int, split: int) -> Tensor:
    """A copy of x with `part` in the place of `take(x, mask, split)`."""
    if mask >= 4:
        return torch.where(_sites(x, mask), part, x)
    start, end, step = ((0, split, 1), (split, x.shape[1], 1), (0, x.shape[1], 2), (1, x.shape[1], 2))[mask]
    return torch.slice_scatter(x, part, dim=1, start=start, end=end, step=step)


def _sites(x: Tensor, mask: int) -> Tensor:
    """Boolean [*S]: sites whose indices sum to the parity of a checkerboard."""
    total = torch.zeros((), dtype=torch.int64, device=x.device)
    for axis, size in enumerate(x.shape[2:]):
        index = torch.arange(size, device=x.device)
        total = total + index.reshape([-1 if axis == other else 1 for other in range(x.dim() - 2)])
    return total % 2 == mask % 2


def check_affine(x: Tensor, log_scale: Tensor, shift: Tensor | None, mask: int, split: int) -> tuple[Tensor, Tensor, bool]:
    """Log-scale and shift, unpacked, and whether they are full.

    Raises:
        ConfigError: the shapes do not fit.
    """
    if shift is None:
        if log_scale.dim() < 2 or log_scale.shape[1] % 2:
            raise ConfigError(f"`log_scale` without `shift` must be [log_scale | shift] along dim 1; got {list(log_scale.shape)}.")
        log_scale, shift = log_scale.chunk(2, 1)
    full = check(x, log_scale, mask, split, 1, "log_scale")
    if shift.shape != log_scale.shape:
        raise ConfigError(f"`shift` must have the shape of `log_scale`, {list(log_scale.shape)}; got {list(shift.shape)}.")
    return log_scale, shift, full


def _parameters(x: Tensor, log_scale: Tensor, shift: Tensor | None, mask: int, split: int) -> tuple[Tensor, Tensor]:
    """Log-scale and shift of the transformed part (of everything for a checkerboard)."""
    s, t, full = check_affine(x, log_scale, shift, mask, split)
    return (take(s, mask, split), take(t, mask, split)) if full else (s, t)


def total(terms: Tensor, x: Tensor, mask: int) -> Tensor:
    """Sum of the transformed elements' terms per sample [B], in float64."""
    if mask >= 4:
        terms = torch.where(_sites(x, mask), terms, 0.0)
    return terms.flatten(1).sum(1, dtype=torch.float64).to(x.dtype)


def affine_coupling(
    x: Tensor, log_scale: Tensor, shift: Tensor | None, mask: int, split: int, bound: int, s_max: float, inverse: bool
) -> tuple[Tensor, Tensor]:
    """y = x exp(b) + t and sum b, or the inverse x = (y - t) exp(-b) and -sum b, on the transformed elements."""
    s, t = _parameters(x, log_scale, shift, mask, split)
    b, part = bounded(s, bound, s_max), take(x, mask, split)
    if inverse:
        return put(x, (part - t) * torch.exp(-b), mask, split).contiguous(), -total(b, x, mask)
    return put(x, part * torch.exp(b) + t, mask, split).contiguous(), total(b, x, mask)


def additive_coupling(x: Tensor, shift: Tensor, mask: int, split: int, inverse: bool) -> Tensor:
    """y = x + t, or x = y - t, on the transformed elements; the log-det is 0."""
    full = check(x, shift, mask, split, 1, "shift")
    t, part = take(shift, mask, split) if full else shift, take(x, mask, split)
    return put(x, part - t if inverse else part + t, mask, split).contiguous()


def _widened(part: Tensor, x: Tensor, mask: int, split: int, full: bool) -> Tensor:
    """Gradients of the transformed elements as gradients of the parameters: zeros elsewhere where those are full."""
    return put(torch.zeros_like(x), part, mask, split) if full or mask >= 4 else part


def affine_gradients(
    grad_y: Tensor,
    grad_log_det: Tensor,
    side: Tensor,
    log_scale: Tensor,
    packed: bool,
    mask: int,
    split: int,
    bound: int,
    s_max: float,
    inverse: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to x, log_scale (or the packed parameters) and shift (empty where packed); differentiable.

    Args:
        grad_y, grad_log_det: to the outputs.
        side: the input of the forward transform, the output of the inverse one: nothing else is needed beside the log-scale.
        log_scale: raw.
        packed: log_scale is [log_scale | shift].
        mask, split, bound, s_max, inverse: as in `affine_coupling`.
    """
    raw = log_scale.chunk(2, 1)[0] if packed else log_scale
    full = check(side, raw, mask, split, 1, "log_scale")
    s = take(raw, mask, split) if full else raw
    b, g, value = bounded(s, bound, s_max), take(grad_y, mask, split), take(side, mask, split)
    slope = torch.ones_like(b)
    if bound == 1:
        slope = 1.0 - (b / s_max).square()
    elif bound == 2:
        slope = (1.0 + s.abs() / s_max).square().reciprocal()
    h = grad_log_det.reshape([-1] + [1] * (side.dim() - 1))
    if inverse:
        grad_x = g * torch.exp(-b)
        grad_s, grad_t = -(g * value + h) * slope, -grad_x
    else:
        grad_x = g * torch.exp(b)
        grad_s, grad_t = (grad_x * value + h) * slope, g
    grad_s, grad_t = (_widened(part, side, mask, split, full) for part in (grad_s, grad_t))
    grad_x = put(grad_y, grad_x, mask, split).contiguous()
    if packed:
        return grad_x, torch.cat([grad_s, grad_t], 1), side.new_empty(0)
    return grad_x, grad_s.contiguous(), grad_t.clone(memory_format=torch.contiguous_format)
