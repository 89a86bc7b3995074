"""The families made of masked networks."""

from __future__ import annotations

import math

import pytest
import torch

import medgen
from medgen.interfaces import Batch, Condition, Noise, Step
from medgen.registry import ConditionSpec, ImageSpec, find_family

FAMILIES = {"made": {}, "maf": {}, "iaf": {}, "made_mog": {"components": 3}, "maf_mog": {"components": 2}}
SHAPES = ((), (7,), (3, 4), (2, 3, 2))
LABEL = ConditionSpec(name="label", kind="label", names=("a", "b"))
AGE = ConditionSpec(name="attributes", kind="attributes", names=("age", "dose"))


def build(family, shape=(), channels=2, conditions=(), **config):
    spec = ImageSpec(channels=channels, shape=shape, content="intensity" if shape else "features")
    name = family.removesuffix("_mog")
    return medgen.create(name, spec, conditions, **{**find_family(name).spec.tiny, **FAMILIES[family], **config})


def fit(model, batch, steps, lr=1e-2):
    """Adam on the family's own loss, on one batch."""
    phase = model.phases()[0]
    optimizer = torch.optim.Adam(phase.parameters, lr)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for number in range(steps):
        optimizer.zero_grad()
        phase.loss(batch, Step(number, steps, Noise(0, torch.arange(len(batch)))))["loss"].backward()
        optimizer.step()
        schedule.step()
    return model


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
class TestEvery:
    def test_codes_are_the_noise(self, family, shape):
        model = build(family, shape, conditions=(LABEL, AGE)).double()
        condition = Condition({"label": torch.tensor([0, 1, 1]), "attributes": torch.randn(3, 2)})
        noise = Noise(4, torch.arange(3))
        x = model.sample(3, condition=condition, noise=noise)
        assert x.shape == (3, *model.image_spec.size)
        torch.testing.assert_close(model.encode(x, condition=condition).mean, noise.normal(*model.latent_shape, dtype=torch.float64))
        torch.testing.assert_close(model.reconstruct(x, condition=condition), x)

    def test_density_is_that_of_the_samples_map(self, family, shape):
        """ln p(x) = ln N(u) - ln |det dx/du| by autograd through the sampler."""
        model = build(family, shape).double()
        u = torch.randn(1, *model.latent_shape, dtype=torch.float64)
        by_u = torch.autograd.functional.jacobian(model.decode, u).reshape(u.numel(), u.numel())
        want = -0.5 * (u.square().sum() + u.numel() * math.log(2 * math.pi)) - torch.linalg.slogdet(by_u).logabsdet
        torch.testing.assert_close(model.log_prob(model.decode(u))[0], want)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_value_knows_the_condition(family):
    model = build(family, conditions=(LABEL,)).double()
    x = torch.randn(1, 2, dtype=torch.float64)
    codes = [model.encode(x, condition=Condition({"label": torch.tensor([k])})).mean[0] for k in (0, 1)]
    assert ((codes[0] - codes[1]).abs() > 1e-9).all()


def gaussian():
    """One with full covariance, and 4000 draws."""
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    x = torch.randn(4000, 4, generator=generator, dtype=torch.float64) @ root.T + 2.0
    return torch.distributions.MultivariateNormal(torch.full((4,), 2.0, dtype=torch.float64), root @ root.T), x


def test_a_linear_made_holds_any_gaussian():
    """mu_i = m_i + sum_j<i B_ij (x_j - m_j) and constant alpha, from the regressions of the values on those before them."""
    exact, x = gaussian()
    model = build("made", channels=4, hidden=[]).double()
    layer = model.transform.parts[1].made.layers[0]
    with torch.no_grad():
        layer.weight.zero_()
        for i in range(4):
            past = exact.covariance_matrix[:i, :i]
            gain = torch.linalg.solve(past, exact.covariance_matrix[:i, i]) if i else torch.zeros(0, dtype=torch.float64)
            variance = exact.covariance_matrix[i, i] - gain @ exact.covariance_matrix[:i, i]
            layer.bias[i] = 5.0 * torch.atanh(0.5 * variance.log() / 5.0)
            layer.weight[4 + i, :i] = gain
            layer.bias[4 + i] = exact.mean[i] - gain @ exact.mean[:i]
    torch.testing.assert_close(model.log_prob(x), exact.log_prob(x))


