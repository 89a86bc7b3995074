"""Mixtures as invertible maps: against SciPy and numbers far in the tails, and the autoregressive transform made of them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from medgen.nn.flow import MixtureAutoregressive
from medgen.nn.flow.mixture import mixture_to_normal, normal_to_mixture


def mixture(seed, k, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    draw = lambda scale: scale * torch.randn(1, k, generator=g, dtype=dtype)  # noqa: E731
    return torch.log_softmax(draw(1.0), -1), draw(3.0), draw(0.7)


class TestOneDimension:
    @given(st.integers(0, 2**31), st.integers(1, 6))
    @settings(max_examples=40, deadline=None)
    def test_equals_scipy(self, seed, k):
        log_w, mean, log_sd = mixture(seed, k)
        x = torch.linspace(-6, 6, 41, dtype=torch.float64)
        z, log_p = mixture_to_normal(x, log_w, mean, log_sd)
        w, m, s = log_w.exp().numpy(), mean.numpy(), log_sd.exp().numpy()
        below = (w * norm.cdf(x.numpy()[:, None], m, s)).sum(-1)
        np.testing.assert_allclose(norm.cdf(z.numpy()), below, rtol=1e-9, atol=1e-14)
        np.testing.assert_allclose(log_p.exp().numpy(), (w * norm.pdf(x.numpy()[:, None], m, s)).sum(-1), rtol=1e-9, atol=1e-300)

    @pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-5), (torch.float64, 1e-11)])
    def test_one_component_is_affine_however_far(self, dtype, tolerance):
        x = torch.cat([-torch.logspace(4, -3, 40), torch.zeros(1), torch.logspace(-3, 4, 40)]).to(dtype)
        one = torch.zeros(1, 1, dtype=dtype)
        z, _ = mixture_to_normal(x, one, one + 0.5, one + 0.3)
        torch.testing.assert_close(z, (x - 0.5) * float(np.exp(-0.3)), rtol=tolerance, atol=tolerance)

    @given(st.integers(0, 2**31), st.integers(1, 6))
    @settings(max_examples=40, deadline=None)
    def test_inverse(self, seed, k):
        parts = mixture(seed, k)
        z = torch.linspace(-9, 9, 61, dtype=torch.float64)
        x = normal_to_mixture(z, *parts)
        assert (x.diff() > 0).all()
        torch.testing.assert_close(mixture_to_normal(x, *parts)[0], z, rtol=1e-7, atol=1e-7)  # between components F is flat

    def test_the_derivative_is_the_density(self):
        parts = mixture(3, 4)
        x = torch.linspace(-8, 8, 50, dtype=torch.float64, requires_grad=True)
        z, log_p = mixture_to_normal(x, *parts)
        by_x = torch.autograd.grad(z.sum(), x)[0]
        torch.testing.assert_close(by_x.log() + torch.distributions.Normal(0, 1).log_prob(z), log_p)


class TestTransform:
    def make(self, features=4, context=2):
        layer = MixtureAutoregressive(features, 3, [16], context=context, activation="tanh").double()
        g = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for p in layer.parameters():
                p.add_(0.4 * torch.randn(p.shape, generator=g, dtype=p.dtype))
        return layer

    def test_log_det_is_that_of_the_jacobian_and_the_inverse_inverts(self):
        layer, x, c = self.make(), torch.randn(6, 4, dtype=torch.float64), torch.randn(6, 2, dtype=torch.float64)
        by_x = torch.autograd.functional.jacobian(lambda v: layer(v, c)[0].sum(0), x).movedim(1, 0)
        assert (by_x.triu(1) == 0).all()
        z, log_det = layer(x, c)
        torch.testing.assert_close(log_det, torch.linalg.slogdet(by_x).logabsdet)
        back, minus = layer.inverse(z.detach(), c)
        torch.testing.assert_close(back, x, rtol=1e-7, atol=1e-7)
        torch.testing.assert_close(minus, -log_det, rtol=1e-6, atol=1e-6)

    def test_gradients_both_ways(self):
        layer = self.make(3)
        x, c = torch.randn(2, 3, dtype=torch.float64, requires_grad=True), torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
        parameters = tuple(layer.parameters())
        assert torch.autograd.gradcheck(lambda a, b, *_: layer(a, b), (x, c, *parameters))
        assert torch.autograd.gradcheck(lambda a, b, *_: layer.inverse(a, b), (x, c, *parameters), atol=1e-4)

    def test_components_start_apart(self):
        layer = MixtureAutoregressive(2, 5, [8])
        means = layer._mixture(torch.zeros(1, 2), None)[1]
        assert (means[0].diff(dim=-1) > 0.3).all()
