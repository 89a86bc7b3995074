"""What the coupling ops share: masks by number, types, checks of `out`, the rule of vmap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from medgen.errors import ConfigError
from medgen.ops.reference import affine_coupling as reference

__all__ = ["MASKS", "NATIVE", "Mask", "check_out", "compute_dtype", "folded", "mask_number", "number_of", "refuse_gradients"]

Mask = Literal["first", "second", "even", "odd", "checkerboard_even", "checkerboard_odd"]
NATIVE = (torch.float32, torch.float64)

MASKS = {name: number for number, name in enumerate(reference.MASKS)}


def mask_number(mask: str) -> int:
    """What an op's schema holds for a mask."""
    return number_of(MASKS, mask, "mask")


def number_of(names: dict[str, int], name: str, argument: str) -> int:
    try:
        return names[name]
    except KeyError:
        raise ConfigError(f"`{argument}` must be one of {', '.join(names)}; got {name!r}.") from None


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """float64 where any is, else float32."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def refuse_gradients(x: Tensor, first: Tensor, second: Tensor | None) -> None:
    if torch.is_grad_enabled() and (x.requires_grad or first.requires_grad or (second is not None and second.requires_grad)):
        raise ConfigError("`out` must be None where gradients are needed; got a tensor. Call under torch.no_grad(), or without out.")


def check_out(out: Tensor | None, x: Tensor) -> None:
    """Raise ConfigError where `out` cannot hold the transform of x."""
    if out is not None and (out.shape != x.shape or out.dtype != x.dtype or not (out.numel() == 0 or out[0].is_contiguous())):
        raise ConfigError(f"`out` must be {x.dtype} {list(x.shape)}, contiguous in each sample; got {out.dtype} {list(out.shape)}.")


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
