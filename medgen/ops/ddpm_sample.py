"""The whole reverse chain of a diffusion model: x_T -> x_0 over the kept steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from medgen.errors import ConfigError
from medgen.ops._define import define, ensure_native
from medgen.ops._key import check_key, signed
from medgen.ops._vmap import by_rows
from medgen.ops.ddpm_step import StepTable, ddpm_step, step_out
from medgen.ops.philox import philox_normal
from medgen.ops.reference import ddpm_sample as reference

__all__ = ["Denoiser", "ddpm_sample", "ddpm_sample_mlp"]

Denoiser = Callable[[Tensor, Tensor], Tensor]
"""(x_t [B, *S], t int64 [B]) -> output, as x, or with twice the channels where the variance is learned."""


@torch.no_grad()
def ddpm_sample(
    denoiser: Denoiser,
    x: Tensor | Sequence[int],
    table: StepTable,
    *,
    seed: int,
    index: Tensor,  # [B]
    stream: int = 0,
    callback: Callable[[int, Tensor], Any] | None = None,
    graph: bool = False,
) -> Tensor:
    """x_0 [B, *S]: for k = S-1, ..., 0, x = ddpm_step(x, denoiser(x, t_k), table, k).

    x_T is drawn from `stream`, the noise of row k from stream + 1 + k. A sample is the same alone and in any batch, to the denoiser's
    rounding. Per step: the denoiser, and one op in place; nothing is allocated, copied to the device, or waited for.

    Papers: DDPM (Ho et al., 2020) | https://arxiv.org/abs/2006.11239; DDIM (Song et al., 2021) | https://arxiv.org/abs/2010.02502

    Args:
        denoiser: see `Denoiser`; it must not change x.
        x: x_T [B, *S], left as it is, or the shape of one sample, whose x_T is then drawn in the table's dtype.
        table: of `step_table`; moved to the samples' device if it lies elsewhere.
        seed: in [0, 2^64).
        index: absolute sample numbers, int64 [B].
        stream: in [0, 2^32).
        callback: called after each step with (k, x); x is the working buffer: clone what is to be kept.
        graph: on CUDA, capture one step as a CUDA graph, with the step number on the device, and replay it S times. The denoiser must be
            capturable; a callback runs between replays.

    Raises:
        ConfigError: a shape or range does not fit, or `graph` without CUDA.

    >>> from medgen.maths import alpha_bars, kept_steps, linear_betas
    >>> from medgen.ops import step_table
    >>> table = step_table(alpha_bars(linear_betas()), kept_steps(1000, 50))
    >>> def denoiser(x, t):  # the exact one of data that are all 0.25
    ...     bar = alpha_bars(linear_betas()).float()[t][:, None]
    ...     return (x - bar.sqrt() * 0.25) / (1 - bar).sqrt()
    >>> ddpm_sample(denoiser, (3,), table, seed=0, index=torch.tensor([0, 1]))
    tensor([[0.2500, 0.2500, 0.2500],
            [0.2500, 0.2500, 0.2500]])
    """
    check_key(seed, index, stream)
    x = x.clone(memory_format=torch.contiguous_format) if isinstance(x, Tensor) else _first(x, table, seed, index, stream)
    if len(index) != len(x):
        raise ConfigError(f"`index` must name {len(x)} samples; got {len(index)}.")
    table = table.to(x.device, x.dtype if x.dtype in (torch.float32, torch.float64) else torch.float32)
    index, first = index.contiguous(), (stream + 1) % 2**32
    if graph:
        if x.device.type != "cuda":
            raise ConfigError(f"`graph` needs samples on a CUDA device; got {x.device}. Leave it out.")
        return _replay(denoiser, x, table, seed=seed, index=index, stream=first, callback=callback)
    times = table.t[:, None].expand(-1, len(x)).unbind(0)
    rows = table.rows.split(1)
    rest = (index, signed(seed), first, table.clip, table.learned)
    for k in range(len(table) - 1, -1, -1):
        output = denoiser(x, times[k])
        if k == len(table) - 1 or x.dtype != table.values.dtype:  # checked once; half precision goes through float32
            ddpm_step(x, output, table, rows[k], seed=seed, index=index, stream=first, out=x)
        else:
            step_out(x, x, output.contiguous(), table.values, rows[k], *rest)
        if callback is not None:
            callback(k, x)
    return x


def _first(shape: Sequence[int], table: StepTable, seed: int, index: Tensor, stream: int) -> Tensor:
    return philox_normal(seed, index, tuple(shape), stream=stream, dtype=table.values.dtype)


def _replay(
    denoiser: Denoiser, x: Tensor, table: StepTable, *, seed: int, index: Tensor, stream: int, callback: Callable[[int, Tensor], Any] | None
) -> Tensor:
    """One captured step, replayed. The row's number lies on the device and counts itself down, so every replay is another step."""
    row = torch.empty(1, dtype=torch.int64, device=x.device)
    time = torch.empty(1, dtype=torch.int64, device=x.device)

    def step() -> None:
        torch.index_select(table.t, 0, row, out=time)
        ddpm_step(x, denoiser(x, time.expand(len(x))), table, row, seed=seed, index=index, stream=stream, out=x)
        row.sub_(1)

    start = x.clone()
    side = torch.cuda.Stream(x.device)
    side.wait_stream(torch.cuda.current_stream(x.device))
    with torch.cuda.stream(side):  # capture must find libraries initialised and memory cached
        for _ in range(2):
            row.fill_(len(table) - 1)
            step()
    torch.cuda.current_stream(x.device).wait_stream(side)
    captured = torch.cuda.CUDAGraph()
    with torch.cuda.graph(captured):
        step()
    x.copy_(start)
    row.fill_(len(table) - 1)
    for k in range(len(table) - 1, -1, -1):
        captured.replay()
        if callback is not None:
            callback(k, x)
    return x


