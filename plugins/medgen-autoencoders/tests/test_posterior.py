"""The posterior with an inverse autoregressive flow."""

from __future__ import annotations

import math

import pytest
import torch

import medgen
from medgen.interfaces import Batch, Noise, Step
from medgen.maths import log_standard_normal
from medgen.registry import ImageSpec

VECTOR = ImageSpec(channels=5, shape=(), content="features")
LATENT = 3


def roughen(module, scale=0.4):
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(scale * torch.randn(p.shape, generator=generator, dtype=p.dtype))


def pair():
    """A VAE with a Gaussian posterior, and the same with a flow behind it."""
    options = {"latent_dim": LATENT, "channels": [], "noise_sd": 0.7}
    plain = medgen.create("vae", VECTOR, **options).double()
    flow = medgen.create("vae", VECTOR, posterior="iaf", iaf_hidden=[12], **options).double()
    with torch.no_grad():
        flow.decoder.load_state_dict(plain.decoder.state_dict())
        for name in ("weight", "bias"):
            getattr(flow.encoder.head, name)[: 2 * LATENT] = getattr(plain.encoder.head, name)
    return plain, flow


def test_with_open_gates_the_bounds_are_those_of_the_gaussian():
    """Scale 1 and shift 0: g = 1 leaves every z as it is, whatever m."""
    plain, flow = pair()
    for step in flow.posterior.flow.parts:
        with torch.no_grad():
            step.made.layers[-1].weight[:LATENT] = 0
            step.made.context.weight[-2 * LATENT : -LATENT] = 0
            step.made.layers[-1].bias[:LATENT] = 60.0
    x = torch.randn(20, 5, dtype=torch.float64)
    torch.testing.assert_close(flow.log_prob(x, importance_samples=4), plain.log_prob(x, importance_samples=4))
    draws = torch.stack([flow.log_prob(x, noise=s) - plain.log_prob(x, noise=s) for s in range(400)])
    assert draws.mean().abs() < 4 * draws.mean(1).std() / math.sqrt(len(draws))  # the KL's estimate is right on average
    torch.testing.assert_close(flow.encode(x).mean, plain.encode(x).mean)
    torch.testing.assert_close(flow.encode(x).variance.mean(), plain.encode(x).variance.mean(), rtol=0.2, atol=0)


def test_density_of_a_draw_step_by_step():
    """-ln q(z_T) = sum_i eps_i^2 / 2 + ln(2 pi) / 2 + ln sd_i + sum_t ln g_t,i, and the same by inverting the flow."""
    _, flow = pair()
    roughen(flow.posterior)
    x, noise = torch.randn(6, 5, dtype=torch.float64), Noise(3, torch.arange(6))
    q = flow.posterior(flow.encoder(x))
    z, log_q = q.draw(noise, 0)
    eps = noise.normal(LATENT, dtype=torch.float64)
    at, total = q.mean + (0.5 * q.log_var).exp() * eps, log_standard_normal(eps) - 0.5 * q.log_var
    for step in q.flow.parts:
        s, m = step.made(at, q.context).chunk(2, 1)
        gate = torch.exp(5.0 * torch.tanh(torch.nn.functional.logsigmoid(s) / 5.0))
        at, total = gate * at + (1 - gate) * m, total - gate.log()
    torch.testing.assert_close(z, at)
    torch.testing.assert_close(log_q, total.sum(1))
    found = q.distribution()
    torch.testing.assert_close(found.log_prob(z), log_q)
    assert found.batch_shape == (6,)
    assert found.event_shape == (LATENT,)
    many = found.rsample((7,))
    assert many.shape == (7, 6, LATENT)
    torch.testing.assert_close(found.log_prob(many)[2], found.log_prob(many[2]))


