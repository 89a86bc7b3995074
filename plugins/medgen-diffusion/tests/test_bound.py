"""The variational bound: its terms, their sum, and what they are for data whose density is known."""

from __future__ import annotations

import math

import pytest
import torch
from diffusion_oracles import FEATURES, exact
from hypothesis import given
from hypothesis import strategies as st

import medgen
from medgen.interfaces import Condition, Noise
from medgen.maths import log_normal, posterior
from medgen.registry import ConditionSpec, Intensity
from medgen.testing.subject import perturb
from medgen_diffusion.decoder import Decoder

GREY = medgen.ImageSpec(channels=1, shape=(3, 2), intensity=Intensity(high=(255.0,), dtype="uint8"))
LABELS = medgen.ImageSpec(channels=3, shape=(2, 2), content="labels")
SCAN = medgen.ImageSpec(channels=1, shape=(3, 2), intensity=Intensity(range=(-2.0, 2.0)))
TINY = {"width": 8, "multipliers": [1, 2], "steps": 5}


def random_model(spec, conditions=(), **config):
    model = medgen.create("ddpm", spec, conditions, **{**TINY, **config}).double().eval()
    perturb(model)
    return model


def data(spec, n):
    noise = Noise.of(9, range(n))
    if spec.content == "labels":
        return torch.nn.functional.one_hot(noise.integers(spec.channels, *spec.shape), spec.channels).movedim(-1, 1).double()
    if spec.content == "features":
        return noise.normal(*spec.size, dtype=torch.float64)
    low, high = spec.intensity.range
    levels = noise.integers(256, *spec.size).double() / 255 if spec.intensity.dtype == "uint8" else noise.uniform(*spec.size)
    return low + (high - low) * levels.double()


def close_in_the_mean(found, expected, sigmas=5.0):
    """Means over rows 0 of both, within Monte Carlo error."""
    error = (found.var(0) / len(found) + (expected.var(0) / len(expected) if expected.dim() == found.dim() else 0)).sqrt()
    middle = expected.mean(0) if expected.dim() == found.dim() else expected
    worst = ((found.mean(0) - middle).abs() / (error + 1e-9)).max()
    assert worst < sigmas, f"{worst:.1f} standard errors apart: {found.mean(0)} and {middle}"


@pytest.mark.parametrize(
    ("spec", "variance"),
    [(FEATURES, "beta"), (SCAN, "posterior"), (SCAN, "learned"), (GREY, "learned"), (GREY, "beta"), (LABELS, "posterior")],
    ids=["features-beta", "density-posterior", "density-learned", "levels-learned", "levels-beta", "labels-posterior"],
)
def test_the_terms_sum_to_the_elbo_along_paths(spec, variance):
    """Row 83: E ln q(x_{1:T} | x_0) - ln p(x_{0:T}) over paths of q equals the sum of the terms."""
    model, paths = random_model(spec, variance=variance), 1000
    x = data(spec, 1)
    terms = model.bound_terms(x.expand(paths, *spec.size), noise=1)
    assert terms.shape == (paths, len(model.chain) + 1)
    with torch.no_grad():
        close_in_the_mean(terms.sum(1), path_wise(model, x, paths))


