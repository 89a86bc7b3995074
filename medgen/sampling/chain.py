"""Samplers of a discrete chain whose step is one op: ancestral DDPM and DDIM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from medgen.errors import ConfigError
from medgen.interfaces import Noise
from medgen.maths import Prediction
from medgen.ops import StepTable, ddpm_sample, ddpm_step, step_table
from medgen.ops.ddpm_sample import Denoiser
from medgen.sampling.known import Known, Replacement
from medgen.sampling.start import STEP, VISIT, Callback, first, mean_only, wide

__all__ = ["ancestral", "chain_levels", "ddim"]


def ancestral(
    denoiser: Denoiser,
    x: Tensor | Sequence[int],
    alpha_bar: Tensor,
    *,
    noise: Noise,
    kept: Tensor | None = None,
    prediction: Prediction = "eps",
    variance: Literal["beta", "posterior", "learned"] = "posterior",
    clip: float | None = None,
    known: Known | None = None,
    callback: Callback | None = None,
    graph: bool = False,
) -> Tensor:
    """DDPM: x_s ~ N(c_0 x_0 + c_t x_t, var) from each kept step t to the kept step s before it; x_0 [B, *S].

    The formulas are those of `medgen.ops.step_table`, the loop is `medgen.ops.ddpm_sample`: per step the denoiser and one op in place.
    Sample i depends on the seed, i and the denoiser only.

    Papers: DDPM (Ho et al., 2020) | https://arxiv.org/abs/2006.11239; Improved DDPM (Nichol, Dhariwal, 2021) |
    https://arxiv.org/abs/2102.09672

    Args:
        denoiser: (x_t [B, *S], t int64 [B]) -> what it predicts, as x; it must not change x. Twice the channels where it predicts the
            variance too; a variance that is not asked for is left out.
        x: x_T [B, *S], left as it is, or the shape of one sample, whose x_T is drawn from `noise`.
        alpha_bar: [T], of the whole chain; see `medgen.maths.alpha_bars`.
        noise: of the B samples.
        kept: ascending steps, int64 [S]; all by default; see `medgen.maths.kept_steps`.
        prediction: what the network predicts.
        variance: beta, the posterior's, or learned.
        clip: x_0 is clamped to [-clip, clip] (static threshold).
        known: values to keep, for inpainting.
        callback: called with (k, x), k the steps left.
        graph: capture a step as a CUDA graph; the denoiser must be capturable.

    Raises:
        ConfigError: a shape or range does not fit, or `graph` without CUDA.

    >>> from medgen.maths import alpha_bars, kept_steps, linear_betas
    >>> bar = alpha_bars(linear_betas())
    >>> def denoiser(x, t):  # the exact one of data that are all 0.25
    ...     return torch.full_like(x, 0.25)
    >>> kept = kept_steps(1000, 50, "trailing")
    >>> ancestral(denoiser, (3,), bar, noise=Noise.of(0, [0, 1]), kept=kept, prediction="x0")
    tensor([[0.2500, 0.2500, 0.2500],
            [0.2500, 0.2500, 0.2500]])
    """
    if not isinstance(variance, str):
        raise ConfigError(f"`variance` must be beta, posterior or learned; got {variance!r}. DDIM's eta is an argument of ddim.")
    table = step_table(alpha_bar, kept, prediction=prediction, variance=variance, clip=clip, dtype=wide(x))
    return _run(denoiser, x, table, chain_levels(alpha_bar, table.t), noise, known, callback, graph)


def ddim(
    denoiser: Denoiser,
    x: Tensor | Sequence[int],
    alpha_bar: Tensor,
    *,
    noise: Noise,
    kept: Tensor | None = None,
    prediction: Prediction = "eps",
    eta: float = 0.0,
    clip: float | None = None,
    known: Known | None = None,
    callback: Callback | None = None,
    graph: bool = False,
) -> Tensor:
    """DDIM: x_s = sqrt(abar_s) x_0 + sqrt(1 - abar_s - c^2) eps + c z, c = eta sqrt(btilde); x_0 [B, *S].

    Paper: Denoising Diffusion Implicit Models (Song, Meng, Ermon, 2021) | https://arxiv.org/abs/2010.02502

    Args:
        eta: in [0, 1]; 0 is deterministic and of first order, 1 is `ancestral` with the posterior variance.
        denoiser, x, alpha_bar, noise, kept, prediction, clip, known, callback, graph: as in `ancestral`.

    Raises:
        ConfigError: as `ancestral`, or eta outside [0, 1].

    >>> from medgen.maths import alpha_bars, kept_steps, linear_betas
    >>> bar = alpha_bars(linear_betas())
    >>> ddim(lambda x, t: x, (1,), bar, noise=Noise.of(0, [3]), kept=kept_steps(1000, 10), prediction="x0").shape
    torch.Size([1, 1])
    """
    table = step_table(alpha_bar, kept, prediction=prediction, variance=float(eta), clip=clip, dtype=wide(x))
    return _run(denoiser, x, table, chain_levels(alpha_bar, table.t), noise, known, callback, graph)


def chain_levels(alpha_bar: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """(sqrt(abar), sqrt(1 - abar)) [S + 1], float64: clean data, then the kept steps."""
    bar = alpha_bar.detach().double().cpu()[kept]
    bar = torch.cat((bar.new_ones(1), bar))
    return bar.sqrt(), (1 - bar).sqrt()


@torch.no_grad()
def _run(
    denoiser: Denoiser,
    x: Tensor | Sequence[int],
    table: StepTable,
    levels: tuple[Tensor, Tensor],
    noise: Noise,
    known: Known | None,
    callback: Callback | None,
    graph: bool,
) -> Tensor:
    def network(x: Tensor, t: Tensor) -> Tensor:
        output = denoiser(x, t)
        return output if table.learned else mean_only(output, x)

    if known is not None:
        x = first(x, noise)
        callback = _replacing(network, table.to(x.device), Replacement(known, x, noise, *levels), callback)
    if isinstance(x, Tensor):
        noise = noise.to(x.device)
    return ddpm_sample(network, x, table, seed=noise.seed, index=noise.index, callback=callback, graph=graph)


def _replacing(network: Denoiser, table: StepTable, replacement: Replacement, callback: Callback | None) -> Callback:
    """After each step: the known part, and as many rounds of going back and taking the step again as were asked for."""
    noise = replacement.noise

    def after(k: int, x: Tensor) -> None:
        replacement(k, x)
        for visit in range(1, replacement.rounds if k else 1):
            replacement.back(k, x, visit)
            output = network(x, table.t[k : k + 1].expand(len(x)))
            ddpm_step(x, output, table, k, seed=noise.seed, index=noise.index, stream=STEP + visit * VISIT, out=x)
            replacement(k, x, visit)
        if callback is not None:
            callback(k, x)

    return after
