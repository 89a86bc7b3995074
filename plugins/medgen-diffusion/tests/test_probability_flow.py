"""`edm` and `flow_matching`: samples, densities and losses where the exact network is known; guidance, units, training."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusion_oracles import FEATURES, exact_flow

import medgen
from medgen.data import from_arrays, to_stored
from medgen.errors import ConfigError
from medgen.interfaces import Batch, Condition, Noise, Step
from medgen.maths import edm_preconditioning, edm_weight
from medgen.registry import ConditionSpec, Intensity
from medgen.testing.subject import perturb
from medgen.training import train
from medgen_diffusion.edm import _preconditioned

DOCS = Path(__file__).parents[3] / "docs" / "diffusion.md"
both = pytest.mark.parametrize("family", ["edm", "flow_matching"])
LABEL = ConditionSpec(name="label", kind="label", names=("a", "b"))
CORRELATED = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64)
IMAGE = medgen.ImageSpec(channels=2, shape=(4, 3))
TINY = {"width": 8, "multipliers": [1, 2], "sampling_steps": 3, "log_prob_steps": 2}


def random_model(family, spec=IMAGE, conditions=(), **config):
    model = medgen.create(family, spec, conditions, **{**TINY, **config}).eval()
    perturb(model)
    return model


def log_gaussian(x, mean, covariance):
    size = len(covariance)
    loc = torch.full((size,), mean, dtype=torch.float64)
    return torch.distributions.MultivariateNormal(loc, covariance).log_prob(x.flatten(1))


# ------------------------------------------------------------------------------------------------------- sampling


@both
@pytest.mark.parametrize("sampler", ["euler", "midpoint", "heun"])
def test_samples_of_the_exact_network(family, sampler):
    how = {"sampler": sampler, "sampling_steps": 100} if family == "flow_matching" else {"sampling_steps": 40, "resample": 1}
    found = exact_flow(family, **how).sample(20_000, noise=1, micro_batch=20_000)
    assert found.mean(0).tolist() == pytest.approx([0.3, 0.3], abs=0.015)
    assert found.std(0).tolist() == pytest.approx([0.5, 0.5], abs=0.015)


def test_churn_keeps_the_distribution_and_renews_the_noise():
    plain, churned, limited = (
        exact_flow("edm", sampling_steps=40, **more).sample(20_000, noise=1, micro_batch=20_000)
        for more in ({}, {"churn": 20.0}, {"churn": 20.0, "churn_min": 0.1, "churn_max": 0.2})
    )
    assert churned.std().item() == pytest.approx(0.5, abs=0.02)
    assert churned.mean().item() == pytest.approx(0.3, abs=0.02)

    def likeness(x):
        return torch.corrcoef(torch.stack((plain[:, 0], x[:, 0])))[0, 1].item()

    assert likeness(churned) < likeness(limited) - 0.05
    assert likeness(limited) < 0.999


@both
def test_filling_in_a_correlated_value(family):
    """Two standard normals of correlation 0.9, one known to be 1.5: the other is N(1.35, 0.436^2)."""
    x, known = torch.tensor([[1.5, 0.0]], dtype=torch.float64).expand(4000, 2), torch.tensor([True, False])
    means = {}
    for rounds in (1, 5, 12):
        model = exact_flow(family, mean=0.0, covariance=CORRELATED, sampling_steps=40, resample=rounds)
        found = model.inpaint(x, known.expand(4000, 2), micro_batch=4000)
        assert bool((found[:, 0] == 1.5).all())
        means[rounds] = found[:, 1].mean().item()
    assert means[1] < 1.0 < means[5] < 1.4
    assert means[12] == pytest.approx(1.35, abs=0.1)
    assert found[:, 1].std().item() == pytest.approx(0.436, abs=0.09)
    assert medgen.create(family, IMAGE, **TINY).config.resample == 5


@both
def test_guidance_is_linear_in_one_step(family):
    """u + s (c - u): 1 is the condition, 0 none."""
    config = {"condition_dropout": 0.5, "sampling_steps": 1, **({"sampler": "euler"} if family == "flow_matching" else {})}
    condition = Condition({"label": torch.tensor([0, 1, 1])})
    models = {s: random_model(family, FEATURES, [LABEL], guidance=s, **config) for s in (0.0, 1.0, 3.0)}
    drawn = {s: model.sample(3, condition=condition, noise=4) for s, model in models.items()}
    torch.testing.assert_close(drawn[0.0], models[1.0].sample(3, noise=4))
    torch.testing.assert_close(drawn[3.0], drawn[0.0] + 3 * (drawn[1.0] - drawn[0.0]), rtol=1e-4, atol=1e-4)


@both
def test_a_memory_budget_changes_no_sample(family):
    spec = medgen.ImageSpec(channels=1, shape=(8, 8, 8))
    wanted = random_model(family, spec).sample(6, noise=2)
    tight = random_model(family, spec, sampling_memory=1e-3)
    torch.testing.assert_close(tight.sample(6, noise=2), wanted, rtol=1e-4, atol=1e-4)
    assert 1 < len(list(tight._turns(6, Condition(), Noise.of(0, range(6))))) <= 6
    with pytest.raises(ConfigError, match="too little"):
        random_model(family, spec, sampling_memory=1e-7).sample(6)


# -------------------------------------------------------------------------------------------------------- density


@both
@pytest.mark.parametrize("covariance", [0.25 * torch.eye(2, dtype=torch.float64), CORRELATED], ids=["independent", "correlated"])
def test_log_prob_is_the_density_of_gaussian_data(family, covariance):
    x = torch.tensor([[0.0, 0.0], [0.9, -0.7], [-1.3, -1.3]], dtype=torch.float64)
    model, wanted = exact_flow(family, mean=0.0, covariance=covariance), log_gaussian(x, 0.0, covariance)
    assert model.log_prob_kind == "estimate"
    assert model.log_prob_measure == "density"
    torch.testing.assert_close(model.log_prob(x), wanted, rtol=0, atol=2e-2)
    finer = exact_flow(family, mean=0.0, covariance=covariance, log_prob_steps=256).log_prob(x)
    torch.testing.assert_close(finer, wanted, rtol=0, atol=2e-3)
    torch.testing.assert_close(model.log_prob(x, noise=1), model.log_prob(x, noise=2))  # no noise where the divergence is exact


@both
def test_log_prob_converges_at_second_order(family):
    x, covariance = torch.tensor([[0.9, -0.4]], dtype=torch.float64), 0.01 * torch.eye(2, dtype=torch.float64)
    finest = exact_flow(family, covariance=covariance, log_prob_steps=1024).log_prob(x)
    assert finest.item() == pytest.approx(log_gaussian(x, 0.3, covariance).item(), abs=0.1)  # edm: as precise as sigma_min
    errors = [abs(exact_flow(family, covariance=covariance, log_prob_steps=steps).log_prob(x) - finest).item() for steps in (24, 48, 96)]
    for coarse, fine in itertools.pairwise(errors):
        assert coarse / fine == pytest.approx(4, rel=0.35)


class Mixture(torch.nn.Module):
    """The exact network of 0.5 N(-1, 0.3^2) + 0.5 N(1, 0.1^2), and its density."""

    MEANS, SDS = torch.tensor([-1.0, 1.0], dtype=torch.float64), torch.tensor([0.3, 0.1], dtype=torch.float64)

    def __init__(self, family):
        super().__init__()
        self.family = family

    def log_prob(self, x, signal=1.0, noise=0.0):
        variance = signal**2 * self.SDS**2 + noise**2
        each = -0.5 * (math.log(8 * math.pi) + variance.log() + (x - signal * self.MEANS).square() / variance)
        return each.logsumexp(1), each.softmax(1), variance

    def forward(self, x, t, embedding=None):
        if self.family == "edm":
            angle = torch.exp(t / 100).atan()[:, None]
            signal, noise = angle.cos(), angle.sin()
        else:
            signal, noise = t[:, None] / 1000, 1 - (t[:, None] / 1000).clamp(max=1 - 1e-9)
        _, share, variance = self.log_prob(x, signal, noise)
        score = (share * (signal * self.MEANS - x) / variance).sum(1, keepdim=True)
        eps = -noise * score
        x0 = (x - noise * eps) / signal.clamp(min=1e-9)
        if self.family == "flow_matching" and float(signal.max()) < 1e-6:  # all noise: the mean of the data
            x0 = torch.zeros_like(x)
        return noise * x0 - signal * eps if self.family == "edm" else x0 - eps


@both
def test_errors_of_the_density_as_documented(family):
    """docs/diffusion.md: the greatest at eight points, in nats."""
    documented = {
        line.split("`")[1]: [float(cell) for cell in line.split("|")[2:-1]]
        for line in DOCS.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `") and line.count("| 0.0") == 4
    }
    spec = medgen.ImageSpec(channels=1, shape=(), content="features", intensity=Intensity(clip=False))
    x = torch.cat([Mixture.MEANS + k * Mixture.SDS for k in (-1.5, 0.0, 0.5, 1.0)])[:, None]
    found = []
    for steps in (16, 32, 64, 128):
        model = medgen.create(family, spec, width=8, multipliers=[1], log_prob_steps=steps).double().eval()
        model.network.net = Mixture(family)
        found.append((model.log_prob(x) - model.network.net.log_prob(x)[0]).abs().max().item())
    assert found == pytest.approx(documented[family], abs=6e-4)


@both
def test_hutchinson_is_unbiased_and_tightens(family):
    covariance = torch.full((4, 4), 0.2, dtype=torch.float64) + 0.1 * torch.eye(4, dtype=torch.float64)
    spec = medgen.ImageSpec(channels=1, shape=(2, 2), intensity=Intensity(clip=False))
    x = torch.tensor([[0.5, 0.2, 0.1, 0.4]], dtype=torch.float64).view(1, 1, 2, 2).expand(400, 1, 2, 2)
    exact, guessed = (exact_flow(family, spec, covariance=covariance, exact_divergence=d, log_prob_steps=16) for d in (4, 3))
    wanted = exact.log_prob(x[:1]).item()
    spreads = []
    for draws in (1, 8):
        found = guessed.log_prob(x, importance_samples=draws)
        assert abs(found.mean().item() - wanted) < 5 * found.std().item() / 20
        spreads.append(found.std().item())
    assert spreads[1] == pytest.approx(spreads[0] / math.sqrt(8), rel=0.25)


@both
def test_units_change_the_density_by_their_scale(family):
    """The same network on data in [0, 1] and in [0, 100]."""
    specs = [medgen.ImageSpec(channels=1, shape=(4,), intensity=Intensity(range=(0.0, top))) for top in (1.0, 100.0)]
    x, found = torch.rand(32, 1, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64), []
    for spec, top in zip(specs, (1.0, 100.0), strict=True):
        model = random_model(family, spec).double()
        model.prepare(lambda top=top: [Batch(top * x)])
        found.append(model.log_prob(top * x))
        assert model.scaling(top * x).std(correction=0).item() == pytest.approx(1)
    torch.testing.assert_close(found[1], found[0] - 4 * math.log(100))


@both
def test_checkpointing_changes_no_density(family):
    found = []
    for checkpointing in (False, True):
        model = random_model(family, checkpointing=checkpointing)
        x = torch.full((2, 2, 4, 3), 0.4, requires_grad=True)
        value = model.log_prob(x)
        found.append((value, *torch.autograd.grad(value.sum(), [x, model.network.net.first.weight])))
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


# ------------------------------------------------------------------------------------------------------- training


def loss_of(model, x, number=0):
    return model._loss(Batch(x), Step(number, 100, Noise.of(7, range(len(x)))))["loss"]


@both
def test_the_exact_network_has_the_least_loss(family):
    x = 0.3 + 0.5 * Noise.of(1, range(20_000)).normal(2, dtype=torch.float64)
    right = loss_of(exact_flow(family).train(), x).item()
    for other in ({"mean": 0.5}, {"covariance": 0.49 * torch.eye(2, dtype=torch.float64)}):
        assert loss_of(exact_flow(family, **other).train(), x).item() > right + 0.01
    noise = Noise.of(7, range(20_000)).normal(dtype=torch.float64)
    if family == "edm":  # Var[x_0 | x] / sin^2, in closed form
        sigma = torch.exp(-0.5 + 1.2 * noise)
        wanted = (0.25 * (1 + sigma**2) / (0.25 + sigma**2)).mean().item()
    else:  # Var[x_1 - eps | x_t] = s^2 / (t^2 s^2 + (1 - t)^2)
        t = noise.sigmoid()
        wanted = (0.25 / (t**2 * 0.25 + (1 - t) ** 2)).mean().item()
    assert right == pytest.approx(wanted, rel=0.03)


def test_edm_trains_what_its_paper_says():
    """lambda ||D(x_0 + sigma eps; sigma) - x_0||^2 with table 1's coefficients, by hand."""
    model, x = random_model("edm").double().train(), Noise.of(3, range(5)).uniform(2, 4, 3, dtype=torch.float64)
    noise, x0 = Noise.of(7, range(5)), model.scaling(x)
    sigma = torch.exp(-0.5 + 1.2 * noise.normal(dtype=torch.float64))
    noised = x0 + sigma.view(-1, 1, 1, 1) * noise.normal(2, 4, 3, stream=1, dtype=torch.float64)
    skip, out, scale, told = (c.view(-1, 1, 1, 1) for c in edm_preconditioning(sigma, 1.0))
    network = model.network.given(Condition(), x0)
    denoised = skip * noised + out * network(scale * noised, 400 * told.flatten())
    wanted = (edm_weight(sigma, 1.0).view(-1, 1, 1, 1) * (denoised - x0).square()).mean()
    torch.testing.assert_close(loss_of(model, x), wanted)
    torch.testing.assert_close(_preconditioned(network)(noised, sigma), denoised)