def test_training_reaches_the_entropy_of_a_gaussian():
    exact, x = gaussian()
    model = build("made", channels=4, hidden=[]).double()
    phase = model.phases()[0]
    optimizer = torch.optim.LBFGS(phase.parameters, max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = phase.loss(Batch(x), Step(0, 1, Noise(0, torch.arange(len(x)))))["loss"]
        loss.backward()
        return loss

    optimizer.step(closure)
    assert -model.log_prob(x).mean().item() == pytest.approx(-exact.log_prob(x).mean().item(), abs=5e-3)
    assert -exact.log_prob(x).mean().item() == pytest.approx(exact.entropy().item(), abs=0.05)


def test_densities_given_a_label_and_a_number():
    """x1 ~ N(2 label + dose, 0.5^2), x2 ~ N(-x1, 0.2^2): both are found, the first value's too, which has nothing else to go by."""
    generator = torch.Generator().manual_seed(0)
    n = 2000
    label, dose = torch.randint(0, 2, (n,), generator=generator), torch.rand(n, 1, generator=generator)
    conditions = (LABEL, ConditionSpec(name="attributes", kind="attributes", names=("dose",)))
    first = 2.0 * label[:, None] + dose + 0.5 * torch.randn(n, 1, generator=generator)
    x = torch.cat([first, -first + 0.2 * torch.randn(n, 1, generator=generator)], 1)
    condition = Condition({"label": label, "attributes": dose})
    model = fit(build("made", channels=2, conditions=conditions, hidden=[16]), Batch(x, condition), 600)
    entropy = math.log(2 * math.pi * math.e) + math.log(0.5) + math.log(0.2)
    assert -model.log_prob(x, condition=condition).mean().item() == pytest.approx(entropy, abs=0.05)
    asked = Condition({"label": torch.ones(4000, dtype=torch.int64), "attributes": torch.full((4000, 1), 0.5)})
    drawn = model.sample(4000, condition=asked)
    torch.testing.assert_close(drawn.mean(0), torch.tensor([2.5, -2.5]), atol=0.08, rtol=0)


def test_a_stack_beats_one_made_where_the_order_is_wrong():
    """x1 = x2^2 + noise in the order x1, x2: one Gaussian conditional cannot have two modes, a stack can."""
    generator = torch.Generator().manual_seed(0)
    second = torch.randn(1500, 1, generator=generator)
    x = torch.cat([second.square() - 1 + 0.3 * torch.randn(1500, 1, generator=generator), second], 1)
    one = fit(build("made", hidden=[32]), Batch(x), 300)
    stack = fit(build("maf", hidden=[32], layers=3), Batch(x), 300)
    right = fit(build("made", hidden=[32], order="reversed"), Batch(x), 300)
    found = [m.log_prob(x).mean().item() for m in (one, stack, right)]
    truth = -math.log(2 * math.pi * math.e) - math.log(0.3)
    assert found[0] + 0.3 < found[1] < found[2] + 0.02
    assert found[2] == pytest.approx(truth, abs=0.05)


def test_ten_saturated_layers_keep_an_outlier_finite():
    """With a bound of 5 nats a layer, the gas table (45 standard deviations out) gave NaN in the first epoch."""
    model = medgen.create("maf", ImageSpec(channels=3, shape=(), content="features"), layers=10, hidden=[8])
    with torch.no_grad():
        for layer in model.transform.parts:
            if hasattr(layer, "made"):
                layer.made.layers[-1].bias[:3] = -100.0  # the smallest log-scales there are
                layer.made.layers[-1].bias[3:] = -100.0
    x = torch.full((1, 3), 50.0)
    loss = -model.log_prob(x).sum()
    loss.backward()
    assert -math.inf < -loss.item() < -1e10, "the layers must be saturated"
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)
