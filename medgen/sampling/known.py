"""Replacement conditioning: the known part of x is set to the known values, noised to the level that each step ends at."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from medgen.errors import ConfigError
from medgen.interfaces import Noise
from medgen.ops import StepTable, ddpm_step
from medgen.sampling.start import BACK, KNOWN, VISIT, noising_table

__all__ = ["Known", "Replacement"]


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of the samples: inpainting and restoration with an unconditional model, by any sampler.

    After each step x = where(mask, signal values + noise z, x), at the end the values exactly; z is drawn anew at each step.

    What is filled in is only approximately drawn from the conditional distribution: the model cannot take back what it decided at high
    noise, where the known part said little. `resample` > 1 mends that: every step is undone (noised from s to t) and taken again so
    many times. For two standard normals of correlation 0.9, one of them known to be 1.5, the mean of the other should be 1.35; DDPM with
    50 steps gives 0.90 without resampling, 1.26 with 5 rounds and 1.29 with 10.

    Papers: replacement: Score-Based Generative Modeling through SDEs (Song et al., 2021) | https://arxiv.org/abs/2011.13456; resampling:
    RePaint (Lugmayr et al., 2022) | https://arxiv.org/abs/2201.09865

    Args:
        values: broadcasting to [B, C, *S]; finite where known, anything elsewhere.
        mask: bool, broadcasting to [B, C, *S]; true where known.
        resample: rounds per step, at least 1. Time grows in proportion.

    Raises:
        ConfigError: a mask that is not bool, resample < 1; in a sampler: shapes that do not broadcast, or values that are not finite.

    >>> from medgen.interfaces import Noise
    >>> from medgen.maths import alpha_bars, linear_betas
    >>> from medgen.sampling import ddim
    >>> known = Known(torch.tensor([0.5, 0.0]), torch.tensor([True, False]))
    >>> ddim(lambda x, t: x, (2,), alpha_bars(linear_betas(100)), noise=Noise.of(0, [0]), known=known)[0, 0]
    tensor(0.5000)
    """

    values: Tensor
    mask: Tensor
    resample: int = 1

    def __post_init__(self) -> None:
        if self.mask.dtype != torch.bool:
            raise ConfigError(f"`mask` must be bool; got {self.mask.dtype}. Compare it, e.g. mask > 0.5.")
        if not 1 <= self.resample < BACK // (2 * VISIT):
            raise ConfigError(f"`resample` must be in [1, {BACK // (2 * VISIT)}); got {self.resample}.")

    def once(self, sampler: str) -> Known:
        """Itself, for a sampler that cannot go back.

        Raises:
            ConfigError: resample > 1.
        """
        if self.resample > 1:
            raise ConfigError(f"`resample` must be 1 in {sampler}; got {self.resample}. Use ancestral, ddim, heun or ode.")
        return self


class Replacement:
    """`Known` bound to one run: x, its noise, and the levels of the chain.

    Args:
        known: what is known.
        x: working buffer; its known part is replaced at once.
        noise: of the samples.
        signal, level: [S + 1], x_t = signal x_0 + level eps; row k is where step k ends, row S where the chain starts.
    """

    def __init__(self, known: Known, x: Tensor, noise: Noise | None, signal: Tensor, level: Tensor) -> None:
        if noise is None:
            raise ConfigError("`noise` must be given with `known`, which is noised at each step; got None.")
        self.noise, self.rounds = noise.to(x.device), known.resample
        self.values, self.mask = _fit("values", known.values, x).to(x.dtype).contiguous(), _fit("mask", known.mask, x)
        if not (torch.compiler.is_compiling() or bool((self.values.isfinite() | ~self.mask).all())):
            raise ConfigError("`values` must be finite where `mask` is true; some are not. Take them out of the mask.")
        self.table = noising_table(signal, level, x)
        ratio = signal[1:] / signal[:-1]
        self.back_table = noising_table(ratio, (level[1:].square() - (ratio * level[:-1]).square()).clamp(min=0).sqrt(), x)
        self.buffer = torch.empty_like(x)
        self(len(signal) - 1, x)

    def __call__(self, k: int, x: Tensor, visit: int = 0) -> None:
        """Replaces the known part after step k, in place."""
        self._noised(self.values, self.table, k, KNOWN + visit * VISIT, self.buffer)
        torch.where(self.mask, self.buffer, x, out=x)

    def back(self, k: int, x: Tensor, visit: int) -> None:
        """Undoes step k: x_s -> x_t by the forward process, in place."""
        self._noised(x, self.back_table, k, BACK + visit * VISIT, x)

    def _noised(self, source: Tensor, table: StepTable, k: int, stream: int, out: Tensor) -> None:
        ddpm_step(source, source, table, k, seed=self.noise.seed, index=self.noise.index, stream=stream, out=out)


def _fit(name: str, tensor: Tensor, x: Tensor) -> Tensor:
    try:
        return tensor.to(x.device).expand(x.shape)
    except RuntimeError:
        raise ConfigError(f"`{name}` must broadcast to {tuple(x.shape)}; got {tuple(tensor.shape)}.") from None