@pytest.mark.parametrize("values", [{"time_sampling": "uniform"}, {"logit_mean": 1.0, "logit_sd": 0.5}])
def test_flow_matching_regresses_the_velocity_of_straight_paths(values):
    model, x = random_model("flow_matching", **values).double().train(), Noise.of(3, range(5)).uniform(2, 4, 3, dtype=torch.float64)
    noise, data = Noise.of(7, range(5)), model.scaling(x)
    uniform, normal = noise.uniform(dtype=torch.float64), noise.normal(dtype=torch.float64)
    t = uniform if "time_sampling" in values else (1.0 + 0.5 * normal).sigmoid()
    eps, at = noise.normal(2, 4, 3, stream=1, dtype=torch.float64), t.view(-1, 1, 1, 1)
    velocity = model.network.given(Condition(), data)(at * data + (1 - at) * eps, 1000 * t)
    torch.testing.assert_close(loss_of(model, x), (velocity - (data - eps)).square().mean())


@both
def test_bounded_data_are_standardised_and_come_back_within_their_bounds(family):
    spec = medgen.ImageSpec(channels=2, shape=(4, 3), intensity=Intensity(range=(-1.0, 3.0)))
    model = random_model(family, spec)
    x = Noise.of(0, range(200)).uniform(2, 4, 3) * torch.tensor([0.5, 2.0]).view(2, 1, 1) - 0.5
    model.prepare(lambda: [Batch(part) for part in x.split(64)])
    u = model.scaling(x)
    torch.testing.assert_close(u.mean((0, 2, 3)), torch.zeros(2), rtol=0, atol=1e-5)
    assert u.var((0, 2, 3), correction=0).mean().item() == pytest.approx(1, rel=1e-5)  # channels are alike: one scale
    assert model.scaling.sd.unique().numel() == 1
    found = model.sample(50)
    assert found.min() >= -1
    assert found.max() <= 3


