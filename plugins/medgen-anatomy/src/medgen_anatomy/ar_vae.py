"""`ar_vae`: a VAE in which one latent value per attribute orders the samples as the attribute does.

Papers: Attribute-based Regularization of Latent Spaces for Variational Auto-Encoders (Pati, Lerch, 2021) | https://arxiv.org/abs/2004.05485
Echocardiography Segmentation with Enforced Temporal Consistency (Painchaud et al., 2022) | https://arxiv.org/abs/2112.02102
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from medgen.errors import ConfigError
from medgen.interfaces import Condition
from medgen.registry import ConditionSpec, ImageSpec
from medgen_anatomy.shape_config import ArVaeConfig
from medgen_anatomy.shape_vae import ShapeVae, attribute_columns, known_attributes
from medgen_autoencoders.posterior import Posterior

__all__ = ["ArVae", "attribute_loss"]


def attribute_loss(z: Tensor, a: Tensor, delta: float, known: Tensor | None = None) -> Tensor:
    """sum_l mean_ij |tanh(delta (z_il - z_jl)) - sgn(a_il - a_jl)|, over all pairs of a batch, each with itself too.

    Args:
        z: latent values [B, A].
        a: attributes [B, A].
        delta: slope.
        known: samples that count, bool [B].

    >>> one, two = torch.tensor([[0.0], [1.0]]), torch.tensor([[3.0], [7.0]])
    >>> attribute_loss(one, two, 1.0), attribute_loss(one, -two, 1.0)  # (1 -+ tanh 1) / 2
    (tensor(0.1192), tensor(0.8808))
    """
    gap = (torch.tanh(delta * (z[:, None] - z[None])) - torch.sign(a[:, None] - a[None])).abs().sum(2)
    if known is None:
        return gap.mean()
    pairs = known[:, None] & known[None]
    return gap.where(pairs, 0.0).sum() / pairs.sum().clamp(min=1)


class ArVae(ShapeVae):
    """Minimises the loss of a `ShapeVae` + gamma * `attribute_loss` of the sampled z.

    Attribute l of `attributes` is on latent value l, or `dimensions[l]`; it grows with it. Its units and scale do not matter.
    """

    config: ArVaeConfig

    def __init__(
        self,
        config: ArVaeConfig,
        image_spec: ImageSpec,
        conditions: Sequence[ConditionSpec] = (),
        targets: Sequence[ConditionSpec] = (),
    ) -> None:
        super().__init__(config, image_spec, conditions, targets)
        spec = next(iter(self.targets), None)
        self._columns = attribute_columns(spec, config.attributes, "`attributes`")
        names = [] if spec is None else [spec.names[column] for column in self._columns]
        dimensions = config.dimensions or tuple(range(len(names)))
        if len(dimensions) != len(names) or len(set(names)) != len(names):
            raise ConfigError(f"`dimensions` must hold one latent value for each of the different attributes {names}; got {dimensions}.")
        if len(set(dimensions)) != len(dimensions) or any(not 0 <= d < config.latent_dim for d in dimensions):
            raise ConfigError(
                f"the latent values of {names} must be different and below `latent_dim` = {config.latent_dim}; got {dimensions}. "
                "Raise `latent_dim`, or choose `attributes`."
            )
        self._dimensions = list(dimensions)
        self._names = names

    @property
    def attribute_dimensions(self) -> Mapping[str, int]:
        """Attribute -> its place in the latent."""
        return dict(zip(self._names, self._dimensions, strict=True))

    def _on_latent(self, posterior: Posterior, z: Tensor, targets: Condition) -> tuple[str, float, Tensor]:
        given = known_attributes(targets)
        if given is None:
            return "attributes", self.config.gamma, 0.0 * z.sum()
        values, known = given
        return "attributes", self.config.gamma, attribute_loss(z[:, self._dimensions], values[:, self._columns], self.config.delta, known)
