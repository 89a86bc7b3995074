"""`edm`: diffusion over noise levels, preconditioned so that the network's input and target always have unit variance.

Paper: Elucidating the Design Space of Diffusion-Based Generative Models (Karras et al., 2022) | https://arxiv.org/abs/2206.00364
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from medgen.errors import ConfigError
from medgen.interfaces import Batch, Noise, Phase, Step
from medgen.maths import edm_preconditioning, karras_sigmas
from medgen.registry import ConditionSpec, ImageSpec
from medgen.sampling import Known, heun
from medgen_diffusion.config import EdmConfig
from medgen_diffusion.likelihood import ProbabilityFlow
from medgen_diffusion.network import Denoise

__all__ = ["Edm"]

_SIGMA, _EPS = 0, 1  # noise streams of training
_TIME = 400.0  # of c_noise = ln(sigma) / 4, for sinusoids that suit times of about 0 to 1000


class Edm(ProbabilityFlow):
    """Minimises E lambda(sigma) ||D(x_0 + sigma eps; sigma) - x_0||^2, ln sigma ~ N, D = c_skip x + c_out F(c_in x, c_noise).

    With data of standard deviation 1, to which they are brought by measurement, and theta = arctan(sigma): c_skip = cos^2, c_out = sin,
    c_in = cos, lambda = 1 / sin^2. So F is trained by E ||F - (sin x_0 - cos eps)||^2, and y = x cos(theta) moves along
    dy / dtheta = -F(y, theta), which is what `log_prob` integrates from `sigma_min` to `sigma_max`; it takes x itself for a draw at
    `sigma_min`.

    >>> import medgen
    >>> model = medgen.create("edm", medgen.ImageSpec(channels=1, shape=(12, 12)), width=8, multipliers=[1, 2])
    >>> model.sample(3, noise=0).shape
    torch.Size([3, 1, 12, 12])
    """

    config: EdmConfig

    def __init__(self, config: EdmConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        super().__init__(config, image_spec, conditions)
        if config.churn_max is not None and config.churn_max < config.churn_min:
            raise ConfigError(f"`churn_max` must not be less than `churn_min`; got {config.churn_max:g} and {config.churn_min:g}.")
        low, high = config.sigma_min, config.sigma_max  # below and above 1
        self._sigmas: list[float] = karras_sigmas(config.sampling_steps, smallest=low, largest=high, rho=config.rho).tolist()

    # sampling

    def _draw(self, denoise: Denoise, noise: Noise, known: Known | None) -> Tensor:
        config = self.config
        x = noise.normal(*self.image_spec.size, dtype=self.dtype) * math.hypot(config.sigma_max, 1.0)  # data and noise
        limits = (config.churn_min, math.inf if config.churn_max is None else config.churn_max)
        return heun(
            _preconditioned(denoise),
            x,
            self._sigmas,
            noise=noise,
            churn=config.churn,
            churn_range=limits,
            churn_noise=config.churn_noise,
            known=known,
        )

    # training

    def phases(self) -> Sequence[Phase]:
        """One player."""
        return [Phase("denoise", list(self.parameters()), self._loss)]

    def _loss(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        """Per value, so that learning rates carry over from one image size to another."""
        x0, condition = self.scaling(batch.x), self._seen(batch.condition, step)
        normal = step.noise.normal(stream=_SIGMA, dtype=x0.dtype)
        sigma = torch.exp(self.config.noise_mean + self.config.noise_sd * normal)
        eps = step.noise.normal(*self.image_spec.size, stream=_EPS, dtype=x0.dtype)
        theta = _column(sigma.atan(), x0)
        sin, cos = theta.sin(), theta.cos()
        output = self.network.given(condition, x0)(cos * x0 + sin * eps, _time(sigma))
        return {"loss": (output - (sin * x0 - cos * eps)).square().mean()}

    # density

    def _velocity(self, denoise: Denoise) -> Denoise:
        return lambda y, theta: -denoise(y, _time(theta.tan()))

    def _to_noise(self) -> tuple[Sequence[float], float]:
        """Angles whose cube roots are even: the narrower the data, the nearer to them the density changes."""
        config = self.config
        start, stop, steps = math.atan(config.sigma_min), math.atan(config.sigma_max), config.log_prob_steps
        first, last = start ** (1 / 3), stop ** (1 / 3)
        return [(first + step / steps * (last - first)) ** 3 for step in range(steps + 1)], math.cos(start)


def _preconditioned(network: Denoise) -> Denoise:
    """D(x; sigma) -> x_0 of the network F."""

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        skip, out, scale, noise = edm_preconditioning(sigma, 1.0)
        skip, out, scale = (_column(c, x) for c in (skip, out, scale))
        return torch.addcmul(skip * x, out, network(scale * x, _TIME * noise))

    return denoise


def _time(sigma: Tensor) -> Tensor:
    return _TIME * (sigma.log() / 4)


def _column(row: Tensor, x: Tensor) -> Tensor:
    """[B] -> [B, 1, ...] of x's type."""
    return row.to(x.dtype).view(-1, *[1] * (x.dim() - 1))
