"""`vae_gan`: a variational autoencoder that measures its reconstructions in the features of a discriminator.

Paper: Autoencoding beyond pixels using a learned similarity metric (Larsen et al., 2016) | https://arxiv.org/abs/1512.09300
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from medgen.interfaces import Batch, Condition, LatentModel, Noise, Phase, Step
from medgen.nn import Encoder
from medgen.nn.adversarial import Judgement, diversity
from medgen.registry import ConditionSpec, ImageSpec
from medgen_gans.config import VaeGanConfig
from medgen_gans.game import optimizer_of
from medgen_gans.gan import Adversarial, one_hot

__all__ = ["VaeGan"]

_EPS = 3  # noise stream of q(z|x)


class VaeGan(Adversarial, LatentModel):
    """Three players, and L_feat = 1/2 ||D_l(x) - D_l(G(E(x)))||^2 in layer l of the discriminator.

    Encoder L_E = (w KL[q(z|x) || N(0, I)] + L_feat) / F; generator L_G = gamma L_feat / F + L_adv, of reconstructions and of samples from
    the prior; discriminator L_D, of x against both. F is the number of features, so that rates carry over from one size to another.

    >>> import medgen
    >>> model = medgen.create("vae_gan", medgen.ImageSpec(channels=1, shape=(12, 12)), latent_dim=4, channels=[8, 8])
    >>> model.reconstruct(model.sample(3)).shape
    torch.Size([3, 1, 12, 12])
    """

    config: VaeGanConfig

    def __init__(self, config: VaeGanConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        super().__init__(config, image_spec, conditions)
        self.encoder = Encoder(image_spec.channels, image_spec.shape, config.channels, 2 * config.latent_dim, blocks=config.encoder_blocks)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(latent_dim,)."""
        return (self.config.latent_dim,)

    def phases(self) -> Sequence[Phase]:
        """Discriminator, encoder, generator."""
        discriminator, generator = self._players(self._discriminator_loss, self._generator_loss)
        optimizer = optimizer_of(self.config, self.config.encoder_lr)
        encoder = Phase("encoder", list(self.encoder.parameters()), self._encoder_loss, validate=False, optimizer=optimizer)
        return [discriminator, encoder, generator]

    def _sample(self, n: int, condition: Condition, noise: Noise) -> Tensor:
        return one_hot(self._drawn(condition, noise, self.config.temperature), self.image_spec)

    def _encode(self, x: Tensor, condition: Condition) -> Distribution:
        mean, log_var = self._posterior(x)
        return Independent(Normal(mean, torch.exp(0.5 * log_var), validate_args=False), 1, validate_args=False)

    def _decode(self, z: Tensor, condition: Condition) -> Tensor:
        return self._generated(z, condition)

    def _posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_var = self.encoder(self.units.to_net(x)).chunk(2, 1)
        return mean, 14.0 * torch.tanh(log_var / 14.0)

    def _latent(self, x: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """z ~ q(z|x) [B, latent_dim], and the KL of q in nats, [B]."""
        mean, log_var = self._posterior(x)
        z = mean + torch.exp(0.5 * log_var) * noise.normal(*self.latent_shape, stream=_EPS, dtype=mean.dtype)
        return z, 0.5 * (mean.square() + log_var.exp() - 1.0 - log_var).sum(1)

    def _distance(self, on_real: Judgement, on_fake: Judgement) -> Tensor:
        """L_feat / F, the mean over the batch."""
        layer = self.config.feature_layer
        return 0.5 * (on_real.features[layer].detach() - on_fake.features[layer]).square().mean()

    def _say(self, x: Tensor) -> Judgement:
        return self._judge(x, Condition())

    def _discriminator_loss(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        with torch.no_grad():
            z, _ = self._latent(batch.x, step.noise)
            fakes = (self._generated(z, Condition()), self._drawn(Condition(), step.noise))
        return _mean([self.game.discriminator(self._say, batch.x, fake, step) for fake in fakes])

    def _encoder_loss(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        z, kl = self._latent(batch.x, step.noise)
        with torch.no_grad():
            on_real = self._say(batch.x)
        feature = self._distance(on_real, self._say(self._generated(z, Condition())))
        size = on_real.features[self.config.feature_layer][0].numel()
        loss = feature + self.config.kl_weight * kl.mean() / size
        return {"loss": loss, "features": feature.detach(), "kl": kl.detach().mean()}

    def _generator_loss(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        with torch.no_grad():
            z = self._latent(batch.x, step.noise)[0]

        def features(on_real: Judgement, on_fake: Judgement) -> Mapping[str, Tensor]:
            return {"features": 2.0 * self.config.gamma * self._distance(on_real, on_fake)}  # halved below, with the rest

        again, drawn = self._generated(z, Condition()), self._drawn(Condition(), step.noise)
        of_again = self.game.generator(self._say, again, step, batch.x, also=features)
        of_drawn = self.game.generator(self._say, drawn, step, batch.x)
        loss = 0.5 * (of_again["loss"] + of_drawn["loss"])
        return {"loss": loss, "features": 0.5 * of_again["features"], "diversity": diversity(drawn, batch.x)}


def _mean(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}
