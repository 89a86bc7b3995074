"""Training a chain without keeping its activations: the backward pass recovers each layer's input from its output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from medgen.errors import MedgenError

__all__ = ["by_inversion"]


def by_inversion(parts: Sequence[nn.Module], x: Tensor, context: Tensor | None) -> tuple[Tensor, Tensor]:
    """z and the total log-determinant of invertible parts in order; saved for the backward pass: z alone, whatever their number.

    The backward pass goes through the parts from the last to the first: x_k = f_k^-1(x_{k+1}), then f_k(x_k) with gradients, as
    checkpointing would. It costs an inverse per part more than checkpointing each of them. Gradients are those at the recovered inputs,
    so they are as exact as the inverse.

    Raises:
        MedgenError: second derivatives are asked for.

    Paper: The Reversible Residual Network (Gomez et al., 2017) | https://arxiv.org/abs/1707.04585
    """
    parameters = [p for part in parts for p in part.parameters() if p.requires_grad]
    z, log_det = _ByInversion.apply(parts, x, context, *parameters)
    return z, log_det


class _ByInversion(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, parts: Sequence[nn.Module], x: Tensor, context: Tensor | None, *parameters: Tensor) -> tuple[Tensor, Tensor]:
        total: Tensor | None = None
        for part in parts:
            x, log_det = part(x, context)
            total = log_det if total is None else total + log_det
        assert total is not None, "an empty chain has nothing to save"
        ctx.parts, ctx.parameters = parts, parameters
        kind = x.device.type
        ctx.autocast = (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))
        ctx.save_for_backward(x, context)
        return x.clone() if x is total else x, total

    @staticmethod
    def backward(ctx: Any, grad_z: Tensor, grad_log_det: Tensor) -> tuple[Any, ...]:
        if torch.is_grad_enabled():  # create_graph: what follows is not recorded, and would count as constant
            raise MedgenError("a reversible chain has no second derivatives; build it with reversible=False.")
        z, context = ctx.saved_tensors
        known = None if context is None else context.detach().requires_grad_(ctx.needs_input_grad[2])
        grads: dict[int, Tensor] = {}
        kind, dtype, enabled = ctx.autocast
        for part in reversed(ctx.parts):
            with torch.autocast(kind, dtype=dtype, enabled=enabled):
                x = part.inverse(z, context)[0].detach().requires_grad_()
                with torch.enable_grad():
                    outputs = part(x, known)
            pairs = [(o, g) for o, g in zip(outputs, (grad_z, grad_log_det), strict=True) if o.requires_grad]
            inputs = [x, *([known] if known is not None and known.requires_grad else [])]
            inputs += [p for p in part.parameters() if p.requires_grad]
            found = torch.autograd.grad([o for o, _ in pairs], inputs, [g for _, g in pairs], allow_unused=True)
            for tensor, grad in zip(inputs[1:], found[1:], strict=True):
                if grad is not None:
                    grads[id(tensor)] = grads[id(tensor)] + grad if id(tensor) in grads else grad
            z, grad_z = x.detach(), found[0] if found[0] is not None else torch.zeros_like(x)
        of_context = None if known is None else grads.get(id(known))
        return None, grad_z if ctx.needs_input_grad[1] else None, of_context, *(grads.get(id(p)) for p in ctx.parameters)
