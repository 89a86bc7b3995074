"""The reverse chain of a diffusion model in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from medgen.ops.reference.ddpm_step import ddpm_step

__all__ = ["ddpm_sample_mlp", "mlp"]


def mlp(x: Tensor, weights: Sequence[Tensor], biases: Sequence[Tensor], embedding: Tensor, bfloat16: bool = False) -> Tensor:
    """W_L silu(... silu(W_1 x + b_1 + embedding)) + b_L.

    Args:
        x: [B, D].
        weights: [out, in] each.
        biases: [out] each.
        embedding: of the step, [H] or [B, H].
        bfloat16: weights and what enters a layer are rounded to bfloat16; sums are not.
    """

    def rounded(value: Tensor) -> Tensor:
        return value.bfloat16().to(value.dtype) if bfloat16 else value

    hidden = F.linear(rounded(x), rounded(weights[0]), biases[0]) + embedding
    for weight, bias in zip(weights[1:], biases[1:], strict=True):
        hidden = F.linear(rounded(F.silu(hidden)), rounded(weight), bias)
    return hidden


def ddpm_sample_mlp(
    x: Tensor,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    embedding: Tensor,
    table: Tensor,
    index: Tensor,
    seed: int,
    stream: int,
    clip: float | None,
    bfloat16: bool,
) -> Tensor:
    """x_0 from x_T: steps S-1, ..., 0 of `ddpm_step`, with the network above.

    Args:
        x: x_T, [B, D].
        weights, biases: of the network.
        embedding: of every step, [S, H].
        table: [S, 8].
        index: sample numbers [B].
        seed, stream: of the noise; step k draws from stream + k.
        clip: of x0, or None.
        bfloat16: see `mlp`.
    """
    for k in reversed(range(len(table))):
        output = mlp(x, weights, biases, embedding[k], bfloat16)
        x = ddpm_step(x, output, table, torch.tensor([k], device=x.device), index, seed, stream, clip, False)
    return x
