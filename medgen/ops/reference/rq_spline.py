"""Monotone rational-quadratic splines in PyTorch, and the coupling made of them.

Paper: Neural Spline Flows (Durkan, Bekasov, Murray, Papamakarios, 2019) | https://arxiv.org/abs/1906.04032
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from medgen.errors import ConfigError
from medgen.ops.reference.affine_coupling import check, put, take, total

__all__ = ["check_spline", "rq_spline", "rq_spline_coupling", "rq_spline_gradients"]

# As in the paper's code; csrc/core/rq_spline.h has the same.
_LEAST_BIN, LEAST_SLOPE = 1e-3, 1e-3


def _knots(raw: Tensor, tail: float) -> tuple[Tensor, Tensor]:
    """Lower ends and sizes [..., K] of bins that fill [-tail, tail]."""
    sizes = _LEAST_BIN + (1.0 - _LEAST_BIN * raw.shape[-1]) * torch.softmax(raw, -1)
    ends = torch.cumsum(sizes, -1)
    return 2.0 * tail * F.pad(ends[..., :-1], (1, 0)) - tail, 2.0 * tail * sizes


def rq_spline(x: Tensor, parameters: Tensor, tail: float, inverse: bool) -> tuple[Tensor, Tensor]:
    """Value and log-derivative of each element; the identity outside [-tail, tail].

    Args:
        x: any shape [...].
        parameters: [..., 3 K - 1]: raw widths (K), raw heights (K), raw slopes at the inner knots (K - 1); those at the ends are 1.
        tail: half the interval's length.
        inverse: x is a value.
    """
    bins = (parameters.shape[-1] + 1) // 3
    lefts, widths = _knots(parameters[..., :bins], tail)
    bottoms, heights = _knots(parameters[..., bins : 2 * bins], tail)
    slopes = F.pad(LEAST_SLOPE + F.softplus(parameters[..., 2 * bins :]), (1, 1), value=1.0)
    inside = (x >= -tail) & (x <= tail)
    safe = torch.where(inside, x, 0.0)  # so that no gradient of the unused branch is NaN
    inner = (bottoms if inverse else lefts)[..., 1:]
    k = (safe[..., None] >= inner).sum(-1, keepdim=True)
    left, w, bottom, h, d0, d1 = (v.gather(-1, k)[..., 0] for v in (lefts, widths, bottoms, heights, slopes[..., :-1], slopes[..., 1:]))
    delta = h / w
    q = d0 + d1 - 2.0 * delta
    if inverse:
        v = safe - bottom
        a, b, c = v * q + h * (delta - d0), h * d0 - v * q, -delta * v
        theta = 2.0 * c / (-b - torch.sqrt((b * b - 4.0 * a * c).clamp(min=0.0)))
    else:
        theta = (safe - left) / w
    s = theta * (1.0 - theta)
    den = delta + q * s
    slope = (delta / den).square() * (d1 * theta.square() + 2.0 * delta * s + d0 * (1.0 - theta).square())
    value = theta * w + left if inverse else bottom + h * ((delta * theta.square() + d0 * s) / den)
    log_slope = torch.log(slope)
    return torch.where(inside, value, x), torch.where(inside, -log_slope if inverse else log_slope, 0.0)


def check_spline(x: Tensor, parameters: Tensor, bins: int, tail: float, mask: int, split: int) -> bool:
    """Whether the parameters are full.

    Raises:
        ConfigError: the shapes, `bins` or `tail` do not fit.
    """
    if not 1 <= bins < 1.0 / _LEAST_BIN:
        raise ConfigError(f"`bins` must be in [1, {1.0 / _LEAST_BIN:.0f}); got {bins}.")
    if not tail > 0.0:
        raise ConfigError(f"`tail` must be > 0; got {tail}.")
    return check(x, parameters, mask, split, 3 * bins - 1, "parameters")


def rq_spline_coupling(
    x: Tensor, parameters: Tensor, bins: int, tail: float, mask: int, split: int, inverse: bool
) -> tuple[Tensor, Tensor]:
    """The spline on the elements of `mask`, and the log-det per sample."""
    full = check_spline(x, parameters, bins, tail, mask, split)
    apart = parameters.unflatten(1, (-1, 3 * bins - 1) if parameters.shape[1] else (0, 3 * bins - 1)).movedim(2, -1)
    apart = take(apart, mask, split) if full else apart
    value, log_slope = rq_spline(take(x, mask, split), apart, tail, inverse)
    return put(x, value, mask, split).contiguous(), total(log_slope, x, mask)


def rq_spline_gradients(
    grad_y: Tensor, grad_log_det: Tensor, x: Tensor, parameters: Tensor, bins: int, tail: float, mask: int, split: int, inverse: bool
) -> tuple[Tensor, Tensor]:
    """Gradients to x and the parameters, by autograd; differentiable again where grad mode is on."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        inputs = [v if again and v.requires_grad else v.detach().requires_grad_() for v in (x, parameters)]
        outputs = rq_spline_coupling(inputs[0], inputs[1], bins, tail, mask, split, inverse)
        gx, gp = torch.autograd.grad(outputs, inputs, [grad_y, grad_log_det], create_graph=again, allow_unused=True, materialize_grads=True)
    return gx.contiguous(), gp.contiguous()
