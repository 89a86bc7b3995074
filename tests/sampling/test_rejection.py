"""Rejection: accepted points follow the target, whatever the proposal; the share accepted is what theory says; violations are counted."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import medgen
from medgen.errors import ConfigError, DataError
from medgen.evaluation import mmd_permutation_test
from medgen.interfaces import Noise
from medgen.nn import Parzen
from medgen.sampling.rejection import (
    Gaussian,
    GaussianMixture,
    ModelDensity,
    Target,
    density_of,
    kernels,
    make_envelope,
    reject,
    within,
)

F64 = torch.float64


def normal(n, dim, seed=0):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed))


def clusters(n=300, dim=2, seed=0):
    centres = normal(3, dim, seed + 1) * 2
    return centres[torch.arange(n) % 3] + 0.6 * normal(n, dim, seed)


@pytest.fixture(scope="module")
def p():
    return Parzen.fit(clusters(), "scott", "full")


def proposals(p):
    draws = p.draw(Noise.of(99, range(4000)))
    flow = medgen.create("maf", medgen.ImageSpec(channels=p.dim, shape=(), content="features"), layers=1, hidden=[8])
    with torch.no_grad():  # a standard normal at first, whose log-density lies everywhere
        for parameter in flow.parameters():
            parameter.mul_(0.1)
    return {
        "kernels": kernels(Target(p)),
        "widened": kernels(Target(p), 1.3),
        "gaussian": Gaussian.fit(p.points),
        "mixture": GaussianMixture.fit(draws, 3),
        "flow": ModelDensity(flow),
    }


NAMES = ("kernels", "widened", "gaussian", "mixture", "flow")


class TestDistribution:
    @pytest.mark.parametrize("name", NAMES[1:])
    def test_every_proposal_gives_what_direct_draws_give(self, p, name):
        """With k = 2 times the largest P / Q found, so that nearly nothing is cut off."""
        q = proposals(p)[name]
        log_k = make_envelope(Target(p), q, data=p.draw(Noise.of(5, range(4000)))).log_k
        found = reject(p, q, 2000, seed=3, envelope=log_k + math.log(2.0), patience=None)
        assert found.violations < 5e-5
        direct = p.draw(Noise.of(8, range(2000)))
        assert mmd_permutation_test(direct[:800], found.points[:800], permutations=199)[1] > 0.01
        for k in range(p.dim):
            assert stats.ks_2samp(direct[:, k].numpy(), found.points[:, k].numpy()).pvalue > 0.005

    def test_the_tests_above_see_another_distribution(self, p):
        other = Parzen(p.points, 1.5 * p.bandwidth).draw(Noise.of(3, range(2000)))
        direct = p.draw(Noise.of(8, range(2000)))
        assert mmd_permutation_test(direct[:800], other[:800] + 0.4, permutations=199)[1] <= 0.01

    def test_the_mixture_of_the_densification(self):
        """B.5.4: N([4, 0], I) and N([-2, 0], 2 I), 250 points each, 5000 accepted through a Gaussian; their means are found again."""
        points = torch.cat([normal(250, 2) + torch.tensor([4.0, 0.0]), math.sqrt(2) * normal(250, 2, 1) - torch.tensor([2.0, 0.0])])
        p = Parzen.fit(points, "leave_one_out", "absolute")
        found = reject(p, Gaussian.fit(points), 5000, seed=1)
        fitted = GaussianMixture.fit(found.points, 2)
        left, right = fitted.means[fitted.means[:, 0].argsort()]
        of_data = points[250:].mean(0), points[:250].mean(0)
        torch.testing.assert_close(left, of_data[0].double(), atol=0.2, rtol=0)
        torch.testing.assert_close(right, of_data[1].double(), atol=0.2, rtol=0)
        assert found.violations < 1e-3


class TestAcceptance:
    @pytest.mark.parametrize("name", NAMES)
    def test_is_one_over_k(self, p, name):
        q = proposals(p)[name]
        bounds = make_envelope(Target(p), q)
        found = reject(p, q, 3000)
        assert found.interval[0] * 0.98 < math.exp(-bounds.log_k) < found.interval[1] * 1.02
        assert found.plan.acceptance == pytest.approx(math.exp(-bounds.log_k), rel=0.02)

    @given(st.integers(1, 12), st.sampled_from(["scalar", "diagonal", "full"]), st.floats(1.0, 2.0), st.floats(0.3, 4.0), st.booleans())
    @settings(max_examples=60, deadline=None)
    def test_kernels_are_covered_by_wider_kernels(self, dim, kind, widen, temperature, weighted):
        """Also to a power, also far out, also between points that lie on each other."""
        points = normal(40, dim, dim).double()
        points[5:10] = points[4]
        p = Parzen.fit(points, "scott", "diagonal" if kind == "full" and dim > 6 else kind)
        p = Parzen(p.points, p.bandwidth, torch.rand(40) + 0.01 if weighted else None)
        target = Target(p, temperature=temperature)
        q = kernels(target, widen)
        bounds = make_envelope(target, q)
        assert bounds.provable
        y = torch.cat([p.points, p.draw(Noise.of(1, range(200))), q.draw(Noise.of(2, range(200))), 5 * normal(100, dim).double()])
        excess = target.log_prob(y) - bounds.log_k - q.log_prob(y)
        assert float(excess.max()) < 1e-4  # the bandwidth is a square root, rounded
        if temperature == 1.0 or not weighted:
            alone = Target(Parzen(p.points[:1], p.bandwidth), temperature=temperature)
            wide = kernels(alone, widen)
            ratio = alone.log_prob(p.points[:1]) - wide.log_prob(p.points[:1])
            assert float(ratio) == pytest.approx(make_envelope(alone, wide).log_k, abs=1e-4), "no constant below it would do"

    def test_narrower_or_other_kernels_have_no_closed_form(self, p):
        assert not make_envelope(Target(p), Parzen(p.points, 0.9 * p.bandwidth)).provable
        assert not make_envelope(Target(p), Parzen(p.points + 1, 2 * p.bandwidth)).provable
        assert not make_envelope(Target(p), Parzen(p.points, 2 * p.bandwidth, torch.rand(300))).provable
        assert make_envelope(Target(p), Parzen(p.points, torch.eye(2) * 9)).provable
        with pytest.raises(ConfigError, match="`widen` must be at least 1"):
            kernels(Target(p), 0.9)

    def test_violations_are_counted(self, p):
        """P > k Q on half of P's mass, and where it is, the points are too few."""
        q = kernels(Target(p), 1.3)
        right = 2 * math.log(1.3)
        found = reject(p, q, 5000, envelope=right - 0.5)
        index = torch.arange(found.tally.proposed)
        y = q.draw(Noise(0, index))
        excess = p.log_prob(y) - q.log_prob(y) - (right - 0.5)
        assert found.tally.violations == pytest.approx(int((excess > 1e-4).sum()), abs=3)
        assert found.tally.excess == pytest.approx(float(excess.max()), abs=1e-4)
        assert 0.3 < found.tally.excess <= 0.5
        assert "P > k Q at" in str(found)

    def test_the_quartile_accepts_more_and_says_what_it_is(self, p):
        q = Gaussian.fit(p.points)
        most, quartile = (make_envelope(Target(p), q, mode) for mode in ("max", "quartile"))
        assert quartile.log_k < most.log_k
        assert "does not bound P" in quartile.source
        found = reject(p, q, 2000, envelope="quartile")
        assert found.violations > 0.01
        assert found.acceptance == pytest.approx(found.plan.acceptance, rel=0.1)

    def test_a_pilot_refuses_at_once_what_would_never_end(self):
        points = clusters(2000, 16)
        p = Parzen.fit(points, "scott", "full")
        with pytest.raises(ConfigError, match=r"would take too long: it accepts about \d.*e-\d+ of its proposals .* leave `proposal` out"):
            reject(p, Gaussian.fit(points), 1_000_000, patience=60)
        found = reject(p, Gaussian.fit(points), 500, patience=1.0, envelope=25.0, switch=True)
        assert found.envelope.provable
        assert "took the kernels of the target" in found.note
        assert found.acceptance == 1.0

    def test_conditions_that_nothing_meets(self, p):
        with pytest.raises(ConfigError, match=r"none of its pilot's proposals .* for ever"):
            reject(Target(p, keep=[within(0, low=1e6)]), n=10)


