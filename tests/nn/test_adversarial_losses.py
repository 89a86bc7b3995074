"""Adversarial losses at their optima, penalties of critics whose gradient is known, spectral norms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medgen.errors import ConfigError
from medgen.interfaces import Noise
from medgen.nn.adversarial import (
    ADVERSARIAL_LOSSES,
    adversarial_loss,
    clip_weights,
    gradient_penalty,
    r1_penalty,
    spectral_norm,
    update_spectral_norms,
)

P, Q = np.array([50, 30, 15, 5, 0]), np.array([5, 10, 25, 50, 10])  # counts of a discrete distribution: probabilities in percent


def best(loss, p=P, q=Q):
    """The outputs, one per value of x, that minimise the discriminator's loss; and the loss there."""
    table = torch.zeros(len(p), dtype=torch.float64, requires_grad=True)
    x, g = (torch.from_numpy(np.repeat(np.arange(len(c)), c)) for c in (p, q))
    optimizer = torch.optim.LBFGS([table], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-15, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = loss.discriminator(table[x], table[g])
        value.backward()
        return value

    optimizer.step(closure)
    return table.detach().numpy(), closure().item()


@pytest.mark.parametrize("alpha", [1.0, 0.9, 0.75])
@pytest.mark.parametrize("name", ["minimax", "non_saturating"])
def test_the_best_discriminator_is_p_over_p_plus_q(name, alpha):
    logits, _ = best(adversarial_loss(name, target=alpha))
    assert 1 / (1 + np.exp(-logits)) == pytest.approx(alpha * P / (P + Q), abs=2e-5)


@pytest.mark.parametrize("alpha", [1.0, 0.9])
def test_least_squares_has_the_same_optimum(alpha):
    assert best(adversarial_loss("least_squares", target=alpha))[0] == pytest.approx(alpha * P / (P + Q), abs=1e-6)


def test_the_value_of_the_game_is_the_jensen_shannon_divergence():
    p, q = P / 100, Q / 100
    m = (p + q) / 2
    jsd = 0.5 * sum(a * math.log(a / c) for a, c in zip(p, m, strict=True) if a) + 0.5 * sum(
        b * math.log(b / c) for b, c in zip(q, m, strict=True) if b
    )
    assert -best(adversarial_loss("minimax"))[1] == pytest.approx(-math.log(4) + 2 * jsd, abs=1e-4)
    assert -best(adversarial_loss("minimax"), Q, Q)[1] == pytest.approx(-math.log(4), abs=1e-9)


def slope(name, logit):
    x = torch.tensor([logit], requires_grad=True)
    adversarial_loss(name).generator(x).backward()
    return abs(x.grad.item())


def test_only_the_saturating_loss_saturates():
    """Where the discriminator is sure, D(G) = 1e-5."""
    assert slope("minimax", -11.5) < 1.1e-5
    assert slope("non_saturating", -11.5) > 0.9999
    assert slope("non_saturating", 0.0) == pytest.approx(slope("minimax", 0.0))


@given(real=st.floats(-20, 20), fake=st.floats(-20, 20), alpha=st.floats(0.51, 1.0))
@settings(max_examples=50)
def test_smoothing_changes_the_real_targets_only(real, fake, alpha):
    for name in ("minimax", "non_saturating"):
        r, f = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (real, fake))
        adversarial_loss(name, target=alpha).discriminator(r, f).backward()
        assert r.grad.item() == pytest.approx(1 / (1 + math.exp(-real)) - alpha, abs=1e-12)
        assert f.grad.item() == pytest.approx(1 / (1 + math.exp(-fake)), abs=1e-12), "the target of fakes is 0 exactly"


def test_hinge_and_wasserstein_by_hand():
    real, fake = torch.tensor([0.5, 2.0]), torch.tensor([-3.0, 0.0])
    assert adversarial_loss("hinge").discriminator(real, fake).item() == pytest.approx(0.25 + 0.5)
    assert adversarial_loss("wasserstein").discriminator(real, fake).item() == pytest.approx(-1.5 - 1.25)
    for name in ("hinge", "wasserstein"):
        assert adversarial_loss(name).generator(fake).item() == pytest.approx(1.5)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match=r"must be one of minimax.*got 'vanilla'"):
        adversarial_loss("vanilla")
    for name in ("hinge", "wasserstein"):
        with pytest.raises(ConfigError, match="label smoothing is for minimax"):
            adversarial_loss(name, target=0.9)
    with pytest.raises(ConfigError, match=r"must lie in \(0.5, 1\]"):
        adversarial_loss("minimax", target=1.1)
    assert all(adversarial_loss(name) for name in ADVERSARIAL_LOSSES)