def path_wise(model, x, paths):
    """ln q(x_{1:T} | x_0) - ln p(x_{0:T}) of independent paths, from the definitions, [paths]."""
    chain, noise = model.chain, Noise.of(2, range(paths))
    u = model.scaling(x).expand(paths, *x.shape[1:])
    bars, xs, log_q = chain.alpha_bar, [u], torch.zeros(paths, dtype=torch.float64)
    ratios = bars / torch.cat((bars.new_ones(1), bars[:-1]))
    for t, ratio in enumerate(ratios):
        mean, log_var = ratio.sqrt() * xs[-1], (1 - ratio).log()
        xs.append(mean + (0.5 * log_var).exp() * noise.normal(*x.shape[1:], stream=t, dtype=torch.float64))
        log_q += log_normal(xs[-1], mean, log_var).flatten(1).sum(1)
    log_p = log_normal(xs[-1], torch.zeros_like(u), torch.zeros(())).flatten(1).sum(1)
    for t in range(len(bars) - 1, -1, -1):
        at, rows = xs[t + 1], torch.full((paths,), t)
        mean, variance = chain.split(model.network.given(Condition(), u)(at, rows))
        x0 = chain.predicted(mean, at, rows)
        x0 = x0.clamp(-1, 1) if model.scaling.bounded else x0
        log_var = chain._log_variance([row[0].expand(paths) for row in chain._at(rows[:1])[2:]], at, variance)
        if t:
            log_p += log_normal(xs[t], posterior(x0, at, bars[t], bars[t - 1])[0], log_var).flatten(1).sum(1)
        else:
            log_p += chain.decoder.log_prob(u, x0, log_var)
    if model.log_prob_measure == "density":
        log_p += model.scaling.log_det
    return log_q - log_p


@pytest.mark.parametrize("draws", [1, 3, 5, 7])
def test_log_prob_is_an_unbiased_estimate_of_the_sum(draws):
    model, repeats = random_model(SCAN, bound_draws=draws), 1000
    x = data(SCAN, 1).expand(repeats, *SCAN.size)
    with torch.no_grad():
        close_in_the_mean(model.log_prob(x, noise=3), -model.bound_terms(x, noise=4).sum(1))


def test_all_terms_leave_less_noise():
    x = data(SCAN, 1).expand(300, *SCAN.size)
    with torch.no_grad():
        one, all_terms = (random_model(SCAN, bound_draws=draws).log_prob(x, noise=3).std() for draws in (1, 5))
    assert all_terms < one / 2


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_with_the_true_reverse_process_the_bound_is_the_density(prediction):
    model = exact(steps=60, schedule="linear", prediction=prediction, variance="learned")
    x = torch.tensor([[0.3, -0.4], [1.1, 0.0]], dtype=torch.float64)
    found = model.bound_terms(x.repeat_interleave(2000, 0), noise=0).sum(1).view(2, 2000).T
    close_in_the_mean(-found, log_normal(x, torch.tensor(0.3), torch.tensor(2 * math.log(0.5))).sum(1))
    assert found.std(0).max() < 3


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("variance", ["beta", "posterior"])
def test_every_term_of_gaussian_data_in_closed_form(schedule, variance):
    """For x_0 ~ N(m, s^2) the error of the best x_0 is linear in x_0 and eps, so that each term's mean is known."""
    m, s, x = 0.3, 0.5, torch.tensor([[0.9, -0.2]], dtype=torch.float64)
    model = exact(steps=50, schedule=schedule, variance=variance)
    at = model.chain.alpha_bar
    before = torch.cat((at.new_ones(1), at[:-1]))
    gain = at.sqrt() * s**2 / (at * s**2 + 1 - at)
    squared = ((x - m).square().sum() * (1 - gain * at.sqrt()).square() + 2 * gain.square() * (1 - at))[1:]
    beta = 1 - at / before
    on_x0, own = (beta * before.sqrt() / (1 - at))[1:], (beta * (1 - before) / (1 - at))[1:]
    theirs = own if variance == "posterior" else beta[1:]
    kl = 0.5 * (on_x0.square() * squared / theirs + 2 * (own / theirs - 1 - (own / theirs).log()))
    found = model.bound_terms(x.expand(20_000, 2), noise=5)
    close_in_the_mean(found[:, 1:-1], kl)
    first = at[0]
    decoder = (x - m).square().sum() * (1 - gain[0] * first.sqrt()).square() + 2 * gain[0].square() * (1 - first)
    close_in_the_mean(found[:, 0], 0.5 * (decoder / own[0] + 2 * (own[0].log() + math.log(2 * math.pi))))


