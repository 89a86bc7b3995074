"""`FollowsStyle`: a translator whose translations differ by a latent that an image of the target can give."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor
from torch.distributions import Distribution

from medgen.interfaces.condition import Condition

__all__ = ["FollowsStyle"]


@runtime_checkable
class FollowsStyle(Protocol):
    """What a `Translator` may have beside its interface: the look of one image on the content of another.

    `medgen translate RUN INPUT OUT --style IMAGE` translates with the style of an image.
    """

    def style(self, x: Tensor) -> Distribution:
        """q(z | x) of target images x [B, C', *S] in model units: a distribution with `mean` and `rsample`, of z [B, Z]."""

    def stylise(self, x: Tensor, z: Tensor, *, condition: Condition | None = None) -> Tensor:
        """Translate x [B, C, *S] with the styles z [B, Z], or [Z] for all, into [B, C', *S]."""
