"""The banana and the logistic prior, whose numbers are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

import medgen
from medgen.registry import ImageSpec
from medgen_flows.nice import LogisticToNormal

TABLE = ImageSpec(channels=2, shape=(), content="features")


def test_banana_values():
    model = medgen.create("banana", TABLE).double()
    x = torch.tensor([[0.0, 0.0], [1.0, -2.0], [0.0, -1.0]], dtype=torch.float64)
    expected = [-2.337877, -2.337877, -math.log(2 * math.pi)]
    torch.testing.assert_close(model.log_prob(x), torch.tensor(expected, dtype=torch.float64), atol=1e-6, rtol=0)
    assert model.phases() == []


def test_banana_integrates_to_one_and_samples_have_its_moments():
    model = medgen.create("banana", TABLE).double()
    a, b = torch.meshgrid(torch.linspace(-6, 6, 241).double(), torch.linspace(-40, 8, 961).double(), indexing="ij")
    mass = model.log_prob(torch.stack([a.flatten(), b.flatten()], 1)).exp().sum() * 0.05 * 0.05
    assert abs(float(mass) - 1) < 1e-6
    x = model.sample(20000, noise=1)
    torch.testing.assert_close(x.mean(0), torch.tensor([0.0, -2.0]).double(), atol=0.05, rtol=0)  # E x2 = -E u^2 - 1
    torch.testing.assert_close(x.var(0), torch.tensor([1.0, 3.0]).double(), atol=0.15, rtol=0)  # 1 + Var u^2
    u = model.encode(x).mean
    torch.testing.assert_close(x[:, 0], u[:, 0])
    torch.testing.assert_close(x[:, 1], u[:, 1] - u[:, 0] ** 2 - 1)


def test_banana_wants_two_columns():
    with pytest.raises(medgen.MedgenError, match="two columns or more; got 1"):
        medgen.create("banana", ImageSpec(channels=1, shape=(), content="features"))
    wide = medgen.create("banana", ImageSpec(channels=3, shape=(), content="features"))
    assert float(wide.log_prob(torch.zeros(1, 3))) == pytest.approx(-2.337877 - 0.5 * math.log(2 * math.pi), abs=1e-5)


def test_the_logistic_prior_is_the_logistic_density():
    model = medgen.create("nice", TABLE, width=4, prior="logistic").double()
    x = torch.tensor([[0.3, -2.0], [0.0, 0.0], [-40.0, 300.0]], dtype=torch.float64)
    torch.testing.assert_close(model.log_prob(x), torch.from_numpy(stats.logistic.logpdf(x.numpy()).sum(1)))
    gaussian = medgen.create("nice", TABLE, width=4, prior="gaussian").double()
    torch.testing.assert_close(gaussian.log_prob(x), torch.from_numpy(stats.norm.logpdf(x.numpy()).sum(1)))


def test_quantiles_of_both_tails():
    z = torch.tensor([[0.0, 1e-8, -1e-3, 3.0, -30.0, 36.0, 800.0, -1e4]], dtype=torch.float64, requires_grad=True)
    u, log_det = LogisticToNormal()(z)
    near = z.detach()[0, :6].numpy()
    exact = np.where(near > 0, -stats.norm.ppf(stats.logistic.sf(near)), stats.norm.ppf(stats.logistic.cdf(near)))
    np.testing.assert_allclose(u.detach()[0, :6].numpy(), exact, atol=1e-9, rtol=1e-9)
    back, minus = LogisticToNormal().inverse(u)
    torch.testing.assert_close(back, z, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(minus, -log_det)
    (slope,) = torch.autograd.grad(u.sum(), z)
    torch.testing.assert_close(slope.log().sum(), log_det[0])