def test_the_prior_term_of_the_published_chain():
    """B.11.4: 2.9e-5 bits per dimension for data of unit variance."""
    model = medgen.create("ddpm", FEATURES, width=8, multipliers=[1], schedule="linear")
    bits = model.chain.prior(torch.ones(1, 2, dtype=torch.float64)) / (2 * math.log(2))
    assert bits.item() == pytest.approx(2.9e-5, rel=0.01)


def test_published_schedules():
    """B.11.1, through the family's own options."""
    chains = {s: medgen.create("ddpm", FEATURES, width=8, multipliers=[1], schedule=s).chain for s in ("linear", "cosine")}
    for t, bar in {1: 0.9999, 250: 0.524085, 500: 0.078587, 750: 0.0033506, 1000: 4.0358e-5}.items():
        assert chains["linear"].alpha_bar[t - 1].item() == pytest.approx(bar, rel=1e-4)
    assert chains["cosine"].alpha_bar[[499, 999]].tolist() == pytest.approx([0.493844, 2.4288e-9], rel=1e-4)
    low = chains["linear"]._at(torch.tensor([0, 1]))[2].exp()
    assert low.tolist() == pytest.approx([5.4532e-5] * 2, rel=1e-4)  # btilde_2 stands in for btilde_1


def test_units_change_the_density_by_their_scale():
    """The same network on data in [0, 1] and in [0, 100]."""
    one, hundred = (random_model(medgen.ImageSpec(channels=1, shape=(4,), intensity=Intensity(range=(0.0, top)))) for top in (1.0, 100.0))
    x = torch.rand(3, 1, 4, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(hundred.log_prob(100 * x), one.log_prob(x) - 4 * math.log(100))
        torch.testing.assert_close(hundred.bound_terms(100 * x).sum(1), one.bound_terms(x).sum(1) + 4 * math.log(100))


@given(mean=st.floats(-2, 2), log_var=st.floats(-12, 2), low=st.sampled_from([0.0, -3.0, 10.4]), levels=st.integers(2, 300))
def test_masses_of_levels_sum_to_one(mean, log_var, low, levels):
    rule = Intensity(low=(low,), high=(low + levels - 1,), dtype="int16")
    decoder = Decoder(medgen.ImageSpec(channels=1, shape=(), intensity=rule))
    stored = torch.arange(round(low), round(low + levels - 1) + 1, dtype=torch.float64)
    x0 = (2 * (stored - low) / (levels - 1) - 1).clamp(-1, 1)[:, None]
    found = decoder.log_prob(x0, torch.tensor(mean, dtype=torch.float64), torch.tensor(log_var, dtype=torch.float64))
    assert decoder.mass
    assert found.exp().sum().item() == pytest.approx(1, abs=1e-6)


@given(mean=st.lists(st.floats(-3, 3), min_size=3, max_size=3), log_var=st.floats(-12, 2))
def test_masses_of_classes_sum_to_one(mean, log_var):
    decoder = Decoder(LABELS)
    x0 = (2 * torch.eye(3, dtype=torch.float64) - 1)[:, :, None, None]
    found = decoder.log_prob(x0, torch.tensor(mean, dtype=torch.float64).view(1, 3, 1, 1), torch.tensor(log_var, dtype=torch.float64))
    assert decoder.mass
    assert found.exp().sum().item() == pytest.approx(1, abs=1e-9)
    assert int(found.argmax()) == int(torch.tensor(mean).argmax()) or math.isclose(sorted(mean)[-1], sorted(mean)[-2], abs_tol=1e-6)


def test_conditions_move_every_term():
    label = ConditionSpec(name="label", kind="label", names=("a", "b"))
    model, x = random_model(SCAN, [label], prediction="v"), data(SCAN, 2)
    a, b = (model.bound_terms(x, condition=Condition({"label": torch.tensor([k, k])})) for k in (0, 1))
    assert bool((a[:, :-1] != b[:, :-1]).all())
    torch.testing.assert_close(a[:, -1], b[:, -1])  # of the prior
