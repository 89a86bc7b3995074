"""ln p(x) by the probability-flow ODE, for models in continuous time.

Papers: Neural Ordinary Differential Equations (Chen et al., 2018) | https://arxiv.org/abs/1806.07366
FFJORD (Grathwohl et al., 2019) | https://arxiv.org/abs/1810.01367
Score-Based Generative Modeling through SDEs (Song et al., 2021) | https://arxiv.org/abs/2011.13456
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from medgen.interfaces import Condition, DensityModel, Noise
from medgen.maths import log_standard_normal
from medgen.registry import ConditionSpec, ImageSpec
from medgen_diffusion.base import Diffusion
from medgen_diffusion.config import ProbabilityFlowConfig
from medgen_diffusion.network import Denoise

__all__ = ["Divergence", "ProbabilityFlow", "change_of_log_density"]

_PROBES = 16  # first noise stream of the probes

Divergence = Callable[[Denoise, Tensor, Tensor, int], tuple[Tensor, Tensor]]
"""(velocity, x [B, *S], t [B], number of the call) -> velocity(x, t) and its divergence in x [B]."""


class ProbabilityFlow(Diffusion, DensityModel):
    """A diffusion model whose samples move from noise to data along dx / dt = velocity(x, t), so that their density can be followed.

    ln p(x) = ln N(x_T; 0, I) + integral of div velocity dt along the way of x into noise. It is an estimate: Heun's method takes
    `log_prob_steps` steps, and for arrays of more than `exact_divergence` values Hutchinson's estimator stands in for the divergence,
    unbiased, its spread less with more importance samples.

    Args:
        config, image_spec, conditions: as in `medgen.Model`.
    """

    log_prob_kind: Literal["exact", "bound", "estimate"] = "estimate"
    config: ProbabilityFlowConfig

    def __init__(self, config: ProbabilityFlowConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        super().__init__(config, image_spec, conditions, rounds=config.resample, standardise=True)

    @abstractmethod
    def _velocity(self, denoise: Denoise) -> Denoise:
        """(y, t) -> dy / dt from the network's output, along the way of `_to_noise`."""

    @abstractmethod
    def _to_noise(self) -> tuple[Sequence[float], float]:
        """Times [S + 1] from data to noise, and the factor a by which data are scaled to where the way starts, y = a u."""

    def _log_prob(self, x: Tensor, condition: Condition, noise: Noise, importance_samples: int) -> Tensor:
        u = self.scaling(x)
        times, factor = self._to_noise()
        velocity = self._velocity(self.network.given(condition, u))
        few = self.image_spec.numel <= self.config.exact_divergence
        divergence = exact_divergence if few else _hutchinson(noise, importance_samples)
        y, change = change_of_log_density(velocity, factor * u, times, divergence)
        return log_standard_normal(y).flatten(1).sum(1) + change + self.scaling.log_det + self.image_spec.numel * math.log(factor)


def change_of_log_density(velocity: Denoise, x: Tensor, times: Sequence[float], divergence: Divergence) -> tuple[Tensor, Tensor]:
    """x(t_S) of dx / dt = velocity(x, t) from x(t_0) = x, and ln p_{t_0}(x(t_0)) - ln p_{t_S}(x(t_S)) = integral of div velocity dt, [B].

    Heun's method on both, of second order, with 2 S calls of `divergence`; differentiable.

    Args:
        velocity: (x [B, *S], t [B]) -> dx / dt.
        x: x(t_0) [B, *S].
        times: S + 1, ascending or descending.
        divergence: how it is computed.

    >>> x = torch.tensor([[1.0, 2.0]])
    >>> with torch.no_grad():  # x / e, and -2
    ...     change_of_log_density(lambda x, t: -x, x, [i / 100 for i in range(101)], exact_divergence)
    (tensor([[0.3679, 0.7358]]), tensor([-2.0000]))
    """
    total = torch.zeros(len(x), device=x.device, dtype=x.dtype)
    rows = torch.tensor(times, dtype=torch.float64).to(x.device, x.dtype)[:, None].expand(-1, len(x)).unbind(0)
    for i, (start, stop) in enumerate(pairwise(times)):
        step = stop - start
        slope, first = divergence(velocity, x, rows[i], 2 * i)
        end, second = divergence(velocity, x + step * slope, rows[i + 1], 2 * i + 1)
        x, total = x + step / 2 * (slope + end), total + step / 2 * (first + second)
    return x, total


def exact_divergence(velocity: Denoise, x: Tensor, t: Tensor, _: int = 0) -> tuple[Tensor, Tensor]:
    """sum_i d velocity_i / d x_i, by a backward pass per value."""
    slope, pull = _linearised(velocity, x, t)
    total = torch.zeros_like(t)
    for i, one in enumerate(torch.eye(x[0].numel(), device=x.device, dtype=x.dtype)):
        (column,) = pull(one.view(1, *x.shape[1:]).expand_as(x))
        total = total + column.flatten(1)[:, i]
    return slope, total


def _hutchinson(noise: Noise, probes: int) -> Divergence:
    """E[v^T J v] for v of independent signs, new ones at every call."""

    def divergence(velocity: Denoise, x: Tensor, t: Tensor, call: int) -> tuple[Tensor, Tensor]:
        slope, pull = _linearised(velocity, x, t)
        total = torch.zeros_like(t)
        for probe in range(probes):
            signs = noise.integers(2, *x.shape[1:], stream=_PROBES + call * probes + probe).to(x.dtype) * 2 - 1
            (column,) = pull(signs)
            total = total + (signs * column).flatten(1).sum(1)
        return slope, total / probes

    return divergence


def _linearised(velocity: Denoise, x: Tensor, t: Tensor) -> tuple[Tensor, Callable[[Tensor], tuple[Tensor, ...]]]:
    """velocity(x, t), and v -> v^T J, the product with its Jacobian in x; graphs are kept only where gradients are asked for."""
    if torch.compiler.is_compiling():  # which traces this one; it does not bear checkpointing
        traced: Any = torch.func.vjp(lambda x: velocity(x, t), x)
        return traced[0], traced[1]
    keep = torch.is_grad_enabled()
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH) if keep else nullcontext():  # fused attention has no second derivative
        x = x if keep and x.requires_grad else x.detach().requires_grad_()
        slope = velocity(x, t)

    def product(v: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(slope, x, v, create_graph=keep, retain_graph=True)

    return (slope if keep else slope.detach()), product
