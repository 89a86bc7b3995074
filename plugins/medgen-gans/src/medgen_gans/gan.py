"""`gan`, `wgan_gp`, `cgan`: a generator and a discriminator, with or without conditions.

Papers: Generative Adversarial Nets (Goodfellow et al., 2014) | https://arxiv.org/abs/1406.2661
Improved Training of Wasserstein GANs (Gulrajani et al., 2017) | https://arxiv.org/abs/1704.00028
Conditional Generative Adversarial Nets (Mirza, Osindero, 2014) | https://arxiv.org/abs/1411.1784
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from medgen.interfaces import Batch, Condition, Generator, Noise, Phase, Step
from medgen.nn import ConditionEmbedding, Units
from medgen.nn.adversarial import Discriminator, Judgement, diversity
from medgen.registry import ConditionSpec, ImageSpec
from medgen_gans.config import CganConfig, GanConfig
from medgen_gans.game import Loss, make_game, players_of
from medgen_gans.network import GeneratorNet

__all__ = ["Adversarial", "Cgan", "Gan", "TwoPlayers", "label_of", "one_hot"]

_Z, _HIDE = 0, 2  # noise streams; a game draws from 8 on


class Adversarial(Generator):
    """x = G(z, c) with z ~ N(0, I), and a discriminator D(x, c) in training.

    Args:
        config, image_spec, conditions: as in `medgen.Model`.
        width: features of each condition's embedding.
        required: slots that the embeddings always get.
        judged: whether the discriminator sees the conditions.
        heads: further options of `Discriminator`.
    """

    config: GanConfig

    def __init__(
        self,
        config: GanConfig,
        image_spec: ImageSpec,
        conditions: Sequence[ConditionSpec],
        *,
        width: int = 1,
        required: Sequence[str] = (),
        judged: bool = True,
        heads: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(config, image_spec, conditions)
        self.output_range = image_spec.bounds
        self.units = Units(image_spec)
        self.game = make_game(config)
        self.embedding = ConditionEmbedding(conditions, width, required=required)
        self.generator = GeneratorNet(
            config.latent_dim + self.embedding.size,
            image_spec,
            config.channels,
            norm=config.generator_norm,
            reference=config.reference,
        )
        self.judged = ConditionEmbedding(conditions if judged else (), width, required=required)
        self.discriminator = Discriminator(
            image_spec.channels,
            image_spec.shape,
            config.judge_channels,
            embedding=self.judged.size,
            norm=config.discriminator_norm,
            spectral=config.spectral_norm,
            kernels=config.minibatch_kernels,
            bias=config.loss != "wasserstein",
            **(heads or {}),
        )

    def _players(self, discriminator_loss: Loss, generator_loss: Loss) -> list[Phase]:
        """Discriminator, then generator."""
        return players_of(
            self.config,
            discriminator=[self.discriminator, self.judged],
            generator=[self.generator, self.embedding],
            discriminator_loss=discriminator_loss,
            generator_loss=generator_loss,
        )

    def _drawn(self, condition: Condition, noise: Noise, temperature: float = 1.0) -> Tensor:
        """G(temperature z, c) [n, C, *S] for z ~ N(0, I) from `noise`, with gradients."""
        return self._generated(temperature * noise.normal(self.config.latent_dim, stream=_Z, dtype=self.dtype), condition)

    def _generated(self, z: Tensor, condition: Condition) -> Tensor:
        embedding = self.embedding(condition, len(z))
        return self.generator(z if embedding is None else torch.cat((z, embedding), 1))

    def _judge(self, x: Tensor, condition: Condition) -> Judgement:
        return self.discriminator(self.units.to_net(x), self.judged(condition, len(x)))


class TwoPlayers(Adversarial):
    """The game and nothing else."""

    @abstractmethod
    def _seen(self, condition: Condition, step: Step) -> Condition:
        """What of the condition this training step sees."""

    def phases(self) -> Sequence[Phase]:
        """Discriminator, then generator."""
        return self._players(self._discriminator_loss, self._generator_loss)

    def _sample(self, n: int, condition: Condition, noise: Noise) -> Tensor:
        return one_hot(self._drawn(condition, noise, self.config.temperature), self.image_spec)

    def _discriminator_loss(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        condition = self._seen(batch.condition, step)
        with torch.no_grad():
            fake = self._drawn(condition, step.noise)
        return self.game.discriminator(lambda x: self._judge(x, condition), batch.x, fake, step)

    def _generator_loss(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        condition = self._seen(batch.condition, step)
        fake = self._drawn(condition, step.noise)
        losses = self.game.generator(lambda x: self._judge(x, condition), fake, step, batch.x)
        return {**losses, "diversity": diversity(fake, batch.x, label_of(condition))}


class Gan(TwoPlayers):
    """Unconditional: `gan`, and with a critic `wgan_gp`.

    >>> import medgen
    >>> model = medgen.create("gan", medgen.ImageSpec(channels=1, shape=(12, 12)), latent_dim=4, channels=[8, 8])
    >>> model.sample(3, noise=0).shape
    torch.Size([3, 1, 12, 12])
    """

    def __init__(self, config: GanConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        super().__init__(config, image_spec, conditions)

    def _seen(self, condition: Condition, step: Step) -> Condition:
        return condition


class Cgan(TwoPlayers):
    """G(z, c) and D(x, c), for labels and attributes c: embedded beside z; in D by projection, for vectors beside x."""

    config: CganConfig

    def __init__(self, config: CganConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        required = () if config.condition_dropout else tuple(c.name for c in conditions)
        super().__init__(config, image_spec, conditions, width=config.condition_width, required=required)
        self.required_conditions = required

    def _seen(self, condition: Condition, step: Step) -> Condition:
        if self.config.condition_dropout == 0 or not self.training:
            return condition
        keep = step.noise.uniform(stream=_HIDE) >= self.config.condition_dropout
        return Condition(condition.values, {name: condition.mask(name) & keep for name in condition.values})


def label_of(condition: Condition) -> Tensor | None:
    """Class of each sample [B], -1 where it is missing; None without labels."""
    value = condition.values.get("label")
    return None if value is None else torch.where(condition.mask("label"), value, -1)


def one_hot(x: Tensor, spec: ImageSpec) -> Tensor:
    """Label maps as one class per position; all else as it is."""
    if spec.content != "labels":
        return x
    return F.one_hot(x.argmax(1), spec.channels).movedim(-1, 1).to(x.dtype)
