"""Draws from a Parzen density, and rejection steps against it, in PyTorch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medgen.ops.reference import parzen
from medgen.ops.reference.philox import normal_from_bits, philox_bits

__all__ = ["draw", "step"]


def draw(points: Tensor, cumulative: Tensor, factor: Tensor, index: Tensor, seed: int, stream: int) -> Tensor:
    """x_j + L noise, [B, D]; j by the first word of stream + 1, noise by the normals of `stream`.

    Args:
        points: [N, D], N at least 1 unless B is 0.
        cumulative: running sums of the weights, float64 [N]; empty for equal weights.
        factor: L, float64 [D] or lower [D, D].
        index: int64 [B].
    """
    words = philox_bits(seed, index, stream + 1, 2)
    return _drawn(points, cumulative, factor, _noise(points, index, seed, stream), words[:, 0])


def step(
    index: Tensor,
    points: Tensor,
    log_weights: Tensor,
    cumulative: Tensor,
    centre: Tensor,
    factor: Tensor,
    mean: Tensor,
    proposal_factor: Tensor,
    log_k: float,
    seed: int,
    stream: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(accepted, proposals, log P, log Q): accepted where log_k + ln u + log Q < log P.

    Args:
        mean: of a Gaussian proposal with Cholesky factor `proposal_factor`, float64 [D]; empty for the density of bandwidth
            `proposal_factor` on the same points.
    """
    noise = _noise(points, index, seed, stream)
    words = philox_bits(seed, index, stream + 1, 2)
    if mean.numel():
        proposals = (mean + _times(noise, proposal_factor)).to(points.dtype)
        log_q = _normaliser(proposal_factor) - noise.to(torch.float64).square().sum(1) / 2
    else:
        proposals = _drawn(points, cumulative, proposal_factor, noise, words[:, 0])
        log_q = parzen.log_sum(proposals, points, log_weights, centre, proposal_factor, False, 0) + _normaliser(proposal_factor)
    log_p = parzen.log_sum(proposals, points, log_weights, centre, factor, False, 0) + _normaliser(factor)
    return log_k + _unit(words[:, 1]).log() + log_q < log_p, proposals, log_p, log_q


def _noise(points: Tensor, index: Tensor, seed: int, stream: int) -> Tensor:
    dim = points.shape[1]
    return normal_from_bits(philox_bits(seed, index, stream, dim + dim % 2), points.dtype)[:, :dim]


def _drawn(points: Tensor, cumulative: Tensor, factor: Tensor, noise: Tensor, word: Tensor) -> Tensor:
    if cumulative.numel():
        chosen = torch.searchsorted(cumulative, _unit(word) * cumulative[-1], right=True).clamp_(max=len(points) - 1)
    else:
        chosen = (word * len(points)) >> 32
    return (points[chosen].to(torch.float64) + _times(noise, factor)).to(points.dtype)


def _times(noise: Tensor, factor: Tensor) -> Tensor:
    wide = noise.to(torch.float64)
    return wide * factor if factor.dim() == 1 else wide @ factor.mT


def _unit(word: Tensor) -> Tensor:
    return (word.to(torch.float64) + 0.5) * 2.0**-32


def _normaliser(factor: Tensor) -> Tensor:
    diagonal = factor if factor.dim() == 1 else factor.diagonal()
    return -diagonal.log().sum() - len(diagonal) / 2 * math.log(2.0 * math.pi)
