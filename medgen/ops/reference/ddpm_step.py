"""One reverse step of a diffusion model in PyTorch: the formula, row by row of a table of coefficients."""

from __future__ import annotations

import torch
from torch import Tensor

from medgen.ops.reference.philox import normal_from_bits, philox4x32

__all__ = ["COLUMNS", "ddpm_step", "step_noise"]

COLUMNS = 8
"""Of a table: x, output | x0_x, x0_output | mean_x0, mean_x | scale, slope."""

_MASK = 0xFFFFFFFF


def ddpm_step(
    x: Tensor, output: Tensor, table: Tensor, step: Tensor, index: Tensor, seed: int, stream: int, clip: float | None, learned: bool
) -> Tensor:
    """x_s = mean + sd z for a batch, differentiable in x and output.

    - Without a clamp: mean = x_coefficient x + output_coefficient o.
    - With one: x0 = clamp(x0_x x + x0_output o, -clip, clip), mean = mean_x0 x0 + mean_x x.
    - sd = scale, or exp(scale + slope v) where the variance is learned and o and v are the halves of `output`.

    Args:
        x: [B, *S].
        output: of the network, [B, *S], or [B, 2 C, ...] where the variance is learned.
        table: [S, COLUMNS].
        step: row of each sample, int64 [B], or [1] for all.
        index: sample numbers, int64 [B].
        seed, stream: of the noise; sample i draws from stream + step_i.
        clip: of x0, or None.
        learned: variance.
    """
    columns = table[step].reshape(len(step), COLUMNS, *[1] * (x.dim() - 1)).unbind(1)
    x_, output_, x0_x, x0_output, mean_x0, mean_x, scale, slope = columns
    second = None
    if learned:
        output, second = output.chunk(2, 1)
    mean = x_ * x + output_ * output
    if clip is not None:
        mean = mean_x0 * (x0_x * x + x0_output * output).clamp(-clip, clip) + mean_x * x
    z = step_noise(x, step, index, seed, stream)
    if second is None:
        return torch.where(scale != 0, mean + scale * z, mean)
    noisy = scale > -1e30
    return torch.where(noisy, mean + torch.where(noisy, scale + slope * second, 0.0).exp() * z, mean)


def step_noise(x: Tensor, step: Tensor, index: Tensor, seed: int, stream: int) -> Tensor:
    """The normals of a step, as x: `philox_normal` of sample index_i in stream + step_i."""
    count = x[0].numel() if len(x) else 0
    blocks = torch.arange((count + 3) // 4, dtype=torch.int64, device=x.device)[None, :]
    streams = ((stream + step) & _MASK)[:, None]
    low, high = (index & _MASK)[:, None], ((index >> 32) & _MASK)[:, None]
    words = philox4x32((blocks, streams, low, high), (seed & _MASK, (seed >> 32) & _MASK))
    bits = torch.stack(torch.broadcast_tensors(*words), dim=-1).flatten(1)
    return normal_from_bits(bits, x.dtype)[:, :count].reshape(x.shape)
