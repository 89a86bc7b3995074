"""Gaussians against torch.distributions and numerical integrals."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from medgen.maths import Delta, kl_diagonal, kl_standard, log_normal, log_standard_normal

reals, log_variances = st.floats(-5, 5), st.floats(-6, 6)


def t(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def normal(mean: float, log_var: float) -> Normal:
    return Normal(t(mean), t(log_var).div(2).exp())


@given(reals, reals, log_variances)
def test_log_density(x, mean, log_var):
    torch.testing.assert_close(log_normal(t(x), t(mean), t(log_var)), normal(mean, log_var).log_prob(t(x)))
    torch.testing.assert_close(log_standard_normal(t(x)), log_normal(t(x), t(0.0), t(0.0)))


@given(reals, log_variances, reals, log_variances)
def test_kl(mean, log_var, prior_mean, prior_log_var):
    q, p = normal(mean, log_var), normal(prior_mean, prior_log_var)
    found = kl_diagonal(t(mean), t(log_var), t(prior_mean), t(prior_log_var))
    torch.testing.assert_close(found, kl_divergence(q, p), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(kl_diagonal(t(mean), t(log_var), t(0.0), t(0.0)), kl_standard(t(mean), t(log_var)))
    assert found >= 0


def test_densities_integrate_to_one():
    x = torch.linspace(-12, 16, 20001, dtype=torch.float64)
    assert torch.trapezoid(log_normal(x, t(2.0), t(1.2)).exp(), x).item() == pytest.approx(1.0, abs=1e-9)


def test_the_kl_of_a_nearly_collapsed_posterior_is_exact_in_float32():
    """v = 1e-5: (e^v - 1 - v) / 2 = v^2 / 4 = 2.5e-11, which 1 - 1 would lose in float32."""
    v = torch.tensor(1e-4)
    assert kl_standard(torch.zeros(()), v).item() == pytest.approx(1e-8 / 4, rel=0.02)


def test_delta_is_a_distribution_without_spread():
    value = torch.arange(6.0).view(2, 3)
    d = Delta(value)
    assert (d.batch_shape, d.event_shape) == ((2,), (3,))
    assert torch.equal(d.mean, value)
    assert torch.equal(d.variance, torch.zeros(2, 3))
    assert torch.equal(d.rsample((4,)), value.expand(4, 2, 3))
    assert math.isclose(d.sample().sum().item(), 15.0)
