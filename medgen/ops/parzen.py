"""Parzen (Gaussian kernel) density: exact log-densities in one streaming pass, and the nearest points, in the bandwidth's own metric."""

from __future__ import annotations

import math
from typing import Any, Literal, overload

import torch
from torch import Tensor

from medgen.errors import ConfigError
from medgen.maths import LogSum
from medgen.ops._define import define, ensure_native
from medgen.ops._vmap import by_rows, looped
from medgen.ops.reference import parzen as reference

__all__ = ["parzen_log_density", "parzen_topk"]

_ROWS = "Tensor queries, Tensor points"
_REST = "Tensor log_weights, Tensor centre, Tensor factor, bool leave_one_out, int own_offset"


def _fake_log_sum(queries: Tensor, *_: Any) -> Tensor:
    return queries.new_empty((queries.shape[0],), dtype=torch.float64)


def _fake_partial(queries: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return _fake_log_sum(queries), _fake_log_sum(queries)


def _fake_weigh(_grad: Tensor, _value: Tensor, queries: Tensor, points: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor]:
    wide = torch.float64
    return torch.empty_like(queries, dtype=wide), torch.empty_like(points, dtype=wide), points.new_empty((points.shape[0],), dtype=wide)


def _fake_nearest(queries: Tensor, _points: Tensor, _centre: Tensor, _factor: Tensor, k: int) -> tuple[Tensor, Tensor]:
    shape = (queries.shape[0], k)
    return queries.new_empty(shape, dtype=torch.float64), queries.new_empty(shape, dtype=torch.int64)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    queries, points, log_weights, centre, factor, ctx.leave_one_out, ctx.own_offset = inputs
    ctx.save_for_backward(queries, points, log_weights, centre, factor, output)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    queries, points, log_weights, centre, factor, value = ctx.saved_tensors
    need = ctx.needs_input_grad
    of_points = need[1] or need[2] or need[4]
    gq, gp, gw = _weigh_op(
        grad.contiguous(), value, queries, points, log_weights, centre, factor, ctx.leave_one_out, ctx.own_offset, of_points
    )
    zq, zp = (reference.whiten(rows, centre, factor) for rows in (queries, points)) if need[4] else (gq, gp)
    return (
        reference.unwhiten(gq, factor).to(queries.dtype) if need[0] else None,
        reference.unwhiten(gp, factor).to(points.dtype) if need[1] else None,
        gw if need[2] else None,
        None,
        _of_factor(gq, zq, gp, zp, factor) if need[4] else None,
        None,
        None,
    )


def _of_factor(gq: Tensor, zq: Tensor, gp: Tensor, zp: Tensor, factor: Tensor) -> Tensor:
    """From dz = -L^-1 dL z."""
    if factor.dim() == 1:
        return -((gq * zq).sum(0) + (gp * zp).sum(0)) / factor
    return -torch.linalg.solve_triangular(factor.mT, gq.mT @ zq + gp.mT @ zp, upper=True).tril()


def _setup_weigh(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:  # noqa: ARG001 (the name is torch's)
    *tensors, ctx.leave_one_out, ctx.own_offset, ctx.of_points = inputs
    ctx.save_for_backward(*tensors)


def _backward_weigh(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
    """Second derivatives, through the dense reference."""
    tensors = ctx.saved_tensors
    with torch.enable_grad():
        inputs = [t.detach().requires_grad_() for t in tensors]
        outputs = reference.weigh_dense(*inputs, ctx.leave_one_out, ctx.own_offset, ctx.of_points)  # type: ignore[call-arg]
        pairs = [(o, g) for o, g in zip(outputs, grads, strict=True) if o.requires_grad]
        found = torch.autograd.grad([o for o, _ in pairs], inputs, [g for _, g in pairs], allow_unused=True)
    return (*found, None, None, None)


_weigh_op = define(
    f"parzen_weigh(Tensor grad, Tensor value, {_ROWS}, {_REST}, bool of_points) -> (Tensor, Tensor, Tensor)",
    reference=reference.weigh,
    fake=_fake_weigh,
    backward=_backward_weigh,
    setup_context=_setup_weigh,
    vmap=looped("parzen_weigh"),
)
_log_sum_op = define(
    f"parzen_log_sum({_ROWS}, {_REST}) -> Tensor",
    reference=reference.log_sum,
    fake=_fake_log_sum,
    backward=_backward,
    setup_context=_setup,
    vmap=looped("parzen_log_sum"),
    autocast=torch.float32,
)
_partial_op = define(
    f"parzen_partial({_ROWS}, {_REST}) -> (Tensor, Tensor)", reference=reference.partial, fake=_fake_partial, vmap=looped("parzen_partial")
)
_nearest_op = define(
    f"parzen_nearest({_ROWS}, Tensor centre, Tensor factor, int k) -> (Tensor, Tensor)",
    reference=reference.nearest,
    fake=_fake_nearest,
    vmap=by_rows("parzen_nearest", 0),
)


@overload
def parzen_log_density(
    queries: Tensor,
    points: Tensor,
    bandwidth: float | Tensor,
    weights: Tensor | None = None,
    leave_one_out: bool = False,
    *,
    partial: Literal[False] = False,
    own_offset: int = 0,
) -> Tensor: ...
@overload
def parzen_log_density(
    queries: Tensor,
    points: Tensor,
    bandwidth: float | Tensor,
    weights: Tensor | None = None,
    leave_one_out: bool = False,
    *,
    partial: Literal[True],
    own_offset: int = 0,
) -> LogSum: ...
def parzen_log_density(
    queries: Tensor,
    points: Tensor,
    bandwidth: float | Tensor,
    weights: Tensor | None = None,
    leave_one_out: bool = False,
    *,
    partial: bool = False,
    own_offset: int = 0,
) -> Tensor | LogSum:
    """ln p(y) = ln sum_j w_j exp(-|L^-1 (y - x_j)|^2 / 2) - ln|L| - D/2 ln(2 pi), in nats, [M].

    Never holds an M x N array. What a query gets does not depend on the other queries, nor on the number of threads. Gradients flow to
    queries, points, bandwidth and weights. A NaN or infinite point makes every density NaN; a NaN query makes its own.

    Args:
        queries: y, [M, D].
        points: x, [N, D]; none of them gives -inf.
        bandwidth: L: a number or scalar tensor, one per dimension [D], or a lower Cholesky factor [D, D].
        weights: [N], at least 0, normalised here; None for equal ones.
        leave_one_out: query i is point i + own_offset; it is left out and the other weights are normalised.
        partial: return the `LogSum` pair (float64 [M] each, no gradient) for weights as given (None: ones), so that shards of points
            merge: `a.merge(b).value - ln(sum of all weights)` is the density over both.
        own_offset: for queries that are a shard of the points, or the other way round.

    Returns:
        float64 where queries or points are float64, else float32.

    Raises:
        ConfigError: shapes do not fit, or the bandwidth is a number that is not positive.

    >>> parzen_log_density(torch.zeros(1, 2), torch.tensor([[0.0, 0.0], [3.0, 4.0]]), 1.0)
    tensor([-2.5310])
    """
    queries, points, factor = _prepared(queries, points, bandwidth)
    if leave_one_out and not partial and (own_offset < 0 or queries.shape[0] + own_offset > points.shape[0]):
        raise ConfigError(
            f"`queries` must be points, number i + own_offset the i-th, to leave them out; got {queries.shape[0]} queries, "
            f"{points.shape[0]} points and own_offset {own_offset}."
        )
    log_weights = _log_weights(points, weights, normalised=not partial)
    args = (queries, points, log_weights, _centre(points), factor, leave_one_out, own_offset)
    diagonal = factor if factor.dim() == 1 else factor.diagonal()
    constant = -diagonal.log().sum() - points.shape[1] / 2 * math.log(2.0 * math.pi)
    if partial:
        top, total = _partial_op(*args)
        return LogSum(top + constant, total)
    value = _log_sum_op(*args)
    if leave_one_out:
        own = log_weights[own_offset : own_offset + queries.shape[0]]
        value = torch.where(value == -torch.inf, value, value - torch.log1p(-own.exp()))
    return (value + constant).to(queries.dtype)


def parzen_topk(queries: Tensor, points: Tensor, k: int, bandwidth: float | Tensor = 1.0) -> tuple[Tensor, Tensor]:
    """The k nearest points of each query by |L^-1 (y - x)|: distances [M, k], ascending, and their numbers, int64 [M, k].

    Of points at equal distance the lower numbers come first. Distances are those of float64, rounded once; no gradient.

    Args:
        queries, points: [M, D] and [N, D].
        k: in [0, N].
        bandwidth: as in `parzen_log_density`.

    Raises:
        ConfigError: shapes do not fit, k is out of range, or the bandwidth is a number that is not positive.

    >>> parzen_topk(torch.zeros(1, 2), torch.tensor([[3.0, 4.0], [1.0, 0.0], [0.0, 1.0]]), 2)
    (tensor([[1., 1.]]), tensor([[1, 2]]))
    """
    if not 0 <= k <= points.shape[0]:
        raise ConfigError(f"`k` must be in [0, N]; got {k} for {points.shape[0]} points.")
    queries, points, factor = _prepared(queries.detach(), points.detach(), bandwidth)
    distances, numbers = _nearest_op(queries, points, _centre(points), factor.detach(), k)
    return distances.to(queries.dtype), numbers


def _prepared(queries: Tensor, points: Tensor, bandwidth: float | Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Contiguous rows of one type, and the factor in float64."""
    if queries.dim() != 2 or points.dim() != 2 or queries.shape[1] != points.shape[1] or points.shape[1] == 0:
        raise ConfigError(f"`queries` and `points` must be [M, D] and [N, D]; got {tuple(queries.shape)} and {tuple(points.shape)}.")
    dtype = torch.promote_types(torch.promote_types(queries.dtype, points.dtype), torch.float32)
    ensure_native(points.device)
    return queries.to(dtype).contiguous(), points.to(dtype).contiguous(), _factor(bandwidth, points)


def _factor(bandwidth: float | Tensor, points: Tensor) -> Tensor:
    dim = points.shape[1]
    if not isinstance(bandwidth, Tensor):
        if not bandwidth > 0:
            raise ConfigError(f"`bandwidth` must be positive; got {bandwidth}.")
        return torch.full((dim,), float(bandwidth), dtype=torch.float64, device=points.device)
    wide = bandwidth.to(device=points.device, dtype=torch.float64)
    if wide.shape == (dim, dim):
        return wide.tril().contiguous()
    if wide.dim() > 1 or wide.numel() not in (1, dim):
        raise ConfigError(f"`bandwidth` must be a number, [D] or [D, D] with D = {dim}; got shape {tuple(bandwidth.shape)}.")
    return wide.expand(dim).contiguous()


def _log_weights(points: Tensor, weights: Tensor | None, *, normalised: bool) -> Tensor:
    n = points.shape[0]
    if weights is None:
        return torch.full((n,), -math.log(n) if normalised and n else 0.0, dtype=torch.float64, device=points.device)
    if weights.shape != (n,):
        raise ConfigError(f"`weights` must be one per point, [{n}]; got {tuple(weights.shape)}.")
    wide = weights.to(torch.float64)
    return ((wide / wide.sum()) if normalised else wide).log()


def _centre(points: Tensor) -> Tensor:
    """About the mean of the points, where coordinates are smallest; any centre gives the same density, so that some of them will do."""
    if points.shape[0] == 0:
        return torch.zeros(points.shape[1], dtype=torch.float64, device=points.device)
    return points.detach()[:: max(1, points.shape[0] // 4096)].mean(0, dtype=torch.float64)
