"""`vae`, `beta_vae`, `cvae`: variational autoencoders.

Papers: Auto-Encoding Variational Bayes (Kingma, Welling, 2014) | https://arxiv.org/abs/1312.6114
Importance Weighted Autoencoders (Burda, Grosse, Salakhutdinov, 2016) | https://arxiv.org/abs/1509.00519
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from medgen.interfaces import Batch, Condition, DensityModel, Generator, LatentModel, Noise, Phase, Step
from medgen.maths import log_normal
from medgen.nn import ConditionEmbedding, Decoder, Encoder
from medgen.registry import ConditionSpec, ImageSpec
from medgen_autoencoders.config import BetaVaeConfig, CvaeConfig, VaeConfig
from medgen_autoencoders.likelihoods import make_likelihood
from medgen_autoencoders.posterior import Posterior, PosteriorHead

__all__ = ["BetaVae", "Cvae", "GaussianVae", "Vae"]

_LATENT, _HIDE = 0, 1  # noise streams: the latents; which samples lose their condition


class GaussianVae(Generator, DensityModel, LatentModel):
    """q(z|x,c), a diagonal Gaussian or a flow of one, p(z|c), p(x|z,c); a family adds the prior and what training minimises.

    ELBO = E_q[ln p(x|z,c)] - KL[q(z|x,c) || p(z|c)] <= ln p(x|c)
    """

    log_prob_kind: Literal["exact", "bound", "estimate"] = "bound"
    config: VaeConfig

    def __init__(
        self,
        config: VaeConfig,
        image_spec: ImageSpec,
        conditions: Sequence[ConditionSpec] = (),
        targets: Sequence[ConditionSpec] = (),
        *,
        embedding_width: int = 1,
        required: Sequence[str] = (),
    ) -> None:
        super().__init__(config, image_spec, conditions, targets)
        self.required_conditions = tuple(required)
        latent, shape, channels = config.latent_dim, image_spec.shape, config.channels
        self.embedding = ConditionEmbedding(conditions, embedding_width, required=required)
        extra = self.embedding.size
        self.posterior = PosteriorHead(latent, config.iaf_steps if config.posterior == "iaf" else 0, config.iaf_hidden)
        self.encoder = Encoder(image_spec.channels, shape, channels, self.posterior.size, blocks=config.blocks, embedding=extra)
        self.decoder = Decoder(latent + extra, image_spec.channels, shape, channels, blocks=config.blocks)
        self.likelihood = make_likelihood(config.likelihood, config.noise_sd, image_spec)
        self.output_range, self.log_prob_measure = self.likelihood.output_range, self.likelihood.measure

    @abstractmethod
    def _prior(self, embedding: Tensor | None, n: int) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of p(z|c), broadcastable to [n, latent_dim]."""

    @abstractmethod
    def _loss(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        """What training minimises, "loss", and what it logs; `_pass` has the parts."""

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(latent_dim,)."""
        return (self.config.latent_dim,)

    def _posterior(self, x: Tensor, embedding: Tensor | None) -> Posterior:
        return self.posterior(self.encoder(x, embedding))

    def _hidden(self, z: Tensor, embedding: Tensor | None) -> Tensor:
        """Decoder output [B, C, *S] before the likelihood's link."""
        return self.decoder(z if embedding is None else torch.cat((z, embedding), 1))

    def _encode(self, x: Tensor, condition: Condition) -> Distribution:
        return self._posterior(x, self.embedding(condition, len(x))).distribution()

    def _decode(self, z: Tensor, condition: Condition) -> Tensor:
        return self.likelihood.mean(self._hidden(z, self.embedding(condition, len(z))))

    def _sample(self, n: int, condition: Condition, noise: Noise) -> Tensor:
        embedding = self.embedding(condition, n)
        mean, log_var = self._prior(embedding, n)
        z = mean + torch.exp(0.5 * log_var) * noise.normal(*self.latent_shape, stream=_LATENT, dtype=self.dtype)
        h = self._hidden(z, embedding)
        return self.likelihood.sample(h, noise) if self.config.sample_noise else self.likelihood.mean(h)

    def _log_prob(self, x: Tensor, condition: Condition, noise: Noise, importance_samples: int) -> Tensor:
        """K = 1: the ELBO, its KL in closed form where q is Gaussian. K > 1: ln (1/K) sum_k p(x, z_k|c) / q(z_k|x, c), a tighter bound."""
        embedding = self.embedding(condition, len(x))
        posterior = self._posterior(x, embedding)
        prior = self._prior(embedding, len(x))
        if importance_samples == 1:
            z, log_q = posterior.draw(noise, _LATENT)
            return self.likelihood.log_prob(x, self._hidden(z, embedding)) - posterior.kl(prior, z, log_q)
        total = torch.full((len(x),), -math.inf, device=x.device, dtype=x.dtype)
        for k in range(importance_samples):  # one at a time: memory does not grow with K
            z, log_q = posterior.draw(noise, _LATENT if k == 0 else 16 + k)  # streams 1 to 16 have other uses
            weight = self.likelihood.log_prob(x, self._hidden(z, embedding)) + log_normal(z, *prior).sum(1) - log_q
            total = torch.logaddexp(total, weight)
        return total - math.log(importance_samples)

    def _pass(self, x: Tensor, embedding: Tensor | None, noise: Noise) -> tuple[Posterior, Tensor, Tensor, Tensor]:
        """q(z|x,c), a draw z [B, L], the decoder's output [B, C, *S], and the mean of the KL, of a training step."""
        posterior = self._posterior(x, embedding)
        z, log_q = posterior.draw(noise, _LATENT)
        kl = posterior.kl(self._prior(embedding, len(x)), z, log_q).mean()
        return posterior, z, self._hidden(z, embedding), kl

    def _cost(self, kl: Tensor) -> Tensor:
        """The KL without its free bits."""
        # not at 0 bits: a draw's estimate of the KL may fall below 0, and must still be pushed
        return kl.clamp(min=self.config.free_bits) if self.config.free_bits > 0 else kl

    def phases(self) -> Sequence[Phase]:
        """One player, who maximises the bound."""
        return [Phase("elbo", list(self.parameters()), self._loss)]


class _Bound(GaussianVae):
    """Minimises a function of the two parts of the bound."""

    @abstractmethod
    def _objective(self, reconstruction: Tensor, kl: Tensor, step: Step) -> Tensor:
        """What training minimises, from the mean of -ln p(x|z) and of the KL, in nats per sample."""

    @abstractmethod
    def _seen(self, condition: Condition, step: Step) -> Condition:
        """What of the condition this training step sees."""

    def _loss(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        """Nats per value, so that learning rates carry over from one image size to another."""
        embedding = self.embedding(self._seen(batch.condition, step), len(batch))
        _, _, h, kl = self._pass(batch.x, embedding, step.noise)
        reconstruction = -self.likelihood.log_prob(batch.x, h).mean()
        loss = self._objective(reconstruction, self._cost(kl), step) / self.image_spec.numel
        return {"loss": loss, "reconstruction": reconstruction.detach(), "kl": kl.detach()}


class _StandardPrior(_Bound):
    """Unconditional, with p(z) = N(0, I)."""

    def _prior(self, embedding: Tensor | None, n: int) -> tuple[Tensor, Tensor]:
        zero = torch.zeros((), device=self.device, dtype=self.dtype)
        return zero, zero

    def _seen(self, condition: Condition, step: Step) -> Condition:
        return condition


class Vae(_StandardPrior):
    """Minimises -ELBO.

    >>> import medgen
    >>> model = medgen.create("vae", medgen.ImageSpec(channels=1, shape=(12, 12)), latent_dim=2, channels=[8, 8])
    >>> model.log_prob(model.sample(3, noise=0)).shape
    torch.Size([3])
    """

    def _objective(self, reconstruction: Tensor, kl: Tensor, step: Step) -> Tensor:
        return reconstruction + kl


class BetaVae(_StandardPrior):
    """Minimises -E[ln p(x|z)] + beta |KL - C|, with C rising linearly to `capacity` over `capacity_steps`.

    beta = 1 and C = 0 is the VAE. `log_prob` stays the ELBO.
    Papers: beta-VAE (Higgins et al., 2017) | https://openreview.net/forum?id=Sy2fzU9gl
    Understanding disentangling in beta-VAE (Burgess et al., 2018) | https://arxiv.org/abs/1804.03599
    """

    config: BetaVaeConfig

    def _objective(self, reconstruction: Tensor, kl: Tensor, step: Step) -> Tensor:
        steps = self.config.capacity_steps
        capacity = self.config.capacity * (min(1.0, step.number / steps) if steps else 1.0)
        return reconstruction + self.config.beta * (kl - capacity).abs()


class Cvae(_Bound):
    """q(z|x,c), p(x|z,c) and p(z) or p(z|c), for labels and attributes c.

    Paper: Learning Structured Output Representation using Deep Conditional Generative Models (Sohn, Lee, Yan, 2015)
    """

    config: CvaeConfig

    def __init__(self, config: CvaeConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        required = () if config.condition_dropout else tuple(c.name for c in conditions)
        super().__init__(config, image_spec, conditions, embedding_width=config.condition_width, required=required)
        self.prior = nn.Linear(self.embedding.size, 2 * config.latent_dim) if config.prior == "learned" and conditions else None
        if self.prior is not None:
            nn.init.zeros_(self.prior.weight)
            nn.init.zeros_(self.prior.bias)

    def _objective(self, reconstruction: Tensor, kl: Tensor, step: Step) -> Tensor:
        return reconstruction + kl

    def _prior(self, embedding: Tensor | None, n: int) -> tuple[Tensor, Tensor]:
        if self.prior is None or embedding is None:
            zero = torch.zeros((), device=self.device, dtype=self.dtype)
            return zero, zero
        mean, log_var = self.prior(embedding).chunk(2, 1)
        return mean, 14.0 * torch.tanh(log_var / 14.0)

    def _seen(self, condition: Condition, step: Step) -> Condition:
        if self.config.condition_dropout == 0 or not self.training:
            return condition
        keep = step.noise.uniform(stream=_HIDE) >= self.config.condition_dropout
        return Condition(condition.values, {name: condition.mask(name) & keep for name in condition.values})