def test_the_posterior_integrates_to_one():
    model = medgen.create("vae", VECTOR, latent_dim=2, channels=[], posterior="iaf", iaf_hidden=[8]).double()
    roughen(model.posterior)
    grid = torch.linspace(-12, 12, 481, dtype=torch.float64)
    z = torch.cartesian_prod(grid, grid)
    with torch.no_grad():
        log_q = model.encode(torch.zeros(1, 5, dtype=torch.float64)).log_prob(z[:, None])
    assert (log_q.exp().sum() * (grid[1] - grid[0]) ** 2).item() == pytest.approx(1.0, abs=1e-3)


def test_bounds_in_order_below_the_exact_density():
    _, flow = pair()
    roughen(flow.posterior, 0.2)
    layer = flow.decoder.net[0]
    with torch.no_grad():
        covariance = layer.weight @ layer.weight.T + 0.49 * torch.eye(5, dtype=torch.float64)
        exact = torch.distributions.MultivariateNormal(layer.bias, covariance)
        x = exact.sample((40,))
        bounds = [torch.stack([flow.log_prob(x, importance_samples=k, noise=s) for s in range(60)]).mean().item() for k in (1, 5, 50)]
    truth = exact.log_prob(x).mean().item()
    assert bounds[0] + 0.05 < bounds[1] < bounds[2] < truth + 1e-2


def test_free_bits_cost_nothing():
    batch, step = Batch(torch.rand(8, 5)), Step(0, 1, Noise(0, torch.arange(8)))
    losses = {}
    for bits in (0.0, 1000.0):
        model = medgen.create("vae", VECTOR, latent_dim=2, channels=[4], free_bits=bits)
        losses[bits] = model.phases()[0].loss(batch, step)
    kl, reconstruction = losses[0.0]["kl"], losses[0.0]["reconstruction"]
    assert losses[0.0]["loss"].item() == pytest.approx((reconstruction + kl).item() / 5)
    assert losses[1000.0]["loss"].item() == pytest.approx((reconstruction.item() + 1000.0) / 5)


@pytest.mark.parametrize("family", ["vae", "beta_vae", "cvae"])
def test_every_family_takes_it(family, tmp_path):
    model = medgen.create(family, ImageSpec(channels=1, shape=(6, 6)), latent_dim=3, channels=[4], posterior="iaf", iaf_steps=3)
    model.phases()[0].loss(Batch(torch.rand(4, 1, 6, 6)), Step(0, 1, Noise(0, torch.arange(4))))["loss"].backward()
    steps = list(model.posterior.parameters())
    assert steps
    assert all(p.grad is not None for p in steps)
    medgen.save(model, tmp_path / "m.safetensors")
    x = torch.rand(3, 1, 6, 6)
    assert torch.equal(medgen.load(tmp_path / "m.safetensors").log_prob(x), model.log_prob(x))


def test_a_flow_comes_closer_to_a_posterior_that_is_not_gaussian():
    """x = (z1, z2 + z1^2) + noise: given x, z1 and z2 lie along a parabola. Encoder and decoder are given; only q is fitted."""
    best = {}
    for kind in ("gaussian", "iaf"):
        torch.manual_seed(0)
        head = medgen.create(
            "vae", ImageSpec(channels=2, shape=(), content="features"), latent_dim=2, channels=[], posterior=kind
        ).posterior
        h = torch.nn.Parameter(torch.zeros(1, head.size))
        optimizer = torch.optim.Adam([h, *head.parameters()], 2e-2)
        for number in range(400):
            q = head(h.expand(256, -1))
            z, log_q = q.draw(Noise(number, torch.arange(256)), 0)
            curve = (z[:, 1] + z[:, 0].square() - 1.0) / 0.2
            loss = (log_q + 0.5 * z.square().sum(1) + 0.5 * curve.square()).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        q = head(h.expand(20000, -1))
        z, log_q = q.draw(Noise(10**6, torch.arange(20000)), 0)
        curve = (z[:, 1] + z[:, 0].square() - 1.0) / 0.2
        best[kind] = (log_q + 0.5 * z.square().sum(1) + 0.5 * curve.square()).mean().item()
    assert best["iaf"] < best["gaussian"] - 0.2
