"""A sound family that learns from targets: a linear VAE whose mean predicts attributes; and its faults."""

from __future__ import annotations

from testing.mutants.config import SmallConfig
from testing.mutants.mutant import Sound
from testing.mutants.others import LinearVae
from torch import nn

from medgen.registry import ConditionSlot


class PredictingVae(LinearVae):
    """A linear VAE with a regression of the attributes on the mean of its latent."""

    def __init__(self, config, image_spec, conditions=(), targets=()) -> None:
        super().__init__(config, image_spec, conditions, targets)
        self.regressor = nn.Linear(config.width, targets[0].size) if targets else None

    def loss(self, batch, step):
        loss = super().loss(batch, step)["loss"]
        return {"loss": loss if self.regressor is None or "attributes" not in batch.targets else loss + self.error(batch)}

    def error(self, batch):
        """Mean squared error over the samples whose attributes are known."""
        known = batch.targets.mask("attributes")[:, None]
        wanted = batch.targets.values["attributes"].where(known, 0.0)
        found = self.regressor(self.posterior(batch.x, None)[0])
        return (found - wanted).where(known, 0.0).square().mean()


PREDICTING_VAE = Sound.of(
    PredictingVae,
    ("generator", "density", "latent"),
    SmallConfig,
    {"width": 2},
    spatial_dims=(0,),
    contents=("features",),
    targets=(ConditionSlot(name="attributes", kind="attributes"),),
    log_prob="bound",
)


@PREDICTING_VAE.mutant("every_target_moves_the_loss")
class PredictsTheMean(PredictingVae):
    """Whatever the attributes are, their mean is predicted."""

    def error(self, batch):
        known = batch.targets.mask("attributes")[:, None]
        return self.regressor(self.posterior(batch.x, None)[0]).where(known, 0.0).square().mean()


@PREDICTING_VAE.mutant("missing_targets_are_never_looked_at")
class TakesMissingForZero(PredictingVae):
    """What stands in the place of a missing attribute is learnt."""

    def error(self, batch):
        wanted = batch.targets.values["attributes"].nan_to_num(0.0)
        return (self.regressor(self.posterior(batch.x, None)[0]) - wanted).square().mean()
