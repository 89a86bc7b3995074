"""`flow_matching`: the velocity of straight paths from noise to data.

Papers: Flow Matching for Generative Modeling (Lipman et al., 2023) | https://arxiv.org/abs/2210.02747
Flow Straight and Fast (Liu, Gong, Liu, 2023) | https://arxiv.org/abs/2209.03003
Scaling Rectified Flow Transformers (Esser et al., 2024) | https://arxiv.org/abs/2403.03206, for logit-normal times
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from medgen.interfaces import Batch, Noise, Phase, Step
from medgen.sampling import Known, ode
from medgen_diffusion.config import FlowMatchingConfig
from medgen_diffusion.likelihood import ProbabilityFlow
from medgen_diffusion.network import Denoise

__all__ = ["FlowMatching"]

_WHEN, _EPS = 0, 1  # noise streams of training
_TIME = 1000.0  # sinusoids suit times of about 0 to 1000


class FlowMatching(ProbabilityFlow):
    """Minimises E ||v(x_t, t) - (x_1 - eps)||^2, x_t = t x_1 + (1 - t) eps: the conditional flow of optimal transport, rectified flow.

    Samples move along dx / dt = v(x, t) from noise at t = 0 to data at t = 1, densities along the same way back.

    >>> import medgen
    >>> model = medgen.create("flow_matching", medgen.ImageSpec(channels=1, shape=(12, 12)), width=8, multipliers=[1, 2])
    >>> model.sample(3, noise=0).shape
    torch.Size([3, 1, 12, 12])
    """

    config: FlowMatchingConfig

    # sampling

    def _draw(self, denoise: Denoise, noise: Noise, known: Known | None) -> Tensor:
        config = self.config
        x, times = noise.normal(*self.image_spec.size, dtype=self.dtype), _even(config.sampling_steps)
        return ode(self._velocity(denoise), x, times, method=config.sampler, noise=noise, known=known)

    # training

    def phases(self) -> Sequence[Phase]:
        """One player."""
        return [Phase("velocity", list(self.parameters()), self._loss)]

    def _loss(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        """Per value, so that learning rates carry over from one image size to another."""
        data, condition, config = self.scaling(batch.x), self._seen(batch.condition, step), self.config
        if config.time_sampling == "uniform":
            t = step.noise.uniform(stream=_WHEN, dtype=data.dtype)
        else:
            t = torch.sigmoid(config.logit_mean + config.logit_sd * step.noise.normal(stream=_WHEN, dtype=data.dtype))
        eps = step.noise.normal(*self.image_spec.size, stream=_EPS, dtype=data.dtype)
        x = torch.lerp(eps, data, t.view(-1, *[1] * (data.dim() - 1)))
        velocity = self._velocity(self.network.given(condition, data))(x, t)
        return {"loss": (velocity - (data - eps)).square().mean()}

    # density

    def _velocity(self, denoise: Denoise) -> Denoise:
        return lambda x, t: denoise(x, _TIME * t)

    def _to_noise(self) -> tuple[Sequence[float], float]:
        """1 - t = squares of even numbers: the narrower the data, the nearer to them the density changes."""
        return [1 - share * share for share in _even(self.config.log_prob_steps)], 1.0


def _even(steps: int) -> list[float]:
    """0 to 1."""
    return [step / steps for step in range(steps + 1)]
