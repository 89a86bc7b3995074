"""Faults of training."""

from __future__ import annotations

import random

import torch
from testing.mutants.flow import GAUSSIAN, Gaussian
from testing.mutants.others import LINEAR_TRANSLATOR, LINEAR_VAE, LinearTranslator, LinearVae

from medgen.interfaces import Phase


@LINEAR_VAE.mutant("phases_share_out_the_parameters")
class TrainsTheDecoderOnly(LinearVae):
    """Parameters that no phase owns."""

    def phases(self):
        return [Phase("elbo", list(self.decoder.parameters()), self.loss)]


@GAUSSIAN.mutant("phases_share_out_the_parameters")
class TwoPlayersWithTheSameParameters(Gaussian):
    """Two optimizers pull at the same weights."""

    def phases(self):
        return [Phase(name, list(self.parameters()), self.loss) for name in ("first", "second")]


@GAUSSIAN.mutant("phases_share_out_the_parameters")
class StopsHalfWay(Gaussian):
    """The second half of the training does nothing."""

    def phases(self):
        return [Phase("first", list(self.parameters()), self.loss, span=(0.0, 0.5))]


@GAUSSIAN.mutant("losses_are_finite_and_repeatable")
class RollsDiceInItsLoss(Gaussian):
    """The loss depends on Python's random state, which no seed of the training reaches."""

    def loss(self, batch, step):
        return {"loss": super().loss(batch, step)["loss"] * (1 + 0.1 * random.random())}


@GAUSSIAN.mutant("losses_are_finite_and_repeatable")
class LogsAVector(Gaussian):
    """One of the logged numbers is a vector."""

    def loss(self, batch, step):
        return {**super().loss(batch, step), "nats": torch.zeros(len(batch))}


@LINEAR_VAE.mutant("gradient_reaches_every_parameter")
class NeverHidesItsCondition(LinearVae):
    """Works without a condition, and was never trained to."""

    def loss(self, batch, step):
        return {"loss": -self._log_prob(batch.x, batch.condition, step.noise, 1).mean()}


@GAUSSIAN.mutant("a_few_steps_stay_finite")
class StartsAtASingularity(Gaussian):
    """A penalty whose gradient is infinite at the initial weights."""

    def loss(self, batch, step):
        return {"loss": super().loss(batch, step)["loss"] + 1e-3 * self.transform.base.square().sum().sqrt()}


@LINEAR_TRANSLATOR.mutant("a_few_steps_stay_finite")
class UndoesItsSteps(LinearTranslator):
    """What runs after each update puts the weights back."""

    def __init__(self, config, image_spec, conditions=()):
        super().__init__(config, image_spec, conditions)
        self.first = {name: value.clone() for name, value in self.state_dict().items()}

    def phases(self):
        return [Phase("likelihood", list(self.parameters()), self.loss, after=lambda: self.load_state_dict(self.first))]
