"""Closed forms and identities of the VAE families."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import medgen
from medgen.interfaces import Batch, Condition, Noise, Step
from medgen.registry import ConditionSpec, ImageSpec

VECTOR = ImageSpec(channels=5, shape=(), content="features")
LABEL = ConditionSpec(name="label", kind="label", names=("normal", "pneumonia", "other"))
AGE = ConditionSpec(name="attributes", kind="attributes", names=("age", "dose"))
LATENT = 3


@pytest.fixture
def linear():
    """x = W z + b + s eps with orthogonal columns, and its true posterior in the encoder: everything is known in closed form."""
    model = medgen.create("vae", VECTOR, latent_dim=LATENT, channels=[], noise_sd=0.7).double()
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([2.0, 0.5, 1.0], dtype=torch.float64)
    w = torch.linalg.qr(torch.randn(5, LATENT, generator=generator, dtype=torch.float64)).Q * scale
    b = torch.randn(5, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        out, head = model.decoder.net[0], model.encoder.head
        out.weight.copy_(w)
        out.bias.copy_(b)
        variance = 1.0 / (1.0 + scale**2 / 0.49)  # of z given x; diagonal because the columns are orthogonal
        gain = variance[:, None] * w.T / 0.49
        head.weight.zero_()
        head.weight[:LATENT] = gain
        head.bias[:LATENT] = -gain @ b
        head.bias[LATENT:] = 14.0 * torch.atanh(variance.log() / 14.0)  # the encoder bounds its log-variance softly
    exact = torch.distributions.MultivariateNormal(b, w @ w.T + 0.49 * torch.eye(5, dtype=torch.float64))
    x = exact.sample((40,))
    return model, exact, x


def test_the_bound_is_tight_at_the_true_posterior(linear):
    model, exact, x = linear
    # E_q of the ELBO's Monte Carlo part: average over many draws
    elbo = torch.stack([model.log_prob(x, noise=seed) for seed in range(1500)]).mean(0)
    torch.testing.assert_close(elbo, exact.log_prob(x), atol=0.2, rtol=0)
    assert (elbo - exact.log_prob(x)).mean().abs() < 0.03


def test_importance_weights_are_constant_at_the_true_posterior(linear):
    """p(x, z) / q(z|x) = p(x) for every z, so any K gives ln p(x) exactly."""
    model, exact, x = linear
    for k in (2, 7):
        torch.testing.assert_close(model.log_prob(x, importance_samples=k), exact.log_prob(x), atol=1e-6, rtol=0)


def test_elbo_below_iwae_below_exact_away_from_the_posterior(linear):
    model, exact, x = linear
    with torch.no_grad():
        model.encoder.head.bias[LATENT:] += 0.8  # too wide a posterior
        model.encoder.head.bias[:LATENT] += 0.2
    bounds = [torch.stack([model.log_prob(x, importance_samples=k, noise=s) for s in range(60)]).mean().item() for k in (1, 5, 50)]
    truth = exact.log_prob(x).mean().item()
    assert bounds[0] + 0.2 < bounds[1] < bounds[2] < truth + 1e-3
    assert truth - bounds[2] < 0.05


def test_the_identity_of_the_bound(linear):
    """ln p(x) - KL[q || p(z|x)] = E_q ln p(x|z) - KL[q || p(z)], with a wrong q whose KL to the true posterior is known."""
    model, exact, x = linear
    posterior = model.encode(x)
    with torch.no_grad():
        model.encoder.head.bias[:LATENT] += 0.3
    shifted = model.encode(x)
    gap = torch.distributions.kl_divergence(shifted, posterior)
    elbo = torch.stack([model.log_prob(x, noise=seed) for seed in range(1500)]).mean(0)
    torch.testing.assert_close(elbo + gap, exact.log_prob(x), atol=0.2, rtol=0)
    assert (elbo + gap - exact.log_prob(x)).mean().abs() < 0.03


@pytest.mark.parametrize("content", ["intensity", "labels"])
@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "categorical"])
def test_likelihoods_are_normalised(likelihood, content):
    """Sums (or integrates) to one over all x of a tiny space."""
    from medgen_autoencoders.likelihoods import make_likelihood

    h = torch.tensor([[[0.3], [-1.2]]], dtype=torch.float64)  # [1, C=2, S=1]
    p = make_likelihood(likelihood, 0.6, ImageSpec(channels=2, shape=(1,), content=content)).double()
    if likelihood == "gaussian":
        grid = torch.linspace(-8, 8, 401, dtype=torch.float64)
        x = torch.cartesian_prod(grid, grid)[:, :, None]
        total = p.log_prob(x, h.expand(len(x), -1, -1)).exp().sum() * (grid[1] - grid[0]) ** 2
    else:
        states = [[0, 0], [0, 1], [1, 0], [1, 1]] if likelihood == "bernoulli" else [[0, 1], [1, 0]]
        x = torch.tensor(states, dtype=torch.float64)[:, :, None]
        total = p.log_prob(x, h.expand(len(x), -1, -1)).exp().sum()
    assert total.item() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli", "categorical"])
def test_draws_have_the_mean_of_the_likelihood(likelihood):
    from medgen_autoencoders.likelihoods import make_likelihood

    p = make_likelihood(likelihood, 0.6, ImageSpec(channels=3, shape=(2,)))
    h = torch.tensor([[[0.3, 2.0], [-1.2, 0.0], [0.5, -0.5]]]).expand(20000, -1, -1)
    draws = p.sample(h, Noise(1, torch.arange(20000)))
    torch.testing.assert_close(draws.mean(0), p.mean(h)[0], atol=0.02, rtol=0)
    if likelihood == "categorical":
        assert (draws.sum(1) == 1).all()


@given(st.floats(1e-6, 20.0), st.integers(0, 200), st.integers(0, 100))
def test_beta_vae_objective(beta, step, steps):
    model = medgen.create("beta_vae", VECTOR, latent_dim=2, channels=[4], beta=beta, capacity=6.0, capacity_steps=steps)
    where = Step(step, 1000, Noise(0, torch.arange(1)))
    capacity = 6.0 * min(1.0, step / steps) if steps else 6.0
    value = model._objective(torch.tensor(10.0, dtype=torch.float64), torch.tensor(4.0, dtype=torch.float64), where)
    assert value.item() == pytest.approx(10.0 + beta * abs(4.0 - capacity), rel=1e-6)


def test_beta_one_capacity_zero_is_the_vae():
    batch, step = Batch(torch.rand(6, 5)), Step(0, 1, Noise(3, torch.arange(6)))
    plain = medgen.create("vae", VECTOR, latent_dim=2, channels=[4])
    beta = medgen.create("beta_vae", VECTOR, latent_dim=2, channels=[4], beta=1.0)
    assert plain.phases()[0].loss(batch, step)["loss"].item() == beta.phases()[0].loss(batch, step)["loss"].item()


@given(mean=st.floats(-5, 5), log_var=st.floats(-6, 4), prior_mean=st.floats(-3, 3), prior_log_var=st.floats(-3, 3))
def test_kl_equals_its_closed_form_and_torch(mean, log_var, prior_mean, prior_log_var):
    from medgen.maths import kl_diagonal, kl_standard

    a, b, c, d = (torch.tensor(v, dtype=torch.float64) for v in (mean, log_var, prior_mean, prior_log_var))
    normal = torch.distributions.Normal
    expected = torch.distributions.kl_divergence(normal(a, (b / 2).exp()), normal(c, (d / 2).exp()))
    assert kl_diagonal(a, b, c, d).item() == pytest.approx(expected.item(), rel=1e-9, abs=1e-9)
    by_hand = 0.5 * (mean**2 + math.exp(log_var) - 1 - log_var)
    assert kl_standard(a, b).item() == pytest.approx(by_hand, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("prior", ["standard", "learned"])
def test_every_output_depends_on_the_condition(prior):
    """With z fixed, and through sampling; label and attributes; encoder, decoder and density."""
    spec = ImageSpec(channels=2, shape=(7, 9))
    model = medgen.create("cvae", spec, (LABEL, AGE), latent_dim=2, channels=[4, 8], prior=prior).double()
    with torch.no_grad():  # zero-initialised layers hide dependence at the start of training
        for p in model.parameters():
            p.add_(0.1 * torch.sin(torch.arange(p.numel(), dtype=p.dtype) * 1.7).reshape(p.shape))
    base = {"label": torch.tensor([0]), "attributes": torch.zeros(1, 2)}
    others = [
        {**base, "label": torch.tensor([2])},
        {**base, "attributes": torch.tensor([[1.0, 0.0]])},
        {**base, "attributes": torch.tensor([[0.0, 1.0]])},
    ]
    z, x = torch.randn(1, 2), torch.rand(1, *spec.size)
    for other in others:
        a, b = Condition(base), Condition(other)
        assert ((model.decode(z, condition=a) - model.decode(z, condition=b)).abs() > 1e-9).all()
        assert ((model.sample(1, condition=a) - model.sample(1, condition=b)).abs() > 1e-9).all()
        assert ((model.encode(x, condition=a).mean - model.encode(x, condition=b).mean).abs() > 1e-9).all()
        assert model.log_prob(x, condition=a) != model.log_prob(x, condition=b)


def test_missing_conditions():
    spec = ImageSpec(channels=1, shape=(8,))
    strict = medgen.create("cvae", spec, (LABEL, AGE), latent_dim=2, channels=[4])
    with pytest.raises(medgen.MedgenError, match=r"needs the conditions \['attributes', 'label'\]; missing"):
        strict.sample(2)
    lenient = medgen.create("cvae", spec, (LABEL, AGE), latent_dim=2, channels=[4], condition_dropout=0.3)
    with torch.no_grad():
        lenient.embedding.missing["label"].fill_(2.0)
    some = Condition({"label": torch.tensor([1, 1])}, {"label": torch.tensor([True, False])})
    mixed = lenient.sample(2, condition=some, noise=Noise(0, torch.tensor([4, 4])))
    none = lenient.sample(1, noise=Noise(0, torch.tensor([4])))
    full = lenient.sample(1, condition=Condition({"label": torch.tensor([1])}), noise=Noise(0, torch.tensor([4])))
    torch.testing.assert_close(mixed, torch.cat([full, none]))
    assert not torch.allclose(full, none)


def test_condition_dropout_hides_the_asked_share():
    model = medgen.create("cvae", ImageSpec(channels=1, shape=(8,)), (LABEL,), latent_dim=2, channels=[4], condition_dropout=0.25)
    condition = Condition({"label": torch.zeros(4000, dtype=torch.int64)})
    step = Step(0, 1, Noise(0, torch.arange(4000)))
    model.train()
    assert model._seen(condition, step).mask("label").float().mean().item() == pytest.approx(0.75, abs=0.03)
    model.eval()
    assert model._seen(condition, step).mask("label").all()


def test_likelihood_by_content_and_range():
    for content, name in (("intensity", "Gaussian"), ("labels", "Categorical")):
        model = medgen.create("vae", ImageSpec(channels=3, shape=(8, 8), content=content), latent_dim=2, channels=[4])
        assert type(model.likelihood).__name__ == name
    assert model.output_range == (0.0, 1.0)
    torch.testing.assert_close(model.sample(3).sum(1), torch.ones(3, 8, 8))


def test_learned_noise_finds_the_residual():
    """The optimal sd of the Gaussian likelihood is the root mean square residual."""
    from medgen_autoencoders.likelihoods import Gaussian

    p, x, h = Gaussian(None), torch.randn(64, 1, 10) * 0.37, torch.zeros(64, 1, 10)
    optimizer = torch.optim.Adam(p.parameters(), 0.05)
    for _ in range(400):
        optimizer.zero_grad()
        (-p.log_prob(x, h).mean()).backward()
        optimizer.step()
    assert (0.5 * p._bounded()).exp().item() == pytest.approx(x.square().mean().sqrt().item(), rel=1e-2)


@pytest.mark.parametrize(("likelihood", "measure"), [("gaussian", "density"), ("bernoulli", "mass"), ("categorical", "mass")])
def test_discrete_likelihoods_give_mass(likelihood, measure):
    model = medgen.create("vae", ImageSpec(channels=2, shape=(8,)), latent_dim=2, channels=[4], likelihood=likelihood)
    assert model.log_prob_measure == measure