@pytest.mark.parametrize("shape", [(3,), (2, 5), (1, 2, 3, 2)])
def test_penalties_of_a_linear_critic(shape):
    """(|w| - 1)^2 and |w|^2 / 2, wherever they are taken; and their slopes in w."""
    w = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    x, g = torch.randn(2, 6, *shape, dtype=torch.float64)

    def critic(x):
        return (x * w).flatten(1).sum(1) + 3.0

    length = w.detach().norm()
    penalty = gradient_penalty(critic, x, g, torch.rand(6))
    assert penalty.item() == pytest.approx((length.item() - 1) ** 2, rel=1e-12)
    torch.testing.assert_close(torch.autograd.grad(penalty, w)[0], 2 * (length - 1) * w.detach() / length)
    r1 = r1_penalty(critic, x)
    assert r1.item() == pytest.approx(0.5 * length.item() ** 2, rel=1e-12)
    torch.testing.assert_close(torch.autograd.grad(r1, w)[0], w.detach())


def test_penalties_of_a_quadratic_critic():
    """f = |x|^2 / 2, whose gradient is x: what counts is where it is taken."""
    x, g, a = torch.randn(64, 3), torch.randn(64, 3) + 2, torch.rand(64)
    wanted = ((a[:, None] * x + (1 - a[:, None]) * g).norm(dim=1) - 1).square().mean()
    torch.testing.assert_close(gradient_penalty(lambda v: 0.5 * v.square().sum(1), x, g, a), wanted)
    torch.testing.assert_close(r1_penalty(lambda v: 0.5 * v.square().sum(1), x), 0.5 * x.square().sum(1).mean())


def test_penalties_work_where_gradients_are_switched_off():
    with torch.no_grad():
        assert r1_penalty(lambda v: 2 * v.sum(1), torch.zeros(3, 2)).item() == 4.0


def test_a_critic_measures_the_shift_of_a_gaussian():
    """W1 between N(0, I) and N(m, I) is |m|. A linear critic's slope is 1 + |m| / (2 lambda), so that lambda must be large against |m|."""
    torch.manual_seed(0)
    m = torch.tensor([1.2, -1.6])
    critic = nn.Sequential(nn.Linear(2, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, 1, bias=False))
    optimizer, loss = torch.optim.Adam(critic.parameters(), 2e-3, betas=(0.5, 0.9)), adversarial_loss("wasserstein")
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, 400)
    for step in range(400):
        noise = Noise(1, torch.arange(256) + 256 * step)
        real, fake = noise.normal(2, stream=0), noise.normal(2, stream=1) + m
        total = loss.discriminator(critic(real), critic(fake))
        total = total + 100.0 * gradient_penalty(lambda x: critic(x)[:, 0], real, fake, noise.uniform(stream=2))
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        schedule.step()
    noise = Noise(2, torch.arange(20000))
    with torch.no_grad():
        estimate = -loss.discriminator(critic(noise.normal(2, stream=0)), critic(noise.normal(2, stream=1) + m)).item()
    assert estimate == pytest.approx(2.0, rel=0.05)


def test_clipping_is_exact():
    layer = nn.Linear(20, 20)
    before = layer.weight.detach().clone()
    clip_weights(layer.parameters(), 0.05)
    assert torch.equal(layer.weight, before.clamp(-0.05, 0.05))


LAYERS = [nn.Linear(7, 5), nn.Conv1d(3, 8, 4), nn.Conv2d(3, 4, 3), nn.Conv3d(2, 4, 3)]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_spectral_norm_is_one(layer):
    layer = spectral_norm(layer)
    with torch.no_grad():
        layer.parametrizations.weight.original.mul_(7.0).add_(0.3)
    for _ in range(200):
        update_spectral_norms(nn.Sequential(layer))
    assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1.0, abs=1e-4)


def test_spectral_norm_is_a_pure_function_until_it_follows():
    torch.manual_seed(0)
    layer = spectral_norm(nn.Linear(6, 6)).train()
    x = torch.randn(4, 6)
    first = layer(x)
    assert torch.equal(layer(x), first)
    update_spectral_norms(layer)
    assert not torch.equal(layer(x), first)
    assert set(layer.state_dict()) == {
        "bias",
        "parametrizations.weight.original",
        "parametrizations.weight.0.u",
        "parametrizations.weight.0.v",
    }
