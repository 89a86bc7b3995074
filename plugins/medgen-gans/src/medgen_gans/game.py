"""A configured game: what the players minimise, and their phases. For every adversarial family, translators too."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from medgen.interfaces import Batch, Phase, Step
from medgen.nn.adversarial import CollapseAlarm, Game, InstanceNoise, adversarial_loss, players
from medgen_gans.config import GameConfig

__all__ = ["Loss", "make_game", "optimizer_of", "players_of"]

Loss = Callable[[Batch, Step], Mapping[str, Tensor]]


def make_game(config: GameConfig) -> Game:
    """The game of a configuration."""
    return Game(
        loss=adversarial_loss(config.loss, target=config.smoothing),
        adversarial=config.adversarial,
        penalty=config.gradient_penalty,
        r1=config.r1,
        noise=InstanceNoise(config.instance_noise, config.noise_until) if config.instance_noise else None,
        matching=config.feature_matching,
        distance=config.feature_distance,
    )


def optimizer_of(config: GameConfig, lr: float) -> dict[str, Any]:
    """Adam with a player's own rate."""
    return {"lr": lr, "betas": config.adam_betas}


def players_of(
    config: GameConfig,
    *,
    discriminator: nn.Module | Sequence[nn.Module],
    generator: nn.Module | Sequence[nn.Module],
    discriminator_loss: Loss,
    generator_loss: Loss,
    prefix: str = "",
    span: tuple[float, float] = (0.0, 1.0),
) -> list[Phase]:
    """Discriminator, then generator, with the rates, the clipping and the alarm of a configuration.

    Args:
        config: of the game.
        discriminator, generator, discriminator_loss, generator_loss, prefix, span: those of `medgen.nn.adversarial.players`.
    """
    return players(
        discriminator=discriminator,
        generator=generator,
        discriminator_loss=discriminator_loss,
        generator_loss=generator_loss,
        steps=config.discriminator_steps,
        clip=config.clip_weights,
        discriminator_optimizer=optimizer_of(config, config.discriminator_lr),
        generator_optimizer=optimizer_of(config, config.generator_lr),
        alarm=CollapseAlarm(diversity=config.collapse_diversity, stop=config.on_collapse == "stop"),
        prefix=prefix,
        span=span,
    )
