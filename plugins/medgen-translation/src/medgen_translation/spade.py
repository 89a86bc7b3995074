"""`spade`: images from label maps, with styles.

Papers: Semantic Image Synthesis with Spatially-Adaptive Normalization (Park et al., 2019) | https://arxiv.org/abs/1903.07291
4D Semantic Cardiac Magnetic Resonance Image Synthesis on XCAT Anatomical Model (Abbasi-Sureshjani et al., 2020) |
https://arxiv.org/abs/2002.07089
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal

from medgen.errors import ConfigError, DataError
from medgen.interfaces import Batch, Condition, FollowsStyle, Noise, Phase, Step, Translator, evaluating
from medgen.nn import Units
from medgen.nn.adversarial import Judgement, diversity
from medgen.registry import ConditionSpec, ImageSpec
from medgen_gans.game import make_game, players_of
from medgen_translation.networks import required
from medgen_translation.paired_gan import judge
from medgen_translation.spade_config import SpadeConfig
from medgen_translation.spade_networks import SpadeGenerator, StyleEncoder

__all__ = ["Spade"]

_EPS = 3  # noise stream of q(z | x)


class Spade(Translator, FollowsStyle):
    """y' = G(m, z): label map m, style z ~ N(0, I); encoder q(z | y) = N(mu, sigma^2) of images y; discriminator D(m, y).

    L_G = adversarial + lambda_FM sum over layers of |f(m, y) - f(m, y')| + w KL[q(z | y) || N(0, I)] (+ lambda |y - y'|) with
    z ~ q(z | y); L_D is the hinge. Without noise z = 0; with noise z is drawn. Bounded targets leave through tanh.

    There is no perceptual loss, which would need the weights of a VGG.

    >>> import medgen
    >>> labels = medgen.ImageSpec(channels=3, shape=(12, 12), content="labels")
    >>> source = medgen.ConditionSpec(name="source", kind="image", image=labels)
    >>> options = {"width": 4, "multipliers": [1, 2], "hidden": 4, "style_dim": 4, "discriminator_channels": [4, 4]}
    >>> model = medgen.create("spade", medgen.ImageSpec(channels=1, shape=(12, 12)), [source], **options)
    >>> import torch
    >>> maps = torch.nn.functional.one_hot(torch.zeros(3, 12, 12, dtype=torch.int64), 3).movedim(-1, 1).float()
    >>> model.translate(maps).shape, model.swap(maps, torch.rand(3, 1, 12, 12)).shape
    (torch.Size([3, 1, 12, 12]), torch.Size([3, 1, 12, 12]))
    """

    required_conditions = ("source",)
    config: SpadeConfig

    def __init__(self, config: SpadeConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        super().__init__(config, image_spec, conditions)
        source = required(conditions, "source").image
        if source is None or source.shape != image_spec.shape:
            raise ConfigError(f"the source must lie on the grid {image_spec.shape} of the target; got {source}.")
        self.output_range = image_spec.bounds
        self.stochastic = config.style
        self.units = Units(image_spec)
        self.generator = SpadeGenerator(
            source.channels,
            image_spec.channels,
            image_spec.shape,
            config.channels,
            blocks=config.blocks,
            hidden=config.hidden,
            style_dim=config.style_dim if config.style else 0,
            spectral=config.generator_spectral_norm,
        )
        self.encoder = None
        if config.style:
            self.encoder = StyleEncoder(
                image_spec.channels, image_spec.shape, config.channels, config.style_dim, spectral=config.generator_spectral_norm
            )
        self.discriminator = judge(config, source.channels + image_spec.channels, image_spec.shape)
        # the game's distance is a mean over layers and scales; this one is summed over the layers of a scale
        game = make_game(config)
        self.game = replace(game, matching=game.matching * len(config.discriminator_channels))

    def phases(self) -> Sequence[Phase]:
        """Discriminator; generator and encoder."""
        return players_of(
            self.config,
            discriminator=self.discriminator,
            generator=[self.generator] if self.encoder is None else [self.generator, self.encoder],
            discriminator_loss=self._discriminator_loss,
            generator_loss=self._generator_loss,
        )

    def style(self, x: Tensor) -> Distribution:
        """q(z | x) of images [B, C, *S] in model units: independent normals with `mean` and `stddev`, [B, style_dim].

        Raises:
            DataError, ConfigError: images of another shape; a model without styles.
        """
        x = self._checked_x(x, self.image_spec)
        with evaluating(self):
            mean, log_variance = self._posterior(x)
        return Independent(Normal(mean, torch.exp(0.5 * log_variance), validate_args=False), 1, validate_args=False)

    def stylise(self, x: Tensor, z: Tensor, *, condition: Condition | None = None) -> Tensor:
        """Label maps [B, K, *S] with styles z, [B, style_dim] or one for all -> [B, C, *S] in model units.

        Raises:
            DataError, ConditionError, ConfigError: input that does not fit; a model without styles.
        """
        self._encoder()
        x = self._checked_x(x, self.source_spec)
        self._checked(Condition({**(condition or Condition()).values, "source": x}), len(x))
        size = self.config.style_dim
        if tuple(z.shape) not in ((size,), (len(x), size)):
            raise DataError(f"`z` must have shape [{size}] or [{len(x)}, {size}]; got {tuple(z.shape)}.")
        with evaluating(self):
            return self._out(self._generated(x, z.to(x).expand(len(x), size)))

    def swap(self, x: Tensor, like: Tensor) -> Tensor:
        """Label maps [B, K, *S] with the styles of other images [B, C, *S] (or one, [1, C, *S]): `stylise` by the means of `style`."""
        mean = self.style(like).mean
        return self.stylise(x, mean[0] if len(mean) == 1 else mean)

    def _encoder(self) -> StyleEncoder:
        if self.encoder is None:
            raise ConfigError("this model has no styles; train with `style`.")
        return self.encoder

    def _posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_variance = self._encoder()(self.units.to_net(x))
        return mean, log_variance

    def _generated(self, labels: Tensor, z: Tensor | None) -> Tensor:
        """In units of the network."""
        out = self.generator(labels, z)
        return out if self.units.bounds is None else torch.tanh(out)

    def _out(self, y: Tensor) -> Tensor:
        return self.units.bounded(self.units.to_model(y))

    def _translate(self, x: Tensor, condition: Condition, noise: Noise | None) -> Tensor:
        size = self.config.style_dim
        z = None
        if self.encoder is not None:
            z = x.new_zeros(len(x), size) if noise is None else noise.normal(size, dtype=x.dtype)
        return self._out(self._generated(x, z)).to(x.dtype)

    def _judge(self, labels: Tensor) -> Callable[[Tensor], Judgement]:
        return lambda y: self.discriminator(torch.cat((labels, y), 1))

    def _drawn(self, batch: Batch, step: Step) -> tuple[Tensor | None, Tensor | None]:
        """z ~ q(z | y) [B, style_dim] and the KL of q in nats, [B]."""
        if self.encoder is None:
            return None, None
        mean, log_variance = self._posterior(batch.x)
        z = mean + torch.exp(0.5 * log_variance) * step.noise.normal(self.config.style_dim, stream=_EPS, dtype=mean.dtype)
        return z, 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(1)

    def _discriminator_loss(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        labels = batch.condition.values["source"]
        with torch.no_grad():
            fake = self._generated(labels, self._drawn(batch, step)[0])
        return self.game.discriminator(self._judge(labels), self.units.to_net(batch.x), fake, step)

    def _generator_loss(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        labels, y = batch.condition.values["source"], self.units.to_net(batch.x)
        z, kl = self._drawn(batch, step)
        fake = self._generated(labels, z)
        values = self.game.generator(self._judge(labels), fake, step, y)
        error = (y - fake).abs().mean()
        values |= {"mae": error.detach(), "diversity": diversity(fake, y)}
        if self.config.distance_weight:
            values["loss"] = values["loss"] + self.config.distance_weight * error
        if kl is not None:
            values["loss"] = values["loss"] + self.config.kl_weight * kl.mean()
            values["kl"] = kl.detach().mean()
        return values
