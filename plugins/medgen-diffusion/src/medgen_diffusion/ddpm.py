"""`ddpm`: denoising diffusion in discrete time.

Papers: Denoising Diffusion Probabilistic Models (Ho et al., 2020) | https://arxiv.org/abs/2006.11239
Improved Denoising Diffusion Probabilistic Models (Nichol, Dhariwal, 2021) | https://arxiv.org/abs/2102.09672
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from medgen.errors import ConfigError
from medgen.interfaces import Batch, Condition, DensityModel, Noise, Phase, Step, as_noise, evaluating
from medgen.maths import kept_steps, log_snr_steps
from medgen.registry import ConditionSpec, ImageSpec
from medgen.sampling import Known, ancestral, ddim, dpm_solver, dynamic_threshold
from medgen_diffusion.base import Diffusion
from medgen_diffusion.chain import Chain
from medgen_diffusion.config import DdpmConfig
from medgen_diffusion.decoder import Decoder
from medgen_diffusion.network import Denoise
from medgen_diffusion.times import ImportantTimes, UniformTimes

__all__ = ["Ddpm"]

_TIME, _EPS, _DRAWS = 0, 1, 16  # noise streams of training, and of the bound from 16 on
_USUAL = {"ancestral": 250, "ddim": 50, "dpm_solver": 20}


class Ddpm(Diffusion, DensityModel):
    """Minimises E ||eps - eps(x_t, t)||^2, or the bound.

    -ln p(x) <= L_0 + ... + L_T with L_0 = -E ln p(x_0 | x_1), L_t = E KL[q(x_t | x_{t+1}, x_0) || p(x_t | x_{t+1})] and
    L_T = KL[q(x_T | x_0) || N(0, I)]. `log_prob` is minus an unbiased estimate of the sum, `bound_terms` has every term.

    >>> import medgen
    >>> model = medgen.create("ddpm", medgen.ImageSpec(channels=1, shape=(12, 12)), width=8, multipliers=[1, 2])
    >>> model.sample(3, noise=0).shape
    torch.Size([3, 1, 12, 12])
    """

    log_prob_kind: Literal["exact", "bound", "estimate"] = "bound"
    config: DdpmConfig

    def __init__(self, config: DdpmConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        rounds = config.resample or (1 if config.sampler == "dpm_solver" else 5)
        super().__init__(config, image_spec, conditions, outputs=2 if config.variance == "learned" else 1, rounds=rounds)
        bounded, decoder = self.scaling.bounded, Decoder(image_spec)
        if config.threshold in ("static", "dynamic") and not bounded:
            raise ConfigError(f"`threshold` {config.threshold} needs data with a range; got content {image_spec.content!r} without one.")
        if config.prediction == "eps" and config.schedule == "cosine" and not bounded:
            raise ConfigError(
                "`prediction` eps needs data with a range under the cosine schedule, at whose all but pure noise errors of x0 grow without "
                "bound; take v, or the linear schedule."
            )
        self.log_prob_measure = "mass" if decoder.mass else "density"
        self.chain = Chain(
            config.schedule, config.steps, prediction=config.prediction, variance=config.variance, decoder=decoder, clip=bounded
        )
        self.times = (ImportantTimes if config.time_sampling == "importance" else UniformTimes)(config.steps)
        self._clip = 1.0 if bounded and config.threshold in ("auto", "static") else None
        self._kept = self._steps()

    def _steps(self) -> Tensor:
        """The steps that sampling keeps."""
        config = self.config
        count = config.sampling_steps or min(_USUAL[config.sampler], config.steps)
        spacing = config.spacing if config.spacing != "auto" else "log_snr" if config.sampler == "dpm_solver" else "trailing"
        return log_snr_steps(self.chain.alpha_bar, count) if spacing == "log_snr" else kept_steps(config.steps, count, spacing)

    # sampling

    def _draw(self, denoise: Denoise, noise: Noise, known: Known | None) -> Tensor:
        config, chain = self.config, self.chain
        if config.threshold == "dynamic":
            denoise = dynamic_threshold(denoise, alpha_bar=chain.alpha_bar, prediction=config.prediction)
        x, bar, kept = noise.normal(*self.image_spec.size, dtype=self.dtype), chain.alpha_bar, self._kept
        how: dict[str, Any] = {"noise": noise, "kept": kept, "prediction": config.prediction, "clip": self._clip, "known": known}
        if config.sampler == "dpm_solver":
            return dpm_solver(denoise, x, bar, **how)
        how["graph"] = config.cuda_graph
        if config.sampler == "ddim":
            return ddim(denoise, x, bar, eta=config.eta, **how)
        return ancestral(denoise, x, bar, variance=config.variance, **how)

    # training

    def phases(self) -> Sequence[Phase]:
        """One player."""
        return [Phase("denoise", list(self.parameters()), self._loss, after=self.times.learn)]

    def _loss(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        """Per value, so that learning rates carry over from one image size to another."""
        chain, config = self.chain, self.config
        x0, condition = self.scaling(batch.x), self._seen(batch.condition, step)
        t, weight = self.times.draw(step.noise, _TIME)
        eps = step.noise.normal(*self.image_spec.size, stream=_EPS, dtype=x0.dtype)
        x = chain.noised(x0, t, eps)
        mean, variance = chain.split(self.network.given(condition, x)(x, t))
        squared = (mean - chain.target(x0, t, eps)).square().flatten(1).mean(1)
        values, losses = {"mse": squared}, squared
        if config.loss == "vlb" or config.variance == "learned":
            of_mean = mean if config.loss == "vlb" else mean.detach()  # the variance must not bend the mean
            bits = chain.term(x0, x, t, of_mean, variance, clip=False) / (self.image_spec.numel * math.log(2.0))
            values["bits_per_dim"] = bits * len(chain)
            losses = values["bits_per_dim"] if config.loss == "vlb" else squared + 1e-3 * values["bits_per_dim"]
        self.times.note(t, losses)
        weighted = {name: (weight.to(value.dtype) * value).mean().detach() for name, value in values.items()}
        return {"loss": (weight.to(losses.dtype) * losses).mean(), **weighted}

    # the bound

    def _log_prob(self, x: Tensor, condition: Condition, noise: Noise, importance_samples: int) -> Tensor:
        """Terms at times spread evenly, one in each of as many parts of the chain as there are draws; at T draws, all of them."""
        u, steps = self.scaling(x), len(self.chain)
        draws = importance_samples * min(self.config.bound_draws, steps)
        denoise, total = self.network.given(condition, u), torch.zeros(len(u), device=u.device, dtype=u.dtype)
        for draw in range(draws):  # one at a time: memory does not grow with their number
            place = draw + noise.uniform(stream=_DRAWS + 2 * draw, dtype=torch.float64)
            t = (place * (steps / draws)).long().clamp(max=steps - 1)
            total = total + self._term(denoise, u, t, noise, _DRAWS + 2 * draw + 1)
        bound = -self.chain.prior(u) - total * (steps / draws)
        return bound if self.log_prob_measure == "mass" else bound + self.scaling.log_det

    def _term(self, denoise: Denoise, u: Tensor, t: Tensor, noise: Noise, stream: int) -> Tensor:
        x = self.chain.noised(u, t, noise.normal(*self.image_spec.size, stream=stream, dtype=u.dtype))
        return self.chain.term(u, x, t, *self.chain.split(denoise(x, t)))

    def bound_terms(self, x: Tensor, *, condition: Condition | None = None, noise: Noise | int = 0) -> Tensor:
        """(L_0, L_1, ..., L_{T-1}, L_T) in nats [B, T + 1], whose sum is minus the bound on ln p(x): the network is called T times.

        Args:
            x: [B, C, *S] in model units; L_0 is with respect to these, or a mass.
            condition: of the B samples.
            noise: of the x_t; column t is an unbiased estimate of L_t.

        Raises:
            DataError, ConditionError: input that does not fit.
        """
        x = self._checked_x(x, self.image_spec)
        checked, source = self._checked(condition, len(x)), as_noise(noise, len(x), x.device)
        with evaluating(self):
            u = self.scaling(x)
            denoise, rows = self.network.given(checked, u), torch.zeros(len(x), dtype=torch.int64, device=x.device)
            terms = [self._term(denoise, u, rows + t, source, _DRAWS + 2 * t + 1) for t in range(len(self.chain))]
            if self.log_prob_measure == "density":
                terms[0] = terms[0] - self.scaling.log_det
            return torch.stack([*terms, self.chain.prior(u)], 1)
