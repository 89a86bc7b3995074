"""vmap rules: the mapped axis joins the batch where that is the same to the bit; elsewhere one call per element."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["by_rows", "looped"]


def looped(name: str) -> Callable[..., Any]:
    """The rule of the op `name` by one call per element: its kernels are built for one large problem, not for many small ones."""

    def rule(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        op = getattr(torch.ops.medgen, name).default
        found = [op(*(_select(a, d, b) for a, d in zip(args, in_dims, strict=True))) for b in range(info.batch_size)]
        if isinstance(found[0], Tensor):
            return torch.stack(found), 0
        return tuple(torch.stack(part) for part in zip(*found, strict=True)), (0,) * len(found[0])

    return rule


def by_rows(name: str, *rows: int) -> Callable[..., Any]:
    """The rule of an op that treats the rows of some arguments and of every output one by one: one call where only these are mapped.

    Args:
        name: of the op.
        rows: positions of the arguments that are [B, ...].
    """
    fallback = looped(name)

    def rule(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Any, Any]:
        if any(_is_mapped(dim) for place, dim in enumerate(in_dims) if place not in rows):
            return fallback(info, in_dims, *args)
        folded = list(args)
        for place in rows:
            value, dim = args[place], in_dims[place]
            if value is None:  # an optional argument left out
                continue
            moved = value.expand(info.batch_size, *value.shape) if dim is None else value.movedim(dim, 0)
            batch = moved.shape[:2]
            folded[place] = moved.flatten(0, 1).contiguous()
        out = getattr(torch.ops.medgen, name).default(*folded)
        if isinstance(out, Tensor):
            return out.unflatten(0, batch), 0
        return tuple(part.unflatten(0, batch) for part in out), (0,) * len(out)

    return rule


def _is_mapped(dim: Any) -> bool:
    """Of one argument, which may be a list of tensors."""
    return any(map(_is_mapped, dim)) if isinstance(dim, (list, tuple)) else dim is not None


def _select(value: Any, dim: Any, number: int) -> Any:
    """What element `number` of the mapped axis gets."""
    if isinstance(dim, (list, tuple)):
        return [_select(v, d, number) for v, d in zip(value, dim, strict=True)]
    return value if dim is None else value.select(dim, number).contiguous()