class TestTargets:
    """Truncated and tempered normals: one kernel, whose every number is known."""

    one = Parzen(torch.zeros(1, 1), 1.0)

    @pytest.mark.parametrize("name", ["kernels", "gaussian"])
    def test_a_range(self, name):
        q = None if name == "kernels" else Gaussian(torch.zeros(1), 1.5 * torch.eye(1))
        found = reject(Target(self.one, keep=[within(0, 0.5, 2.0)]), q, 4000, envelope="auto" if q is None else math.log(1.5))
        mass = stats.norm.cdf(2.0) - stats.norm.cdf(0.5)
        assert stats.kstest(found.points[:, 0].numpy(), stats.truncnorm(0.5, 2.0).cdf).pvalue > 0.01
        assert found.acceptance == pytest.approx(mass / (1.0 if q is None else 1.5), rel=0.06)
        assert found.plan.acceptance == pytest.approx(found.acceptance, rel=0.15)
        assert found.tally.passed > found.tally.accepted

    @pytest.mark.parametrize("temperature", [0.25, 1.0, 4.0])
    @pytest.mark.parametrize("widen", [1.0, 1.5])
    def test_a_power(self, temperature, widen):
        """N(0, 1)^(1 / T) is N(0, T)."""
        target = Target(self.one, temperature=temperature)
        found = reject(target, kernels(target, widen), 4000)
        assert stats.kstest(found.points[:, 0].numpy(), stats.norm(0, math.sqrt(temperature)).cdf).pvalue > 0.01
        assert found.acceptance == pytest.approx(1 / widen, rel=0.05)

    @pytest.mark.parametrize("temperature", [0.5, 2.0])
    def test_a_power_of_a_mixture(self, temperature):
        """Against numerical integration."""
        p = Parzen(torch.tensor([[-1.0], [0.0], [1.7]]), 0.5, torch.tensor([1.0, 2.0, 1.0]))
        found = reject(Target(p, temperature=temperature), n=4000)
        grid = torch.linspace(-9, 9, 4001, dtype=F64)
        mass = (p.log_prob(grid[:, None]) / temperature).exp()
        cdf = mass.cumsum(0) / mass.sum()
        assert stats.kstest(found.points[:, 0].numpy(), lambda y: np.interp(y, grid.numpy(), cdf.numpy())).pvalue > 0.01
        assert found.tally.violations == 0
        total = float(mass.sum() * (grid[1] - grid[0]))
        assert found.acceptance == pytest.approx(total / math.exp(found.envelope.log_k), rel=0.05)

    def test_conditions_are_asked_in_turn_and_about_accepted_points_only(self):
        seen = []

        def first(x):
            seen.append(len(x))
            return x[:, 0] > 0

        def second(x):
            assert (x[:, 0] > 0).all()
            return x[:, 1] > 0

        p = Parzen(torch.zeros(1, 2), 1.0)
        found = reject(Target(p, keep=[first, second]), kernels(Target(p), 2.0), 500, patience=None)
        assert (found.points > 0).all()
        assert sum(seen) == found.tally.passed < found.tally.proposed / 3

    def test_a_trained_model_as_target(self):
        flow = medgen.create("banana", medgen.ImageSpec(channels=2, shape=(), content="features"))
        q = Parzen(ModelDensity(flow).draw(Noise.of(3, range(2000))), 0.6)
        found = reject(Target(ModelDensity(flow), keep=[within(0, low=0.0)]), q, 1500, data=q.points[:500], envelope="max")
        direct = flow.sample(4000, noise=5)
        direct = direct[direct[:, 0] > 0][:1500]
        assert stats.ks_2samp(direct[:, 1].numpy(), found.points[:, 1].numpy()).pvalue > 0.01


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (reject, ConfigError, "`n` must be given"),
        (lambda p: reject(p, n=3, seed=-1), ConfigError, "`seed` in"),
        (lambda p: reject(p, n=3, cell=0), ConfigError, "`cell` must be"),
        (lambda p: reject(p, n=3, devices=0), ConfigError, "`devices` must be at least 1"),
        (lambda p: reject(p, n=3, shard=range(3)), ConfigError, "a `shard` is a range of cells"),
        (lambda p: reject(p, n=3, envelope="most"), ConfigError, "`envelope` must be"),
        (lambda p: reject(p, n=3, envelope=math.inf), ConfigError, "must be finite"),
        (lambda p: Target(p, temperature=0), ConfigError, "`temperature` must be positive"),
        (lambda p: within(0, 2, 1), ConfigError, "low < high"),
        (lambda p: reject(Target(p, keep=[lambda x: x]), n=3), ConfigError, r"must answer bool \[B\]"),
        (lambda p: Gaussian(torch.zeros(2), torch.eye(3)), ConfigError, r"`mean` must be \[D\]"),
        (lambda p: GaussianMixture.fit(p.points[:5], 3), DataError, "need at least 9 points"),
        (lambda p: make_envelope(Target(Gaussian.fit(p.points)), p), ConfigError, "give some as `data`"),
        (lambda p: kernels(Target(Gaussian.fit(p.points))), ConfigError, "kernels are proposals for a Parzen density"),
        (lambda p: density_of(medgen.create("vae", medgen.ImageSpec(channels=1, shape=(8, 8)))), ConfigError, "needs an exact density"),
    ],
)
def test_mistakes(p, call, error, said):
    with pytest.raises(error, match=said):
        call(p)


def test_a_cold_model_does_not_draw_from_its_density():
    flow = medgen.create("maf", medgen.ImageSpec(channels=2, shape=(), content="features"), temperature=0.7)
    with pytest.raises(ConfigError, match="temperature must be 1"):
        ModelDensity(flow)


def test_a_density_that_is_nan_is_named(p):
    class Broken:
        def log_prob(self, x):
            return torch.where(x[:, 0] > 0, torch.nan, 0.0)

    with pytest.raises(DataError, match="is NaN at proposal"):
        reject(Broken(), Gaussian.fit(p.points), 10, envelope=3.0, patience=None)