_WIDEST_ON_CUDA = 256
_ARGUMENTS = "Tensor x, Tensor[] weights, Tensor[] biases, Tensor embedding, Tensor table, Tensor index"
_mlp_op = define(
    f"ddpm_sample_mlp({_ARGUMENTS}, int seed, int stream, float? clip, bool bfloat16) -> Tensor",
    reference=lambda x, *rest: reference.ddpm_sample_mlp(x, *rest).clone(memory_format=torch.contiguous_format),
    fake=lambda x, *_: torch.empty_like(x, memory_format=torch.contiguous_format),
    vmap=by_rows("ddpm_sample_mlp", 0, 5),
)


@torch.no_grad()
def ddpm_sample_mlp(
    weights: Sequence[Tensor],  # [out, in] each
    biases: Sequence[Tensor],  # [out] each
    embedding: Tensor,  # [S, H]
    x: Tensor | Sequence[int],  # [B, D]
    table: StepTable,
    *,
    seed: int,
    index: Tensor,  # [B]
    stream: int = 0,
    precision: Literal["float32", "bfloat16"] = "float32",
) -> Tensor:
    """`ddpm_sample` for the denoiser W_L silu(... silu(W_1 x + b_1 + embedding_k)) + b_L, the loop wholly native: x_0 [B, D].

    A block of rows stays in the cache for all steps. Sample i is the same to the bit alone and in any batch, at any number of threads.

    Args:
        weights, biases: of L <= 8 linear layers, float32, D inputs and D outputs.
        embedding: what each kept step adds to the first layer, e.g. a time embedding already projected to it.
        x: x_T, or (D,), whose x_T is then drawn.
        table: of `step_table`, variance not learned.
        seed, index, stream: as in `ddpm_sample`.
        precision: "float32", or "bfloat16": weights and layer inputs rounded to bfloat16, sums and the state of the chain in float32; on
            the matrix unit (AMX) where the processor has one.

    Raises:
        ConfigError: a shape, dtype or range does not fit.

    >>> from medgen.maths import alpha_bars, linear_betas
    >>> from medgen.ops import step_table
    >>> table = step_table(alpha_bars(linear_betas(100)), prediction="x0")
    >>> zero, bias = [torch.zeros(4, 2), torch.zeros(2, 4)], [torch.zeros(4), torch.tensor([0.5, -0.5])]
    >>> ddpm_sample_mlp(zero, bias, torch.zeros(100, 4), (2,), table, seed=0, index=torch.tensor([0]))
    tensor([[ 0.5000, -0.5000]])
    """
    check_key(seed, index, stream)
    x = x.contiguous() if isinstance(x, Tensor) else _first(x, table, seed, index, stream)
    _check_mlp(weights, biases, embedding, x, table, index, precision)
    table = table.to(x.device, torch.float32)
    ensure_native(x.device)
    layers = [t.detach().contiguous() for t in weights], [t.detach().contiguous() for t in biases]
    following = signed(seed), (stream + 1) % 2**32, table.clip, precision == "bfloat16"
    # The CUDA kernel keeps a block's values in shared memory; wider networks are for the tensor cores, layer by layer.
    wide = x.is_cuda and max(x.shape[1], *(len(b) for b in biases)) > _WIDEST_ON_CUDA
    chain: Any = reference.ddpm_sample_mlp if wide else _mlp_op
    samples: Tensor = chain(x, *layers, embedding.detach().contiguous(), table.values, index.contiguous(), *following)
    return samples


def _check_mlp(
    weights: Sequence[Tensor], biases: Sequence[Tensor], embedding: Tensor, x: Tensor, table: StepTable, index: Tensor, precision: str
) -> None:
    if precision not in ("float32", "bfloat16"):
        raise ConfigError(f"`precision` must be float32 or bfloat16; got {precision!r}.")
    if table.learned:
        raise ConfigError("`table` must not have a learned variance; use ddpm_sample.")
    if not 1 <= len(weights) <= 8 or len(biases) != len(weights):
        raise ConfigError(f"`weights` must be those of 1 to 8 layers, with as many biases; got {len(weights)} and {len(biases)}.")
    if any(t.dtype != torch.float32 for t in (*weights, *biases, embedding, x)):
        raise ConfigError("`weights`, `biases`, `embedding` and `x` must be float32.")
    if x.dim() != 2 or len(index) != len(x):
        raise ConfigError(f"`x` must be [B, D] with B = {len(index)} sample numbers; got {tuple(x.shape)}.")
    widths = [x.shape[1], *(w.shape[0] for w in weights)]
    if [tuple(w.shape) for w in weights] != list(zip(widths[1:], widths[:-1], strict=True)) or widths[-1] != widths[0]:
        raise ConfigError(f"`weights` must lead from {x.shape[1]} inputs to {x.shape[1]} outputs; got {[tuple(w.shape) for w in weights]}.")
    if [tuple(b.shape) for b in biases] != [(w,) for w in widths[1:]]:
        raise ConfigError(f"`biases` must have {widths[1:]} elements; got {[tuple(b.shape) for b in biases]}.")
    if tuple(embedding.shape) != (len(table), widths[1]):
        raise ConfigError(f"`embedding` must be {(len(table), widths[1])}; got {tuple(embedding.shape)}.")
