"""`PairedGan`: one generator with its discriminator, where every source has its true target. `judge` makes the discriminator."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from medgen.interfaces import Batch, Condition, Phase, Step
from medgen.nn import Units
from medgen.nn.adversarial import Discriminator, Judgement, MultiScaleDiscriminator, diversity
from medgen.registry import ConditionSpec, ImageSpec
from medgen_gans.game import make_game, players_of
from medgen_translation.config import JudgedConfig, PairedGanConfig
from medgen_translation.losses import gradient_difference, weighted_mean
from medgen_translation.networks import SourceNet

__all__ = ["PairedGan", "judge"]

Further = Callable[[Batch], Tensor]
"""Further images of a batch, in units of the network, without gradients."""


def judge(config: JudgedConfig, in_channels: int, shape: tuple[int, ...]) -> Discriminator | MultiScaleDiscriminator:
    """The discriminator of a configuration, of images [B, in_channels, *shape]."""
    options = {
        "kind": config.discriminator,
        "norm": config.discriminator_norm,
        "spectral": config.spectral_norm,
        "bias": config.loss != "wasserstein",
    }
    if config.scales > 1:
        return MultiScaleDiscriminator(config.scales, in_channels, shape, config.discriminator_channels, **options)
    return Discriminator(in_channels, shape, config.discriminator_channels, **options)  # type: ignore[arg-type]


class PairedGan(nn.Module):
    """y' = G(x, u) and D(x, u, y), or D(y): source x, further images u (such as an earlier estimate of y), target y.

    L_G = adversarial + lambda E |y - y'|^p + mu GDL(y, y'), the second over voxels or regions, GDL the gradient difference.
    Bounded targets leave through tanh.

    Args:
        config: of both players and their game.
        image_spec: of the target.
        source: the slot.
        further: channels of u.
    """

    def __init__(self, config: PairedGanConfig, image_spec: ImageSpec, source: ConditionSpec, *, further: int = 0) -> None:
        super().__init__()
        self.config, self.units, self.game = config, Units(image_spec), make_game(config)
        self.generator = SourceNet(config, image_spec, source, further=further)
        seen = self.generator.in_channels if config.judged == "pair" else 0
        self.discriminator = judge(config, seen + image_spec.channels, image_spec.shape)

    def forward(self, condition: Condition, further: Tensor | None = None) -> Tensor:
        """[B, C, *S] in units of the network."""
        out = self.generator(condition, further)
        return out if self.units.bounds is None else torch.tanh(out)

    def phases(self, prefix: str = "", further: Further | None = None, span: tuple[float, float] = (0.0, 1.0)) -> list[Phase]:
        """Discriminator, then generator.

        Args:
            prefix: of the phases' names.
            further: u of a batch, where there is any.
            span: the part of the training in which they learn.
        """

        def discriminate(batch: Batch, step: Step) -> Mapping[str, Tensor]:
            u = None if further is None else further(batch)
            with torch.no_grad():
                fake = self(batch.condition, u)
            return self.game.discriminator(self._judge(batch.condition, u), self.units.to_net(batch.x), fake, step)

        def generate(batch: Batch, step: Step) -> Mapping[str, Tensor]:
            u, y = None if further is None else further(batch), self.units.to_net(batch.x)
            fake = self(batch.condition, u)
            values = self.game.generator(self._judge(batch.condition, u), fake, step, y)
            error = (y - fake).abs()
            each = error if self.config.distance == "l1" else error.square()
            weighted = weighted_mean(each, batch.condition, self.config.weighting).mean()
            values["loss"] = values["loss"] + self.config.distance_weight * weighted
            values |= {"mae": error.detach().mean(), "diversity": diversity(fake, y)}
            if self.config.gradient_weight:
                difference = gradient_difference(y, fake)
                values["loss"] = values["loss"] + self.config.gradient_weight * difference
                values["gradient_difference"] = difference.detach()
            return values

        return players_of(
            self.config,
            discriminator=self.discriminator,
            generator=self.generator,
            discriminator_loss=discriminate,
            generator_loss=generate,
            prefix=prefix,
            span=span,
        )

    def _judge(self, condition: Condition, further: Tensor | None) -> Callable[[Tensor], Judgement]:
        if self.config.judged == "target":
            return self.discriminator
        seen = self.generator.seen(condition, further)
        return lambda y: self.discriminator(torch.cat((seen, y), 1))
