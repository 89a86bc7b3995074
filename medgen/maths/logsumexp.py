"""ln(sum exp) as a monoid: tiles, chunks and ranks each hold a pair, and pairs merge in any fixed order."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["LogSum"]


class LogSum(NamedTuple):
    """max + ln(sum), element by element: `sum` counts in units of exp(max). (-inf, 0) is the empty sum.

    Paper: Online normalizer calculation for softmax (Milakov, Gimelshein, 2018) | https://arxiv.org/abs/1805.02867

    Args:
        max: [*].
        sum: [*], at least 0.

    >>> left, right = LogSum.of(torch.tensor([0.0, 1000.0])), LogSum.of(torch.tensor([1000.0]))
    >>> left.merge(right).value
    tensor(1000.6932)
    """

    max: Tensor
    sum: Tensor

    @classmethod
    def of(cls, values: Tensor, dim: int = -1) -> LogSum:
        """The log-sum of `values` along a dimension, which may be empty."""
        if values.shape[dim] == 0:
            zero = values.sum(dim)
            return cls(torch.full_like(zero, -torch.inf), zero)
        top = values.amax(dim)
        return cls(top, (values - _finite(top).unsqueeze(dim)).exp().sum(dim))

    def merge(self, other: LogSum) -> LogSum:
        """Both sums as one."""
        top = torch.maximum(self.max, other.max)
        base = _finite(top)
        return LogSum(top, self.sum * (self.max - base).exp() + other.sum * (other.max - base).exp())

    @property
    def value(self) -> Tensor:
        """max + ln(sum)."""
        return self.max + self.sum.log()


def _finite(top: Tensor) -> Tensor:
    """Something to subtract where nothing has been summed yet."""
    return torch.where(top == -torch.inf, torch.zeros_like(top), top)
