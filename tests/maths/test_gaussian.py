"""Gaussians against torch.distributions and numerical integrals."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from medgen.maths import Delta, kl_diagonal, kl_standard, log_discretised_normal, log_normal, log_standard_normal

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


class TestDiscretised:
    CENTRES = torch.linspace(-1, 1, 256, dtype=torch.float64)

    @given(reals, log_variances)
    def test_masses_sum_to_one(self, mean, log_var):
        masses = log_discretised_normal(self.CENTRES, t(mean), t(log_var)).exp()
        assert float(masses.sum()) == pytest.approx(1.0, abs=1e-9)

    @given(st.integers(0, 255), st.floats(-1, 1), st.floats(-6, 2))
    def test_is_the_difference_of_the_distribution_function(self, i, mean, log_var):
        x, q = self.CENTRES[i], normal(mean, log_var)
        low = q.cdf(x - 1 / 255) if i > 0 else t(0.0)
        high = q.cdf(x + 1 / 255) if i < 255 else t(1.0)
        mass = high - low
        found = log_discretised_normal(x, t(mean), t(log_var)).exp()
        torch.testing.assert_close(found, mass, rtol=1e-7, atol=1e-12)

    def test_far_tails(self):
        """Where the difference is 0 in float64: ln of a bin's mass 100 sd away, by the density at the nearer edge times sd / distance."""
        found = log_discretised_normal(t(0.0), t(1.0), t(2 * math.log(0.01)))
        edge = (1.0 - 1 / 255) / 0.01
        expected = -0.5 * edge**2 - 0.5 * math.log(2 * math.pi) - math.log(edge)
        assert float(found) == pytest.approx(expected, abs=1e-3)
        assert bool(log_discretised_normal(torch.linspace(-1, 1, 256), torch.tensor(0.9), torch.tensor(-14.0)).isfinite().all())

    def test_float32(self):
        wide = log_discretised_normal(self.CENTRES, t(0.2), t(-3.0))
        narrow = log_discretised_normal(self.CENTRES.float(), torch.tensor(0.2), torch.tensor(-3.0))
        torch.testing.assert_close(narrow.double(), wide, rtol=1e-3, atol=1e-3)

    def test_gradients(self):
        mean = torch.full((256,), 0.2, dtype=torch.float64, requires_grad=True)
        log_var = torch.full((256,), -4.0, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda m, v: log_discretised_normal(self.CENTRES, m, v), (mean, log_var))
