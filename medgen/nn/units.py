"""Between model units and those of networks."""

from __future__ import annotations

from torch import Tensor

from medgen.registry import ImageSpec

__all__ = ["Units"]


class Units:
    """Between model units and those of a network: [-1, 1] where the data have bounds, else the same.

    Args:
        spec: of the data.

    >>> import torch
    >>> units = Units(ImageSpec(channels=1, shape=(2,)))
    >>> units.to_net(torch.tensor([0.0, 1.0])).tolist(), units.to_model(torch.tensor([-1.0, 3.0])).tolist()
    ([-1.0, 1.0], [0.0, 2.0])
    """

    def __init__(self, spec: ImageSpec) -> None:
        low, high = spec.bounds or (-1.0, 1.0)
        self.mean, self.scale, self.bounds = (low + high) / 2, (high - low) / 2, spec.bounds

    def to_net(self, x: Tensor) -> Tensor:
        """Model units to the network's."""
        return (x - self.mean) / self.scale

    def to_model(self, u: Tensor) -> Tensor:
        """The inverse, unbounded."""
        return self.mean + self.scale * u

    def bounded(self, x: Tensor) -> Tensor:
        """Model units, within their bounds."""
        return x if self.bounds is None else x.clamp(*self.bounds)
