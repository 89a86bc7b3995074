"""Sampling a Parzen density: exact draws, and rejection steps where the target must be met through another proposal."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from medgen.errors import ConfigError
from medgen.ops._define import define, ensure_native
from medgen.ops._key import check_key, signed
from medgen.ops._vmap import by_rows
from medgen.ops.parzen import _centre, _factor, _log_weights
from medgen.ops.reference import rejection as reference

__all__ = ["RejectionStep", "parzen_draw", "rejection_step"]


class RejectionStep(NamedTuple):
    """What one step of rejection sampling found.

    Args:
        accepted: bool [B].
        proposals: [B, D].
        log_p: of the target, float64 [B].
        log_q: of the proposal, float64 [B].
    """

    accepted: Tensor
    proposals: Tensor
    log_p: Tensor
    log_q: Tensor


def _fake_draw(points: Tensor, _cumulative: Tensor, _factor: Tensor, index: Tensor, *_: Any) -> Tensor:
    return points.new_empty((index.shape[0], points.shape[1]))


def _fake_step(index: Tensor, points: Tensor, *_: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    n = index.shape[0]
    log = index.new_empty((n,), dtype=torch.float64)
    return index.new_empty((n,), dtype=torch.bool), points.new_empty((n, points.shape[1])), log, torch.empty_like(log)


_draw_op = define(
    "parzen_draw(Tensor points, Tensor cumulative, Tensor factor, Tensor index, int seed, int stream) -> Tensor",
    reference=reference.draw,
    fake=_fake_draw,
    vmap=by_rows("parzen_draw", 3),
)
_step_op = define(
    "rejection_step(Tensor index, Tensor points, Tensor log_weights, Tensor cumulative, Tensor centre, Tensor factor, Tensor mean, "
    "Tensor proposal_factor, float log_k, int seed, int stream) -> (Tensor, Tensor, Tensor, Tensor)",
    reference=reference.step,
    fake=_fake_step,
    vmap=by_rows("rejection_step", 0),
)


def parzen_draw(
    seed: int, index: Tensor, points: Tensor, bandwidth: float | Tensor, *, weights: Tensor | None = None, stream: int = 0
) -> Tensor:
    """Exact draws y_i = x_j + L noise from the density of `parzen_log_density`, [B, D], with j of probability w_j.

    Draw i is a pure function of (seed, index_i, stream), whatever the batch, the device or the number of threads.

    Args:
        seed: in [0, 2^64).
        index: absolute sample numbers, int64 [B].
        points: [N, D], N at least 1.
        bandwidth, weights: as in `parzen_log_density`.
        stream: of a sample's noise; stream + 1 is used as well.

    Raises:
        ConfigError: shapes do not fit, or seed or stream is out of range.

    >>> parzen_draw(0, torch.arange(2), torch.tensor([[0.0, 0.0], [10.0, 10.0]]), 0.1)
    tensor([[ 0.0991, -0.0925],
            [ 0.1068, -0.0425]])
    """
    points, index = _sampled(seed, index, points, stream)
    empty = points.new_empty(0, dtype=torch.float64)
    cumulative = empty if weights is None else _log_weights(points, weights, normalised=True).detach().exp().cumsum(0)
    return _draw_op(points, cumulative, _factor(bandwidth, points).detach(), index, signed(seed), stream)


def rejection_step(
    seed: int,
    index: Tensor,
    points: Tensor,
    bandwidth: float | Tensor,
    *,
    log_k: float,
    mean: Tensor | None = None,
    proposal: float | Tensor,
    weights: Tensor | None = None,
    stream: int = 0,
) -> RejectionStep:
    """Propose y from Q, accept where ln k + ln u + ln Q(y) < ln P(y); P is the density of `parzen_log_density`.

    Accepted proposals follow P where k Q >= P everywhere, else the normalised min(P, k Q). Step i is a pure function of
    (seed, index_i, stream). In more than about ten dimensions hardly any proposal of a Gaussian is accepted; `parzen_draw` samples P
    directly.

    Paper: Various techniques used in connection with random digits (von Neumann, 1951)

    Args:
        seed, index, stream: as in `parzen_draw`.
        points, bandwidth, weights: of P.
        log_k: ln of the envelope constant.
        mean: [D], for a Gaussian Q = N(mean, S S^T).
        proposal: S with `mean`: a number, standard deviations [D] or a Cholesky factor [D, D]. Without `mean`, Q is the density of this
            (wider) bandwidth on the same points and weights.

    Raises:
        ConfigError: shapes do not fit, or seed or stream is out of range.

    >>> points = torch.tensor([[0.0], [1.0]])
    >>> step = rejection_step(0, torch.arange(1000), points, 0.5, log_k=0.7, proposal=1.0)
    >>> step.accepted.float().mean() > 0.4
    tensor(True)
    """
    points, index = _sampled(seed, index, points, stream)
    log_weights = _log_weights(points, weights, normalised=True).detach()
    empty = points.new_empty(0, dtype=torch.float64)
    if mean is not None and mean.shape != points.shape[1:]:
        raise ConfigError(f"`mean` must be [D] = {list(points.shape[1:])}; got {list(mean.shape)}.")
    middle = empty if mean is None else mean.detach().to(torch.float64).contiguous()
    cumulative = empty if weights is None else log_weights.exp().cumsum(0)
    factors = (_factor(b, points).detach() for b in (bandwidth, proposal))
    factor, proposal_factor = factors
    args = (index, points, log_weights, cumulative, _centre(points), factor, middle, proposal_factor)
    return RejectionStep(*_step_op(*args, float(log_k), signed(seed), stream))


def _sampled(seed: int, index: Tensor, points: Tensor, stream: int) -> tuple[Tensor, Tensor]:
    """Contiguous points of a native type, and numbers on their device."""
    check_key(seed, index, stream)
    if stream == 2**32 - 1:
        raise ConfigError(f"`stream` must be below 2^32 - 1, since the next one is used as well; got {stream}.")
    if points.dim() != 2 or 0 in points.shape:
        raise ConfigError(f"`points` must be [N, D] with at least one point; got {tuple(points.shape)}.")
    ensure_native(points.device)
    wide = points.detach().to(torch.promote_types(points.dtype, torch.float32)).contiguous()
    return wide, index.to(points.device).contiguous()
