"""Parzen density in PyTorch: log-sums over Gaussian kernels, their gradients, and nearest points, in chunks of queries.

Coordinates are whitened: z = L^-1 (x - centre), so that one bandwidth is one unit.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from medgen.maths import LogSum

__all__ = ["log_sum", "nearest", "partial", "unwhiten", "weigh", "weigh_dense", "whiten"]

_CHUNK = 1 << 20  # pairs at a time
_LOWEST = -80.0  # exp is slow below about -87, and e^-80 of the largest term is below its last bit
_PRODUCT = 1024.0  # bound of |z|^2 max(sqrt(D), 6.4) for the product form in float32, as in csrc/core/parzen.h


def whiten(rows: Tensor, centre: Tensor, factor: Tensor) -> Tensor:
    """L^-1 (rows - centre) in float64. rows [M, D]; factor [D] (diagonal) or lower [D, D]."""
    shifted = rows.to(torch.float64) - centre
    if factor.dim() == 1:
        return shifted / factor
    return torch.linalg.solve_triangular(factor, shifted.mT, upper=False).mT


def unwhiten(gradient: Tensor, factor: Tensor) -> Tensor:
    """L^-T gradient: from whitened coordinates to the rows' own."""
    if factor.dim() == 1:
        return gradient / factor
    return torch.linalg.solve_triangular(factor.mT, gradient.mT, upper=True).mT


def partial(
    queries: Tensor, points: Tensor, log_weights: Tensor, centre: Tensor, factor: Tensor, leave_one_out: bool, own_offset: int
) -> tuple[Tensor, Tensor]:
    """(max, sum), float64 [M], of ln w_j - |z_i - z_j|^2 / 2 over j. Arguments as in `log_sum`."""
    zq, zp = whiten(queries, centre, factor), whiten(points, centre, factor)
    out = LogSum(zq.new_full((len(zq),), -torch.inf), zq.new_zeros(len(zq)))
    if len(zp) == 0:
        return out.max, out.sum
    single = torch.promote_types(queries.dtype, points.dtype) != torch.float64
    for rows in _chunks(len(zq), len(zp)):
        part = _chunk(zq[rows], zp, log_weights, single=single, own=rows.start + own_offset if leave_one_out else None)
        out.max[rows], out.sum[rows] = part
    poison = torch.where(zp.isfinite().all(), 0.0, torch.nan)
    return out.max + poison, out.sum + poison


def _chunk(zq: Tensor, zp: Tensor, log_weights: Tensor, *, single: bool, own: int | None) -> LogSum:
    """One chunk of queries, in place on its matrix of scores."""
    norms = zq.square().sum(1)
    base = torch.zeros_like(norms)
    if single and bool((norms * max(zq.shape[1] ** 0.5, 6.4) <= _PRODUCT).all()):
        start = (log_weights - zp.square().sum(1) / 2).float()
        scores = torch.addmm(start, zq.float(), zp.float().mT)
        base = -norms / 2
    else:
        scores = torch.cdist(zq, zp, compute_mode="donot_use_mm_for_euclid_dist").square_().mul_(-0.5).add_(log_weights)
    if own is not None:
        columns = torch.arange(own, own + len(zq), device=zq.device)
        rows = ((columns >= 0) & (columns < len(zp))).nonzero()[:, 0]
        scores[rows, columns[rows]] = -torch.inf
    top = scores.amax(1)
    empty = top == -torch.inf
    scores.sub_(torch.where(empty, 0.0, top)[:, None]).clamp_(min=_LOWEST).exp_()
    sums = scores.sum(1, dtype=torch.float64)
    return LogSum(top.to(torch.float64) + base, torch.where(empty, 0.0, sums))


def log_sum(
    queries: Tensor, points: Tensor, log_weights: Tensor, centre: Tensor, factor: Tensor, leave_one_out: bool, own_offset: int
) -> Tensor:
    """ln sum_j w_j exp(-|z_i - z_j|^2 / 2), float64 [M].

    In float32 the scores are one matrix product where the coordinates are small enough for it, else exact differences in float64.

    Args:
        queries, points: [M, D] and [N, D].
        log_weights: float64 [N].
        centre: float64 [D].
        factor: float64 [D] or lower [D, D].
        leave_one_out: query i is point i + own_offset, which does not count.
        own_offset: any integer.
    """
    return LogSum(*partial(queries, points, log_weights, centre, factor, leave_one_out, own_offset)).value


