"""A chain of coupling layers whose activation memory does not grow with its length: backward inverts layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from medgen.errors import ConfigError
from medgen.ops.affine_coupling import Bound, Mask, affine_coupling
from medgen.ops.reference import affine_coupling as reference

__all__ = ["CouplingLayer", "coupling_chain"]


@dataclass(frozen=True)
class CouplingLayer:
    """One layer: x -> affine_coupling(x, conditioner(pass-through part), mask=mask, ...).

    Args:
        conditioner: from the elements that pass through, [B, D'] or [B, C', *S] (for a checkerboard all of x, with the transformed sites
            set to 0), to [log_scale | shift] along dim 1. Deterministic: it runs again in backward.
        mask, split, bound, s_max: as in `affine_coupling`.
    """

    conditioner: nn.Module
    mask: Mask = "second"
    split: int | None = None
    bound: Bound = "tanh"
    s_max: float = 2.0

    def parameters_of(self, x: Tensor) -> Tensor:
        """The conditioner's output for x, or for y: they agree where it looks."""
        number, split = reference.MASKS.index(self.mask), x.shape[1] // 2 if self.split is None else self.split
        return self.conditioner(reference.passed(x, number, split))

    def apply_(self, x: Tensor, out: Tensor, *, inverse: bool) -> Tensor:
        """Write the transform of x into `out`, perhaps x; return the log-det."""
        form: dict[str, Any] = {"mask": self.mask, "split": self.split, "bound": self.bound, "s_max": self.s_max}
        return affine_coupling(x, self.parameters_of(x).to(x.dtype), **form, inverse=inverse, out=out)[1]


def _run(x: Tensor, layers: Sequence[CouplingLayer], out: Tensor | None, inverse: bool) -> tuple[Tensor, Tensor]:
    """The first layer writes a new tensor or `out`, the others work in place."""
    y = torch.empty_like(x, memory_format=torch.contiguous_format) if out is None else out
    log_det: Tensor | None = None
    current = x
    for layer in reversed(layers) if inverse else layers:
        term = layer.apply_(current, y, inverse=inverse)
        log_det, current = term if log_det is None else log_det + term, y
    assert log_det is not None
    return y, log_det


class _Chain(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layers: Sequence[CouplingLayer], inverse: bool, *_: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            y, log_det = _run(x, layers, None, inverse)
        ctx.layers, ctx.inverse = tuple(reversed(layers)) if inverse else layers, inverse
        ctx.autocast = {"device_type": x.device.type, "enabled": torch.is_autocast_enabled(x.device.type)}
        ctx.autocast["dtype"] = torch.get_autocast_dtype(x.device.type)
        ctx.save_for_backward(y)
        return y, log_det

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_log_det: Tensor) -> tuple[Any, ...]:
        value = ctx.saved_tensors[0].clone()
        found: dict[nn.Parameter, Tensor] = {}
        with torch.autocast(**ctx.autocast):  # the conditioners must say again what they said in forward
            for layer in reversed(ctx.layers):
                layer.apply_(value, value, inverse=not ctx.inverse)  # now the layer's input
                grad = _layer_backward(layer, value, grad, grad_log_det, ctx.inverse, found)
        unique = _parameters(ctx.layers[::-1] if ctx.inverse else ctx.layers)
        return grad, None, None, *(found.get(p) for p in unique)


def _layer_backward(
    layer: CouplingLayer, value: Tensor, grad: Tensor, grad_log_det: Tensor, inverse: bool, found: dict[nn.Parameter, Tensor]
) -> Tensor:
    """Gradient to the layer's input; those to its parameters are added to `found`."""
    with torch.enable_grad():
        x = value.detach().requires_grad_()
        form: dict[str, Any] = {"mask": layer.mask, "split": layer.split, "bound": layer.bound, "s_max": layer.s_max}
        outputs = affine_coupling(x, layer.parameters_of(x).to(x.dtype), **form, inverse=inverse)
    parameters = [p for p in layer.conditioner.parameters() if p.requires_grad]
    first, *rest = torch.autograd.grad(outputs, [x, *parameters], [grad, grad_log_det], allow_unused=True)
    for parameter, g in zip(parameters, rest, strict=True):
        if g is not None:
            found[parameter] = found[parameter] + g if parameter in found else g
    return first


def _parameters(layers: Sequence[CouplingLayer]) -> list[nn.Parameter]:
    return list(dict.fromkeys(p for layer in layers for p in layer.conditioner.parameters() if p.requires_grad))


def coupling_chain(
    x: Tensor, layers: Sequence[CouplingLayer], *, inverse: bool = False, out: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """y = f_L(...f_1(x)) and the sum of the log-dets; inverse: f_1^-1(...f_L^-1(x)).

    Only y is kept for backward, which recovers each layer's input from its output by the exact inverse and runs its conditioner once more:
    activation memory of one layer, whatever L. Without gradients one buffer serves all layers.

    Args:
        x: [B, D] or [B, C, *S], float32 or float64.
        layers: first to last, at least one.
        inverse: run them backwards.
        out: write the result here; no gradients then. It may be x.

    Raises:
        ConfigError: there are no layers, or `out` is given where gradients are needed.

    Paper: The reversible residual network: backpropagation without storing activations (Gomez, Ren, Urtasun, Grosse, 2017) |
    https://arxiv.org/abs/1707.04585

    >>> layers = [CouplingLayer(nn.Linear(2, 4), mask=mask) for mask in ("first", "second", "first")]
    >>> x = torch.randn(5, 4)
    >>> with torch.no_grad():
    ...     y, log_det = coupling_chain(x, layers)
    ...     torch.allclose(coupling_chain(y, layers, inverse=True)[0], x, atol=1e-5)
    True
    """
    if not layers:
        raise ConfigError("`layers` must hold at least one layer; got none.")
    parameters = _parameters(layers)
    if torch.is_grad_enabled() and (x.requires_grad or parameters):
        if out is not None:
            raise ConfigError("`out` must be None where gradients are needed; got a tensor. Call under torch.no_grad(), or without out.")
        return _Chain.apply(x, tuple(layers), inverse, *parameters)
    return _run(x, layers, out, inverse)
