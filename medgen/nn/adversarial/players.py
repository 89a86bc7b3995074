"""The game: what the two players are told, their phases, and the alarm when the game is lost."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from medgen.errors import CollapseWarning
from medgen.interfaces import Batch, Phase, Step
from medgen.nn.adversarial.discriminator import Judgement
from medgen.nn.adversarial.losses import AdversarialLoss, NonSaturating
from medgen.nn.adversarial.regularisers import SpectralNorm, clip_weights, gradient_penalty, r1_penalty, update_spectral_norms
from medgen.nn.adversarial.remedies import FeatureDistance, InstanceNoise, feature_matching

__all__ = ["CollapseAlarm", "Game", "players"]

Judge = Callable[[Tensor], Judgement]
"""A discriminator whose condition is given already: x [B, C, *S] -> `Judgement`."""

Further = Callable[[Judgement, Judgement], Mapping[str, Tensor]]
"""Judgements of data and of generated samples -> further terms of a loss, by name."""

_MIX, _REAL, _FAKE = 8, 9, 10  # noise streams of a game; families draw their own from 0 to 7


@dataclass(frozen=True)
class Game:
    """What both players minimise, with every remedy that acts on the losses.

    Args:
        loss: the adversarial loss.
        adversarial: its weight in the generator's loss.
        penalty: lambda of the gradient penalty in the discriminator's loss.
        r1: gamma of R1 in the discriminator's loss.
        noise: instance noise on what the discriminator sees.
        matching: weight of feature matching in the generator's loss.
        distance: of feature matching.
    """

    loss: AdversarialLoss = field(default_factory=NonSaturating)
    adversarial: float = 1.0
    penalty: float = 0.0
    r1: float = 0.0
    noise: InstanceNoise | None = None
    matching: float = 0.0
    distance: FeatureDistance = "squared"

    def discriminator(self, judge: Judge, real: Tensor, fake: Tensor, step: Step, *, also: Further | None = None) -> dict[str, Tensor]:
        """L_D + lambda GP + gamma R1 as "loss", and what is worth a look: mean scores, accuracy, or the critic's estimate of the distance.

        Args:
            judge: the discriminator.
            real, fake: [B, C, *S]; `fake` is taken as it is, without gradients.
            step: where the training is; instance noise and the mixing of the penalty come from its noise.
            also: further terms, added to the loss and logged.
        """
        fake = fake.detach()
        real, fake = self.seen(real, step, _REAL), self.seen(fake, step, _FAKE)
        on_real, on_fake = judge(real), judge(fake)
        losses = [self.loss.discriminator(r, f) for r, f in zip(on_real.logits, on_fake.logits, strict=True)]
        total = torch.stack(losses).mean()
        said = {"real": on_real.score.detach().mean(), "fake": on_fake.score.detach().mean()}
        if self.loss.boundary is None:
            said["distance"] = said["real"] - said["fake"]
        else:
            said["accuracy"] = _accuracy(on_real, on_fake, self.loss.boundary)
        if self.penalty:
            said["penalty"] = gradient_penalty(lambda x: judge(x).score, real, fake, step.noise.uniform(stream=_MIX))
            total = total + self.penalty * said["penalty"]
        if self.r1:
            said["r1"] = r1_penalty(lambda x: judge(x).score, real)
            total = total + self.r1 * said["r1"]
        if also is not None:
            further = dict(also(on_real, on_fake))
            total = total + torch.stack(list(further.values())).sum()
            said |= further
        return {"loss": total, **{name: value.detach() for name, value in said.items()}}

    def generator(
        self, judge: Judge, fake: Tensor, step: Step, real: Tensor | None = None, *, also: Further | None = None
    ) -> dict[str, Tensor]:
        """adversarial L_G + matching L_FM as "loss".

        Args:
            judge: the discriminator.
            fake: [B, C, *S], with gradients.
            step: where the training is.
            real: data, for feature matching and for `also`, which are judged without gradients.
            also: further terms, added to the loss and logged.

        Raises:
            ValueError: feature matching or further terms without data.
        """
        on_fake = judge(self.seen(fake, step, _FAKE))
        total = self.adversarial * torch.stack([self.loss.generator(logits) for logits in on_fake.logits]).mean()
        terms: dict[str, Tensor] = {}
        if self.matching or also is not None:
            if real is None:
                raise ValueError("feature matching and further terms need `real`; got None.")
            with torch.no_grad():
                on_real = judge(self.seen(real, step, _REAL))
            if self.matching:
                terms["matching"] = feature_matching(on_real.features, on_fake.features, self.distance)
                total = total + self.matching * terms["matching"]
            if also is not None:
                further = dict(also(on_real, on_fake))
                total = total + torch.stack(list(further.values())).sum()
                terms |= further
        return {"loss": total, **{name: value.detach() for name, value in terms.items()}}

    def seen(self, x: Tensor, step: Step, stream: int) -> Tensor:
        """What the discriminator sees of x: x with instance noise."""
        return x if self.noise is None else self.noise.add(x, step.fraction, step.noise, stream)


def _accuracy(real: Judgement, fake: Judgement, boundary: float) -> Tensor:
    """Share of samples on the right side; at the boundary itself is half right."""
    right = [_above(real.score - boundary), _above(boundary - fake.score)]
    return torch.cat(right).mean()


def _above(x: Tensor) -> Tensor:
    return 0.5 * (1.0 + x.detach().sign())


def players(
    *,
    discriminator: nn.Module | Sequence[nn.Module],
    generator: nn.Module | Sequence[nn.Module],
    discriminator_loss: Callable[[Batch, Step], Mapping[str, Tensor]],
    generator_loss: Callable[[Batch, Step], Mapping[str, Tensor]],
    steps: int = 1,
    clip: float = 0.0,
    discriminator_optimizer: Mapping[str, Any] | None = None,
    generator_optimizer: Mapping[str, Any] | None = None,
    alarm: CollapseAlarm | None = None,
    prefix: str = "",
    span: tuple[float, float] = (0.0, 1.0),
) -> list[Phase]:
    """Algorithm 1: k updates of the discriminator, then one of the generator, each on a fresh batch.

    The loop freezes the other player. No phase is validated: the losses of a game do not say how good the samples are.
    Paper: Generative Adversarial Nets (Goodfellow et al., 2014) | https://arxiv.org/abs/1406.2661

    Args:
        discriminator, generator: the players' modules; no parameter may belong to both.
        discriminator_loss, generator_loss: of a batch, see `Game`.
        steps: k.
        clip: bound on the discriminator's weights after each update; 0 for none.
        discriminator_optimizer, generator_optimizer: see `Phase.optimizer`.
        alarm: hears what both log.
        prefix: of the phases' names, where a training has more than one game.
        span: the part of the training in which they play, see `Phase.span`.
    """
    judges, makers = _modules(discriminator), _modules(generator)
    weights = [p for module in judges for p in module.parameters()]

    def after() -> None:
        if clip:
            clip_weights(weights, clip)
        for module in judges:
            update_spectral_norms(module)

    def follow() -> None:
        for module in makers:
            update_spectral_norms(module)

    watch = alarm.watch if alarm is not None else None
    return [
        Phase(
            f"{prefix}discriminator",
            weights,
            discriminator_loss,
            repeat=steps,
            span=span,
            validate=False,
            optimizer=discriminator_optimizer or {},
            after=after,
            watch=watch,
        ),
        Phase(
            f"{prefix}generator",
            [p for module in makers for p in module.parameters()],
            generator_loss,
            span=span,
            validate=False,
            optimizer=generator_optimizer or {},
            after=follow if any(isinstance(layer, SpectralNorm) for module in makers for layer in module.modules()) else None,
            watch=watch,
        ),
    ]


def _modules(given: nn.Module | Sequence[nn.Module]) -> list[nn.Module]:
    return [given] if isinstance(given, nn.Module) else list(given)


class CollapseAlarm:
    """Warns, once per cause, when a game looks lost, and stops the training where asked.

    Two causes: the discriminator's "accuracy" stays at 1, so that the generator learns little; the generator's "diversity" (see
    `diversity`) stays below a share of the data's. Both are judged from the logged values, the same on every rank.

    Args:
        diversity: share of the data's spread below which samples count as collapsed.
        accuracy: from which the discriminator counts as always right.
        patience: logged values in a row.
        grace: steps before which nothing counts: generators start out uniform.
        stop: whether the training ends then.
    """

    def __init__(self, *, diversity: float = 0.2, accuracy: float = 0.999, patience: int = 5, grace: int = 200, stop: bool = False) -> None:
        self.diversity, self.accuracy, self.patience, self.grace, self.stop = diversity, accuracy, patience, grace, stop
        self._streak = {"accuracy": 0, "diversity": 0}
        self._told: set[str] = set()

    def watch(self, step: int, values: Mapping[str, float]) -> bool:
        """`Phase.watch`: true where the training is to stop."""
        lost = False
        for name, bad in (
            ("accuracy", values.get("accuracy", 0.0) >= self.accuracy),
            ("diversity", values.get("diversity", math.inf) < self.diversity),
        ):
            if name not in values or step < self.grace:
                continue
            self._streak[name] = self._streak[name] + 1 if bad else 0
            if self._streak[name] < self.patience:
                continue
            lost = True
            if name not in self._told:
                self._told.add(name)
                warnings.warn(self._sentence(name, step, values[name]), CollapseWarning, stacklevel=2)
        return lost and self.stop

    def _sentence(self, name: str, step: int, value: float) -> str:
        end = "training stops here" if self.stop else "training goes on"
        row = f"for {self.patience} logged steps"
        if name == "accuracy":
            return (
                f"collapse at step {step}: the discriminator has been right about {value:.1%} of the samples {row}, so the generator "
                f"learns little; {end}. Weaken it: instance noise, label smoothing, R1, a lower rate, or the family wgan_gp."
            )
        return (
            f"collapse at step {step}: generated batches have {value:.2f} of the data's diversity, below {self.diversity:g} {row}; {end}. "
            "Try minibatch discrimination, feature matching, R1, or the family wgan_gp."
        )
