"""`FollowsAttributes`: a latent space in which single values stand for attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol, runtime_checkable

__all__ = ["FollowsAttributes"]


@runtime_checkable
class FollowsAttributes(Protocol):
    """What a `LatentModel` trained on attributes may have beside its interfaces: which latent value orders the samples by which of them.

    The report then shows those values first, by the names of their attributes, and metrics of kind "latent" look at these attributes.
    """

    @property
    def attribute_dimensions(self) -> Mapping[str, int]:
        """Attribute -> its place in the flattened latent."""
