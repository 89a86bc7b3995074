"""`ae`: the plain autoencoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor
from torch.distributions import Distribution

from medgen.interfaces import Batch, Condition, LatentModel, Phase, Step
from medgen.maths import Delta
from medgen.nn import Decoder, Encoder
from medgen.registry import ConditionSpec, ImageSpec
from medgen_autoencoders.config import AeConfig

__all__ = ["Ae"]


class Ae(LatentModel):
    """Minimises the mean over values of (x - decode(encode(x)))^2.

    >>> import medgen
    >>> model = medgen.create("ae", medgen.ImageSpec(channels=1, shape=(12, 12)), latent_dim=2, channels=[8, 8])
    >>> model.latent_shape
    (2,)
    """

    config: AeConfig

    def __init__(self, config: AeConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        super().__init__(config, image_spec, conditions)
        self.encoder = Encoder(image_spec.channels, image_spec.shape, config.channels, config.latent_dim, blocks=config.blocks)
        self.decoder = Decoder(config.latent_dim, image_spec.channels, image_spec.shape, config.channels, blocks=config.blocks)

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(latent_dim,)."""
        return (self.config.latent_dim,)

    def _encode(self, x: Tensor, condition: Condition) -> Distribution:
        return Delta(self.encoder(x))

    def _decode(self, z: Tensor, condition: Condition) -> Tensor:
        return self.decoder(z)

    def phases(self) -> Sequence[Phase]:
        """One player."""
        return [Phase("reconstruction", list(self.parameters()), self._loss)]

    def _loss(self, batch: Batch, step: Step) -> Mapping[str, Tensor]:
        return {"loss": (self.decoder(self.encoder(batch.x)) - batch.x).square().mean()}
