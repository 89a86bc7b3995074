"""`constrained_vae`: a VAE whose latent mean predicts one attribute by one neuron.

Paper: Cardiac Segmentation with Strong Anatomical Guarantees (Painchaud et al., 2020) | https://arxiv.org/abs/2006.08825
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medgen.errors import ConfigError, DataError
from medgen.interfaces import Condition
from medgen.registry import ConditionSpec, ImageSpec
from medgen_anatomy.shape_config import ConstrainedVaeConfig
from medgen_anatomy.shape_vae import ShapeVae, attribute_columns, known_attributes
from medgen_autoencoders.posterior import Posterior

__all__ = ["ConstrainedVae"]


class ConstrainedVae(ShapeVae):
    """Minimises the loss of a `ShapeVae` + linear_constraint_weight * mean (w . mu(x) + b - a)^2, a the standardised attribute.

    The regression makes the latent space locally linear in the attribute, so that points between two shapes are shapes too.
    """

    config: ConstrainedVaeConfig

    def __init__(
        self,
        config: ConstrainedVaeConfig,
        image_spec: ImageSpec,
        conditions: Sequence[ConditionSpec] = (),
        targets: Sequence[ConditionSpec] = (),
    ) -> None:
        super().__init__(config, image_spec, conditions, targets)
        self._spec = next(iter(self.targets), None)
        columns = attribute_columns(self._spec, (config.attribute,) if config.attribute else (), "`attribute`")
        if len(columns) != 1:
            names = [] if self._spec is None else list(self._spec.names)
            raise ConfigError(
                f"`attribute` must name the one attribute that is regressed; the data has {names or 'none (see --attributes)'}."
            )
        self._column = columns[0]
        self.regressor = nn.Linear(config.latent_dim, 1)

    def _on_latent(self, posterior: Posterior, z: Tensor, targets: Condition) -> tuple[str, float, Tensor]:
        return "regression", self.config.linear_constraint_weight, self._error(posterior.distribution().mean, targets)

    def _error(self, mean: Tensor, targets: Condition) -> Tensor:
        given = known_attributes(targets)
        if given is None:
            return 0.0 * mean.sum()
        values, known = given
        gap = (self.regressor(mean)[:, 0] - values[:, self._column]).where(known, 0.0)
        return gap.square().sum() / known.sum().clamp(min=1)

    def predict(self, z: Tensor) -> Tensor:
        """The attribute that the regression reads off latents z [B, latent_dim], in the units of the data, [B].

        Raises:
            DataError: z of another shape.
        """
        if z.dim() != 2 or tuple(z.shape[1:]) != self.latent_shape:
            raise DataError(f"`z` must have shape [B, {self.config.latent_dim}]; got {tuple(z.shape)}.")
        assert self._spec is not None
        mean, sd = (self._spec.mean or (0.0,) * self._spec.size), (self._spec.sd or (1.0,) * self._spec.size)
        with torch.no_grad():
            return mean[self._column] + sd[self._column] * self.regressor(z.to(self.device, self.dtype))[:, 0]