@both
def test_label_maps_are_one_hot(family):
    model = random_model(family, medgen.ImageSpec(channels=3, shape=(5, 4), content="labels"))
    found = model.sample(6)
    assert bool(((found == 0) | (found == 1)).all())
    assert bool((found.sum(1) == 1).all())
    assert bool((found.sum((0, 2, 3)) > 0).all())


def test_what_does_not_fit_is_refused():
    for family, values, words in [
        ("edm", {"churn_min": 1.0, "churn_max": 0.5}, "`churn_max` must not be less"),
        ("edm", {"sigma_min": 1.0}, "sigma_min"),
        ("flow_matching", {"guidance": 2.0}, "needs a model with conditions"),
        ("flow_matching", {"sampler": "rk4"}, "sampler"),
    ]:
        with pytest.raises(ConfigError, match=words):
            medgen.create(family, IMAGE, **{**TINY, **values})


@pytest.mark.slow
@both
def test_two_modes_and_their_density(family, tmp_path):
    """Two Gaussians of weights 0.3 and 0.7 in the plane."""
    generator = np.random.default_rng(0)
    centres = np.array([[-2.0, 1.0], [2.0, -1.0]])
    first = generator.random(4000) < 0.3
    table = (centres[np.where(first, 0, 1)] + 0.3 * generator.standard_normal((4000, 2))).astype(np.float32)
    net = {"width": 64, "multipliers": [1], "blocks": 3}
    how = {"steps": 1500, "batch_size": 256, "lr": 2e-3, "ema": 0.99, "show": False}
    run = train(family, from_arrays(table), tmp_path / "run", model=net, **how)
    model, rule = run.model, run.model.image_spec.intensity
    stored = torch.from_numpy(to_stored(model.sample(4000, micro_batch=4000), model.image_spec)).float()
    left = stored[:, 0] < 0
    assert left.float().mean().item() == pytest.approx(0.3, abs=0.05)
    for mask, centre in ((left, centres[0]), (~left, centres[1])):
        assert stored[mask].mean(0).tolist() == pytest.approx(centre.tolist(), abs=0.1)
        assert stored[mask].std(0).tolist() == pytest.approx((0.3, 0.3), abs=0.08)
    x = run.dataset.fetch(run.dataset.splits["train"][:400]).x
    values = torch.from_numpy(to_stored(x, model.image_spec)).double()
    squares = (values[:, None] - torch.from_numpy(centres)).square().sum(2) / 0.09
    log_p = torch.logsumexp(torch.tensor([0.3, 0.7]).log() - squares / 2 - math.log(2 * math.pi * 0.09), 1)
    log_p -= sum(math.log(rule.scale(channel)) for channel in range(2))
    for divergence, noise in ((8, 0.0), (0, 0.15)):
        with torch.no_grad():
            found = medgen.load(tmp_path / "run", exact_divergence=divergence).log_prob(x).double()
        assert found.mean().item() == pytest.approx(log_p.mean().item(), abs=0.08)
        assert (found - log_p).square().mean().sqrt().item() < 0.25 + noise
