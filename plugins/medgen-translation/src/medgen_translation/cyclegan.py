"""`cyclegan`: translation learned from unrelated images of both sides.

Paper: Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks (Zhu et al., 2017) |
https://arxiv.org/abs/1703.10593
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from medgen.errors import ConfigError
from medgen.interfaces import Batch, Condition, Noise, Phase, Step, Translator, evaluating
from medgen.nn import Units
from medgen.nn.adversarial import ImagePool, diversity
from medgen.registry import ConditionSpec, ImageSpec
from medgen_gans.game import make_game, players_of
from medgen_translation.config import CycleGanConfig
from medgen_translation.networks import apply_net, make_net, required
from medgen_translation.paired_gan import judge

__all__ = ["CycleGan", "cycle_loss"]

_POOLS = 0  # noise streams, two of each pool


class Terms(NamedTuple):
    """What there and back costs the generators, and the translations on the way."""

    cycle: Tensor
    identity: Tensor | None
    to_target: Tensor
    to_source: Tensor


def cycle_loss(there: Callable[[Tensor], Tensor], back: Callable[[Tensor], Tensor], x: Tensor, y: Tensor, *, identity: bool) -> Terms:
    """E|F(G(x)) - x| + E|G(F(y)) - y|, and with `identity` E|G(y) - y| + E|F(x) - x|; every |.| is a mean over values.

    Args:
        there, back: G and F.
        x, y: sources [B, C, *S] and targets [B, C', *S]; row i of both need have nothing to do with each other.
        identity: whether the second sum is wanted.

    >>> x, y = torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[0.0, 8.0]]])
    >>> terms = cycle_loss(lambda x: 2 * x, lambda y: y - 1, x, y, identity=True)
    >>> terms.cycle.item(), terms.identity.item()  # means of |x - 1| and |y - 2|, of |y| and 1
    (5.0, 5.0)
    """
    to_target, to_source = there(x), back(y)
    cycle = (back(to_target) - x).abs().mean() + (there(to_source) - y).abs().mean()
    same = (there(y) - y).abs().mean() + (back(x) - x).abs().mean() if identity else None
    return Terms(cycle, same, to_target, to_source)


class CycleGan(Translator):
    """G: source -> target and F: target -> source, each against a discriminator of its own.

    L = w L_GAN(G, D_Y) + w L_GAN(F, D_X) + lambda (E|F(G(x)) - x|_1 + E|G(F(y)) - y|_1) + i lambda (E|G(y) - y|_1 + E|F(x) - x|_1).
    Bounded images leave through tanh. The discriminators see half of the translations from a pool of earlier ones.

    Raises:
        ConfigError: identity loss between sides of different channels, or another grid.

    >>> import medgen
    >>> t1 = medgen.ConditionSpec(name="source", kind="image", image=medgen.ImageSpec(channels=2, shape=(12, 12)))
    >>> options = {"width": 8, "multipliers": [1, 2], "discriminator_channels": [8, 8]}
    >>> model = medgen.create("cyclegan", medgen.ImageSpec(channels=1, shape=(12, 12)), [t1], **options)
    >>> x = torch.zeros(3, 2, 12, 12)
    >>> model.translate(x).shape, model.cycle(x).shape
    (torch.Size([3, 1, 12, 12]), torch.Size([3, 2, 12, 12]))
    """

    required_conditions = ("source",)
    config: CycleGanConfig

    def __init__(self, config: CycleGanConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        super().__init__(config, image_spec, conditions)
        source = required(conditions, "source").image
        if source is None or source.shape != image_spec.shape:
            raise ConfigError(f"the source must lie on the grid {image_spec.shape} of the target; got {source}.")
        if config.identity and source.channels != image_spec.channels:
            raise ConfigError(
                f"`identity` compares images of both sides and needs as many channels in the source as in the target; got "
                f"{source.channels} and {image_spec.channels}. Set it to 0."
            )
        self.output_range = image_spec.bounds
        self.source_units, self.target_units = Units(source), Units(image_spec)
        self.game = make_game(config)
        shape, a, b = image_spec.shape, source.channels, image_spec.channels
        self.there, self.back = make_net(config, a, b, shape), make_net(config, b, a, shape)
        self.judge_target, self.judge_source = judge(config, b, shape), judge(config, a, shape)
        self.target_pool, self.source_pool = ImagePool(config.pool, image_spec.size), ImagePool(config.pool, source.size)

    def phases(self) -> Sequence[Phase]:
        """Both discriminators, then both generators."""
        return players_of(
            self.config,
            discriminator=[self.judge_target, self.judge_source],
            generator=[self.there, self.back],
            discriminator_loss=self._discriminate,
            generator_loss=self._generate,
        )

    def translate_back(self, y: Tensor) -> Tensor:
        """F(y): targets [B, C', *S] in model units to sources [B, C, *S] in theirs."""
        y = self._checked_x(y, self.image_spec)
        with evaluating(self):
            return self._source(self._to_source(self.target_units.to_net(y))).to(y.dtype)

    def cycle(self, x: Tensor) -> Tensor:
        """F(G(x)) of sources [B, C, *S] in model units."""
        return self.translate_back(self.translate(x))

    def _translate(self, x: Tensor, condition: Condition, noise: Noise | None) -> Tensor:
        units = self.target_units
        return units.bounded(units.to_model(self._to_target(self.source_units.to_net(x)))).to(x.dtype)

    def _source(self, x: Tensor) -> Tensor:
        return self.source_units.bounded(self.source_units.to_model(x))

    def _to_target(self, x: Tensor) -> Tensor:
        """G in units of the network."""
        return _limited(self.there, x, self.target_units)

    def _to_source(self, y: Tensor) -> Tensor:
        """F in units of the network."""
        return _limited(self.back, y, self.source_units)

    def _sides(self, batch: Batch) -> tuple[Tensor, Tensor]:
        return self.source_units.to_net(batch.condition.values["source"]), self.target_units.to_net(batch.x)

    def _discriminate(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        x, y = self._sides(batch)
        with torch.no_grad():
            to_target, to_source = self._to_target(x), self._to_source(y)
        shown = (self.target_pool(to_target, step.noise, _POOLS), self.source_pool(to_source, step.noise, _POOLS + 2))
        target = self.game.discriminator(self.judge_target, y, shown[0], step)
        source = self.game.discriminator(self.judge_source, x, shown[1], step)
        values = _both(target, source)
        if "accuracy" in target:  # the alarm hears of the side where the game is lost first
            values["accuracy"] = torch.maximum(target["accuracy"], source["accuracy"])
        return values

    def _generate(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        x, y = self._sides(batch)
        terms = cycle_loss(self._to_target, self._to_source, x, y, identity=self.config.identity > 0)
        target = self.game.generator(self.judge_target, terms.to_target, step, y)
        source = self.game.generator(self.judge_source, terms.to_source, step, x)
        values = _both(target, source)
        total = values["loss"] + self.config.cycle_weight * terms.cycle
        values["cycle"] = terms.cycle.detach()
        if terms.identity is not None:
            total = total + self.config.identity * self.config.cycle_weight * terms.identity
            values["identity"] = terms.identity.detach()
        spread = torch.minimum(diversity(terms.to_target, y), diversity(terms.to_source, x))
        return {**values, "loss": total, "diversity": spread}


def _limited(net: nn.Module, x: Tensor, units: Units) -> Tensor:
    out = apply_net(net, x)
    return out if units.bounds is None else torch.tanh(out)


def _both(target: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The sum of both losses, and each side's figures by name."""
    named = {
        f"{name}_{side}": value for side, of in (("target", target), ("source", source)) for name, value in of.items() if name != "loss"
    }
    return {"loss": target["loss"] + source["loss"], **named}
