"""`ShapeVae`: what the VAEs of shapes share: p(z) = N(0, I), reconstruction by cross-entropy and soft Dice, and a term on the latent."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor

from medgen.errors import ConfigError
from medgen.interfaces import Batch, Condition, Step
from medgen.registry import ConditionSpec, suggestion
from medgen_anatomy.shape_config import ShapeVaeConfig
from medgen_autoencoders.posterior import Posterior
from medgen_autoencoders.vae import GaussianVae

__all__ = ["ShapeVae", "attribute_columns", "known_attributes", "soft_dice"]

_TARGET = "attributes"


class ShapeVae(GaussianVae):
    """Minimises reconstruction + beta KL + a term on the latent that the family adds.

    On label maps the reconstruction is w_ce (-ln p(x|z) / positions) + w_dice (1 - soft Dice), on other data -ln p(x|z) / values.
    `log_prob` stays the bound of the VAE.
    """

    config: ShapeVaeConfig

    def _prior(self, embedding: Tensor | None, n: int) -> tuple[Tensor, Tensor]:
        zero = torch.zeros((), device=self.device, dtype=self.dtype)
        return zero, zero

    @abstractmethod
    def _on_latent(self, posterior: Posterior, z: Tensor, targets: Condition) -> tuple[str, float, Tensor]:
        """Name, weight and value of the term on the latent of one training step."""

    def _loss(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        posterior, z, h, kl = self._pass(batch.x, None, step.noise)
        reconstruction = self._reconstruction(batch.x, h)
        name, weight, term = self._on_latent(posterior, z, batch.targets)
        loss = reconstruction + self.config.beta * self._cost(kl) + weight * term
        return {"loss": loss, "reconstruction": reconstruction.detach(), "kl": kl.detach(), name: term.detach()}

    def _reconstruction(self, x: Tensor, h: Tensor) -> Tensor:
        nats = -self.likelihood.log_prob(x, h).mean()
        if self.image_spec.content != "labels":
            return nats / self.image_spec.numel
        cross_entropy = nats / math.prod(self.image_spec.shape)
        overlap = soft_dice(self.likelihood.mean(h), x).mean()
        return self.config.cross_entropy_weight * cross_entropy + self.config.dice_weight * (1.0 - overlap)


def soft_dice(p: Tensor, x: Tensor) -> Tensor:
    """(2 sum p x + 1) / (sum p + sum x + 1) over positions, of each structure [B, K - 1]; class 0 is the background.

    Args:
        p: probabilities of the classes [B, K, *S].
        x: one-hot [B, K, *S]. Where K = 1 the only channel is a structure.

    >>> soft_dice(torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]), torch.tensor([[[1.0, 0.0], [0.0, 1.0]]]))
    tensor([[1.]])
    """
    p, x = (value[:, min(1, value.shape[1] - 1) :].flatten(2) for value in (p, x))
    return (2.0 * (p * x).sum(2) + 1.0) / (p.sum(2) + x.sum(2) + 1.0)


def attribute_columns(spec: ConditionSpec | None, wanted: tuple[str, ...], what: str) -> list[int]:
    """Where the named attributes stand in the training target; all of them where none is named.

    Raises:
        ConfigError: there is no such attribute.
    """
    names = () if spec is None else spec.names
    for name in wanted:
        if name not in names:
            raise ConfigError(
                f"{what} must name attributes of the data, which has {list(names) or 'none'}; got {name!r}{suggestion(name, names)}"
            )
    return [names.index(name) for name in wanted] if wanted else list(range(len(names)))


def known_attributes(targets: Condition) -> tuple[Tensor, Tensor] | None:
    """Standardised attributes [B, A] with 0 where they are missing, and which samples have them [B]; None where the slot is absent."""
    if _TARGET not in targets:
        return None
    known = targets.mask(_TARGET)
    return targets.values[_TARGET].where(known[:, None], 0.0), known
