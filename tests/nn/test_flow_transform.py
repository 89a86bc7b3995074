"""Composition of invertible maps."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from medgen.nn.flow import Chain, Flip, Inverted, Transform, log_det_dtype


class Scale(Transform):
    """z = k x, times the context where there is one."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def _factors(self, x: Tensor, context: Tensor | None) -> Tensor:
        return self.factor * (torch.ones(len(x), 1, dtype=x.dtype) if context is None else context)

    def forward(self, x, context=None):
        k = self._factors(x, context)
        return x * k, x.shape[1] * k[:, 0].log().to(log_det_dtype(x.dtype))

    def inverse(self, z, context=None):
        k = self._factors(z, context)
        return z / k, -z.shape[1] * k[:, 0].log().to(log_det_dtype(z.dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_chain_adds_log_determinants_in_float32_or_better(dtype):
    x, context = torch.randn(3, 2).to(dtype), torch.tensor([[1.0], [2.0], [4.0]], dtype=dtype)
    chain = Chain([Scale(2.0), Flip(), Scale(3.0)])
    z, log_det = chain(x, context)
    torch.testing.assert_close(z, (x * 6 * context**2).flip(1))
    assert log_det.dtype == log_det_dtype(dtype)
    torch.testing.assert_close(log_det.double(), 2 * (math.log(6) + 2 * context[:, 0].double().log()), atol=1e-2, rtol=1e-2)
    back, minus = chain.inverse(z, context)
    torch.testing.assert_close(back, x, atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(minus, -log_det)


def test_inverted_swaps_the_directions():
    x = torch.randn(4, 3)
    inverted = Inverted(Scale(5.0))
    torch.testing.assert_close(inverted(x)[0], x / 5)
    torch.testing.assert_close(inverted.inverse(x)[0], x * 5)
    torch.testing.assert_close(inverted(x)[1], torch.full((4,), -3 * math.log(5)))