def weigh(
    grad: Tensor,
    value: Tensor,
    queries: Tensor,
    points: Tensor,
    log_weights: Tensor,
    centre: Tensor,
    factor: Tensor,
    leave_one_out: bool,
    own_offset: int,
    of_points: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of sum_i grad_i log_sum_i to the whitened queries, the whitened points and the log weights, float64.

    With p_ij = w_j exp(-|z_i - z_j|^2 / 2 - value_i): grad_i sum_j p_ij (z_j - z_i), sum_i grad_i p_ij (z_i - z_j), sum_i grad_i p_ij.

    Args:
        grad, value: float64 [M]; value is what `log_sum` returned.
        of_points: else the last two are zeros.
    """
    zq, zp = whiten(queries, centre, factor), whiten(points, centre, factor)
    of_q, of_p, of_w = torch.zeros_like(zq), torch.zeros_like(zp), torch.zeros_like(log_weights)
    for rows in _chunks(len(zq), len(zp)):
        own = rows.start + own_offset if leave_one_out else None
        scores = torch.cdist(zq[rows], zp, compute_mode="donot_use_mm_for_euclid_dist").square_().mul_(-0.5)
        part_q, part_p, part_w = _weigh(scores, grad[rows], value[rows], zq[rows], zp, log_weights, own)
        of_q[rows] = part_q
        if of_points:
            of_p += part_p
            of_w += part_w
    poison = torch.where(zp.isfinite().all(), 0.0, torch.nan)
    return of_q + poison, of_p, of_w


def weigh_dense(
    grad: Tensor,
    value: Tensor,
    queries: Tensor,
    points: Tensor,
    log_weights: Tensor,
    centre: Tensor,
    factor: Tensor,
    leave_one_out: bool,
    own_offset: int,
    of_points: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """`weigh` in operations that can be differentiated again; holds the whole [M, N] matrix."""
    zq, zp = whiten(queries, centre, factor), whiten(points, centre, factor)
    scores = zq @ zp.mT - zq.square().sum(1)[:, None] / 2 - zp.square().sum(1) / 2
    of_q, of_p, of_w = _weigh(scores, grad, value, zq, zp, log_weights, own_offset if leave_one_out else None)
    return (of_q, of_p, of_w) if of_points else (of_q, torch.zeros_like(zp), torch.zeros_like(log_weights))


def _weigh(
    scores: Tensor, grad: Tensor, value: Tensor, zq: Tensor, zp: Tensor, log_weights: Tensor, own: int | None
) -> tuple[Tensor, Tensor, Tensor]:
    finite = torch.where(value == -torch.inf, torch.inf, value)  # a query of density zero pulls at nothing
    p = (scores + log_weights - finite[:, None]).exp()
    if own is not None:
        columns = torch.arange(len(zp), device=zp.device) - own
        p = p.masked_fill(torch.arange(len(zq), device=zq.device)[:, None] == columns, 0.0)
    weighted = p * grad[:, None]
    total = weighted.sum(0)
    return weighted @ zp - weighted.sum(1, keepdim=True) * zq, weighted.mT @ zq - total[:, None] * zp, total


def nearest(queries: Tensor, points: Tensor, centre: Tensor, factor: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Whitened distances, float64 [M, k], ascending, and numbers, int64 [M, k], of the k nearest points; of equals the first ones."""
    zq, zp = whiten(queries, centre, factor), whiten(points, centre, factor)
    distances, numbers = zq.new_empty(len(zq), k), torch.empty(len(zq), k, dtype=torch.int64, device=zq.device)
    for rows in _chunks(len(zq), len(zp)):
        every = torch.cdist(zq[rows], zp, compute_mode="donot_use_mm_for_euclid_dist")
        order = every.nan_to_num(nan=torch.inf, posinf=torch.inf).sort(dim=1, stable=True).indices[:, :k]
        distances[rows], numbers[rows] = every.gather(1, order), order
    return distances, numbers


def _chunks(rows: int, columns: int) -> Iterator[slice]:
    step = max(1, _CHUNK // max(1, columns))
    for start in range(0, rows, step):
        yield slice(start, min(rows, start + step))
