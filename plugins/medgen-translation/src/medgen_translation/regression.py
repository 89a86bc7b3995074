"""`regression`: the target predicted from the source, without an adversary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from medgen.interfaces import Batch, Condition, Noise, Phase, Step, Translator
from medgen.nn import Units
from medgen.registry import ConditionSpec, ImageSpec
from medgen_translation.config import RegressionConfig
from medgen_translation.losses import check_weighting, gradient_difference, relative_l1, weighted_mean
from medgen_translation.networks import SourceNet, required

__all__ = ["Regression"]

_LOG_VARIANCE = (-14.0, 6.0)  # of units in which data lie in [-1, 1]: standard deviations from 0.001 to 20


class Regression(Translator):
    """Minimises E |y - f(x)|, E (y - f(x))^2, or -E ln N(y; f(x), s(x)^2), and w times the gradient difference.

    >>> import medgen
    >>> t1 = medgen.ConditionSpec(name="source", kind="image", image=medgen.ImageSpec(channels=2, shape=(12, 12)))
    >>> model = medgen.create("regression", medgen.ImageSpec(channels=1, shape=(12, 12)), [t1], width=8, multipliers=[1, 2])
    >>> import torch
    >>> model.translate(torch.zeros(3, 2, 12, 12)).shape
    torch.Size([3, 1, 12, 12])
    """

    required_conditions = ("source",)
    config: RegressionConfig

    def __init__(self, config: RegressionConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        super().__init__(config, image_spec, conditions)
        check_weighting(config.weighting, conditions)
        self.output_range = image_spec.bounds
        self.stochastic = config.uncertainty
        self.units = Units(image_spec)
        self.network = SourceNet(config, image_spec, required(conditions, "source"), outputs=2 if config.uncertainty else 1)

    def phases(self) -> Sequence[Phase]:
        """One player."""
        return [Phase("regression", list(self.parameters()), self._loss)]

    def _loss(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        config, y = self.config, self.units.to_net(batch.x)
        mean, log_variance = self._predicted(batch.condition)
        error = (y - mean).abs()
        values = {"mae": error.mean().detach()}
        if config.loss == "relative_l1":
            model = self.units.to_model
            loss = relative_l1(model(y), model(mean), config.threshold) / self.units.scale
        else:
            each = error if config.loss == "l1" else error.square()
            if log_variance is not None:
                each = 0.5 * (each * (-log_variance).exp() + log_variance)
            loss = weighted_mean(each, batch.condition, config.weighting).mean()
        if config.gradient_weight:
            values["gradient_difference"] = gradient_difference(y, mean)
            loss = loss + config.gradient_weight * values["gradient_difference"]
        return {"loss": loss, **{name: value.detach() for name, value in values.items()}}

    def _predicted(self, condition: Condition) -> tuple[Tensor, Tensor | None]:
        """Mean and log-variance, in units of the network."""
        out = self.network(condition)
        if not self.config.uncertainty:
            return out, None
        mean, log_variance = out.chunk(2, 1)
        return mean, log_variance.clamp(*_LOG_VARIANCE)

    def _translate(self, x: Tensor, condition: Condition, noise: Noise | None) -> Tensor:
        mean, log_variance = self._predicted(condition)
        if noise is not None and log_variance is not None:
            mean = mean + (0.5 * log_variance).exp() * noise.normal(*self.image_spec.size, dtype=mean.dtype)
        return self.units.bounded(self.units.to_model(mean)).to(x.dtype)
