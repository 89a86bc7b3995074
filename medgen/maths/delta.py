"""The distribution of a deterministic code."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

__all__ = ["Delta"]


class Delta(Distribution):
    """All mass at `value` [B, *event]: what a plain autoencoder's encoder returns.

    >>> Delta(torch.zeros(2, 3)).rsample().shape
    torch.Size([2, 3])
    """

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, value: Tensor) -> None:
        self.value = value
        super().__init__(batch_shape=value.shape[:1], event_shape=value.shape[1:], validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The value."""
        return self.value

    @property
    def variance(self) -> Tensor:
        """Zero."""
        return torch.zeros_like(self.value)

    @property
    def support(self) -> Any:
        """The reals."""
        return constraints.real

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """The value, repeated over `sample_shape`."""
        return self.value.expand(*sample_shape, *self.value.shape)
