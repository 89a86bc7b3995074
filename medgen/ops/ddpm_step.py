"""One reverse step x_t -> x_s of a diffusion model, its noise made inside the kernel."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

from medgen.errors import ConfigError
from medgen.maths import Prediction, posterior_coefficients, previous_alpha_bars, x0_coefficients
from medgen.ops._define import define, ensure_native
from medgen.ops._key import check_key, signed
from medgen.ops._vmap import by_rows
from medgen.ops.reference import ddpm_step as reference

__all__ = ["Prediction", "StepTable", "Variance", "ddpm_step", "step_table"]

Variance = Literal["beta", "posterior", "learned"] | float


@dataclass(frozen=True)
class StepTable:
    """The coefficients of every step of a chain, one row per kept step; built by `step_table`.

    Args:
        values: [S, 8] on the device and in the floating type of the samples.
        t: the kept steps as the network sees them, ascending, int64 [S].
        rows: 0 .. S-1, int64 [S]; a slice of it names a row without copying a number to the device.
        learned: the network predicts the variance too.
        clip: bound of x0, or None.
    """

    values: Tensor
    t: Tensor
    rows: Tensor
    learned: bool
    clip: float | None

    def __len__(self) -> int:
        return len(self.t)

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> StepTable:
        """The same table elsewhere."""
        return replace(self, values=self.values.to(device, dtype), t=self.t.to(device), rows=self.rows.to(device))


def step_table(
    alpha_bar: Tensor,
    kept: Tensor | None = None,
    *,
    prediction: Prediction = "eps",
    variance: Variance = "posterior",
    clip: float | None = None,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str = "cpu",
) -> StepTable:
    r"""Coefficients of the chain over the kept steps; each step t goes to the kept step s before it, the first one to clean data.

    With beta = 1 - abar_t / abar_s and btilde = beta (1 - abar_s) / (1 - abar_t):
    x0 = (x_t - sqrt(1 - abar_t) eps) / sqrt(abar_t), or what else the output o means (`medgen.maths.x0_coefficients`); then

    - DDPM: x_s = beta sqrt(abar_s) / (1 - abar_t) x0 + sqrt(1 - beta) (1 - abar_s) / (1 - abar_t) x_t + sd z with sd^2 = beta, btilde,
      or beta^v btilde^(1 - v), v = (second output + 1) / 2;
    - DDIM: x_s = sqrt(abar_s) x0 + sqrt(1 - abar_s - c^2) (x_t - sqrt(abar_t) x0) / sqrt(1 - abar_t) + c z with c = eta sqrt(btilde).

    No noise is drawn at the last step.

    Papers: DDPM (Ho et al., 2020) | https://arxiv.org/abs/2006.11239; DDIM (Song et al., 2021) | https://arxiv.org/abs/2010.02502;
    Improved DDPM (Nichol, Dhariwal, 2021) | https://arxiv.org/abs/2102.09672

    Args:
        alpha_bar: [T], decreasing in (0, 1), of the whole chain; see `medgen.maths.alpha_bars`.
        kept: steps, ascending, int64 [S]; see `medgen.maths.kept_steps`. All by default.
        prediction: what the network predicts.
        variance: "beta", "posterior", "learned" (the network's output has twice the channels, the second half in [-1, 1]), or a
            number: DDIM's eta, 0 for no noise, 1 for the posterior variance.
        clip: x0 is clamped to [-clip, clip].
        dtype, device: of the samples.

    Raises:
        ConfigError: an argument out of range.

    >>> table = step_table(torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64), torch.tensor([0, 2]), variance=1.0)
    >>> table.values[:, 6]  # no noise at the last step; sqrt(btilde) of abar 0.1 -> 0.9 before it
    tensor([0.0000, 0.3143])
    """
    alpha_bar = alpha_bar.detach().double().cpu()
    kept = torch.arange(len(alpha_bar)) if kept is None else kept.cpu()
    if not (torch.compiler.is_compiling() or _ascending(kept, len(alpha_bar))):  # a compiler knows no values
        raise ConfigError(f"`kept` must be ascending steps in [0, {len(alpha_bar)}); got {kept.tolist()[:8]}.")
    if clip is not None and not clip > 0:
        raise ConfigError(f"`clip` must be positive or None; got {clip}.")
    values = _coefficients(*previous_alpha_bars(alpha_bar, kept), prediction, variance)
    rows = torch.arange(len(kept), device=device)
    return StepTable(values.to(device, dtype), kept.to(device), rows, variance == "learned", clip)


def _ascending(kept: Tensor, total: int) -> bool:
    return len(kept) > 0 and bool((kept.diff() > 0).all()) and int(kept[0]) >= 0 and int(kept[-1]) < total


def _coefficients(at: Tensor, before: Tensor, prediction: Prediction, variance: Variance) -> Tensor:
    """[S, 8] in float64; see `medgen.ops.reference.ddpm_step`."""
    if not (torch.compiler.is_compiling() or bool(((at > 0) & (at < before) & (before <= 1)).all())):
        raise ConfigError("`alpha_bar` must decrease inside (0, 1).")
    x0_x, x0_output = x0_coefficients(at.sqrt(), (1 - at).sqrt(), prediction)
    mean_x0, mean_x, posterior = posterior_coefficients(at, before)
    scale, slope = _deviation(1 - at / before, posterior, variance)
    if not isinstance(variance, str):
        mean_x = ((1 - before - scale.square()).clamp(min=0) / (1 - at)).sqrt()
        mean_x0 = before.sqrt() - mean_x * at.sqrt()
    direct_x, direct_output = mean_x0 * x0_x + mean_x, mean_x0 * x0_output
    return torch.stack((direct_x, direct_output, x0_x, x0_output, mean_x0, mean_x, scale, slope), dim=1)


def _deviation(beta: Tensor, posterior: Tensor, variance: Variance) -> tuple[Tensor, Tensor]:
    """Columns scale and slope: the sd, or the ends of its logarithm; 0 and -inf at the last step, which draws no noise."""
    zero = torch.zeros_like(beta)
    last = posterior == 0
    if variance == "learned":
        high, low = beta.log() / 2, torch.where(last, beta, posterior).log() / 2
        return torch.where(last, -torch.inf, (high + low) / 2), torch.where(last, zero, (high - low) / 2)
    if variance == "beta":
        return torch.where(last, zero, beta.sqrt()), zero
    if variance == "posterior":
        return posterior.sqrt(), zero
    if isinstance(variance, str) or not 0 <= variance <= 1:
        raise ConfigError(f"`variance` must be beta, posterior, learned or DDIM's eta in [0, 1]; got {variance!r}.")
    return variance * posterior.sqrt(), zero


def _fake(x: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _reference(x: Tensor, *rest: Any) -> Tensor:
    return reference.ddpm_step(x, *rest).contiguous()


def _reference_out(out: Tensor, *rest: Any) -> None:
    out.copy_(reference.ddpm_step(*rest))


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001 - torch's signature
    ctx.save_for_backward(*inputs[:5])
    ctx.rest = inputs[5:]


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """In differentiable PyTorch: the noise is made again, so that a step saves nothing beside its inputs."""
    x, output, table, step, index = ctx.saved_tensors
    seed, stream, clip, learned = ctx.rest
    columns = table[step].reshape(len(step), reference.COLUMNS, *[1] * (x.dim() - 1)).unbind(1)
    x_, output_, x0_x, x0_output, mean_x0, mean_x, scale, slope = columns
    first, second = output.chunk(2, 1) if learned else (output, None)
    if clip is None:
        grad_x, grad_output = x_ * grad, output_ * grad
    else:
        x0 = x0_x * x + x0_output * first
        inner = torch.where((x0 >= -clip) & (x0 <= clip), mean_x0 * grad, 0.0)
        grad_x, grad_output = x0_x * inner + mean_x * grad, x0_output * inner
    if second is not None:
        z = reference.step_noise(x, step, index, seed, stream)
        noisy = scale > -1e30
        sd = torch.where(noisy, torch.where(noisy, scale + slope * second, 0.0).exp(), 0.0)
        grad_output = torch.cat((grad_output, grad * slope * sd * z), dim=1)
    return grad_x, grad_output, None, None, None, None, None, None, None


def _vmap(info: Any, in_dims: tuple[Any, ...], x: Tensor, output: Tensor, table: Tensor, step: Tensor, index: Tensor, *rest: Any) -> Any:
    """By rows, with a row of the table for each; a mapped table is looped over, because its row numbers are those of the noise."""
    rows = index.shape[0] if in_dims[4] is None else index.shape[1 - in_dims[4]]
    at = step if in_dims[3] is None else step.movedim(in_dims[3], 0)
    dims = (*in_dims[:3], None if in_dims[3] is None else 0, *in_dims[4:])
    return _BY_ROWS(info, dims, x, output, table, at.expand(*at.shape[:-1], rows).contiguous(), index, *rest)


def _vmap_out(info: Any, in_dims: tuple[Any, ...], out: Tensor, *rest: Any) -> Any:
    if in_dims[0] is None:
        raise ConfigError("`out` must be mapped as well, since every element of the mapped axis writes into it; got one for all.")
    result, _ = _vmap(info, in_dims[1:], *rest)
    out.movedim(in_dims[0], 0).copy_(result)
    return None, None


_BY_ROWS = by_rows("ddpm_step", 0, 1, 3, 4)


_NATIVE = (torch.float32, torch.float64)
_ARGUMENTS = "Tensor x, Tensor output, Tensor table, Tensor step, Tensor index, int seed, int stream, float? clip, bool learned"
_op = define(
    f"ddpm_step({_ARGUMENTS}) -> Tensor",
    reference=_reference,
    fake=_fake,
    backward=_backward,
    setup_context=_setup_context,
    vmap=_vmap,
    autocast=torch.float32,
)
step_out = define(f"ddpm_step_out(Tensor(a!) out, {_ARGUMENTS}) -> ()", reference=_reference_out, fake=lambda *_: None, vmap=_vmap_out)


def ddpm_step(
    x: Tensor,  # [B, *S]
    output: Tensor,  # [B, *S], or [B, 2 C, ...]
    table: StepTable | tuple[float, float],
    step: Tensor | int = 0,
    *,
    seed: int,
    index: Tensor,  # [B]
    stream: int = 0,
    prediction: Prediction = "eps",
    variance: Variance = "posterior",
    clip: float | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """x_s = mean(x_t, output) + sd z, in one pass; the formulas are those of `step_table`.

    The noise of sample i is `philox_normal(seed, index, ..., stream=stream + step_i)`, to the word: the same alone and in any batch.

    Args:
        x: x_t, [B, *S]; float32 and float64 natively, half and bfloat16 through float32.
        output: of the network, as x, or with twice the channels where the variance is learned.
        table: of `step_table`, or (abar_t, abar_s) of this one step.
        step: row of the table: one for all, or int64 [B] or [1].
        seed: in [0, 2^64).
        index: absolute sample numbers, int64 [B].
        stream: in [0, 2^32).
        prediction, variance, clip: with (abar_t, abar_s) only; a table has its own.
        out: where to write, x itself allowed; not under autograd.

    Raises:
        ConfigError: a shape, dtype or range does not fit.

    >>> x, eps = torch.tensor([[1.0, 2.0]]), torch.tensor([[0.5, -0.5]])
    >>> ddpm_step(x, eps, (0.5, 0.9), seed=0, index=torch.tensor([0]), variance=0.0)
    tensor([[1.0254, 2.9995]])
    """
    check_key(seed, index, stream)
    if not isinstance(table, StepTable):
        values, rows = _single(float(table[0]), float(table[1]), prediction, variance, x.dtype, x.device)
        table = StepTable(values, rows, rows, variance == "learned", clip)
    if isinstance(step, int):
        if not 0 <= step < len(table):
            raise ConfigError(f"`step` must be a row of the table, in [0, {len(table)}); got {step}.")
        step = table.rows[step : step + 1]
    _check_shapes(x, output, table, step, index)
    ensure_native(x.device)
    wide = x.dtype if x.dtype in _NATIVE else torch.float32
    values = table.values if table.values.dtype == wide else table.values.to(wide)
    source, prediction_ = (x, output) if x.dtype == wide else (x.to(wide), output.to(wide))
    tensors = (source.contiguous(), prediction_.contiguous(), values, step.contiguous(), index.contiguous())
    rest = (signed(seed), stream, table.clip, table.learned)
    if out is None:
        result: Tensor = _op(*tensors, *rest)
        return result if x.dtype == wide else result.to(x.dtype)
    _check_out(out, x, output)
    if x.dtype == wide and out.is_contiguous():
        step_out(out, *tensors, *rest)
        return out
    return out.copy_(_op(*tensors, *rest))


@lru_cache(maxsize=4096)
def _single(
    at: float, before: float, prediction: Prediction, variance: Variance, dtype: torch.dtype, device: torch.device
) -> tuple[Tensor, Tensor]:
    """The table of one step, kept, since a loop over a schedule asks for the same ones again and again."""
    pair = torch.tensor([[at], [before]], dtype=torch.float64)
    return _coefficients(pair[0], pair[1], prediction, variance).to(device, dtype), torch.zeros(1, dtype=torch.int64, device=device)


def _check_shapes(x: Tensor, output: Tensor, table: StepTable, step: Tensor, index: Tensor) -> None:
    expected = torch.Size((x.shape[0], 2 * x.shape[1], *x.shape[2:])) if table.learned and x.dim() > 1 else x.shape
    if x.dim() < 1 + table.learned or output.shape != expected:
        raise ConfigError(f"`output` must be {tuple(expected)} for x of shape {tuple(x.shape)}; got {tuple(output.shape)}.")
    if output.dtype != x.dtype or not x.is_floating_point():
        raise ConfigError(f"`x` and `output` must have one floating dtype; got {x.dtype} and {output.dtype}.")
    if len(index) != len(x):
        raise ConfigError(f"`index` must name {len(x)} samples; got {len(index)}.")
    if step.dtype != torch.int64 or step.dim() != 1 or len(step) not in (1, len(x)):
        raise ConfigError(f"`step` must be int64 [{len(x)}] or [1]; got {step.dtype} of shape {tuple(step.shape)}.")


def _check_out(out: Tensor, x: Tensor, output: Tensor) -> None:
    if out.shape != x.shape or out.dtype != x.dtype:
        raise ConfigError(f"`out` must be {x.dtype} of shape {tuple(x.shape)}; got {out.dtype} of shape {tuple(out.shape)}.")
    if torch.is_grad_enabled() and (x.requires_grad or output.requires_grad or out.requires_grad):
        raise ConfigError("`out` cannot be given while gradients are recorded; leave it out, or use torch.no_grad().")
