"""Bandwidths by rule: SciPy's factors and covariance, and what cannot have a bandwidth."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import gaussian_kde

from medgen.errors import ConfigError, DataError
from medgen.maths import bandwidth_scale, scott_factor, silverman_factor


def points(n, dim, seed=0):
    mixed = torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return mixed @ torch.linspace(0.3, 1.7, dim * dim, dtype=torch.float64).view(dim, dim).tril() + 3.0


@given(st.integers(2, 300), st.integers(1, 6), st.integers(0, 10))
def test_factors_and_covariance_are_scipys(n, dim, seed):
    x = points(n + dim, dim, seed)
    kde = gaussian_kde(x.numpy().T)
    assert scott_factor(n + dim, dim) == pytest.approx(kde.scotts_factor(), rel=1e-13)
    assert silverman_factor(n + dim, dim) == pytest.approx(kde.silverman_factor(), rel=1e-13)
    scale = bandwidth_scale(x, "full")
    np.testing.assert_allclose(kde.factor**2 * (scale @ scale.mT).numpy(), kde.covariance, rtol=1e-8, atol=1e-12)


def test_scales():
    x = points(500, 3)
    sd = x.std(0)
    torch.testing.assert_close(bandwidth_scale(x, "diagonal"), sd)
    torch.testing.assert_close(bandwidth_scale(x, "scalar"), sd.square().mean().sqrt())
    assert float(bandwidth_scale(x, "absolute")) == 1.0
    torch.testing.assert_close(bandwidth_scale(2 * x, "full"), 2 * bandwidth_scale(x, "full"))


@pytest.mark.parametrize(
    ("x", "kind", "said"),
    [
        (torch.zeros(5, 2), "diagonal", r"columns \[0, 1\] are constant"),
        (torch.zeros(5, 2), "scalar", "are constant"),
        (torch.arange(10.0).view(5, 2), "full", "is singular"),
        (torch.randn(3, 8), "full", "is singular"),
        (torch.randn(1, 2), "diagonal", "N of at least 2"),
    ],
)
def test_what_has_no_bandwidth(x, kind, said):
    with pytest.raises(DataError, match=said):
        bandwidth_scale(x, kind)


def test_wrong_arguments():
    with pytest.raises(ConfigError, match="positive number of points"):
        scott_factor(0, 1)
    with pytest.raises(ConfigError, match="the kind of a bandwidth"):
        bandwidth_scale(torch.randn(5, 2), "round")
