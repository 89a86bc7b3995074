import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from medgen.data.phantoms import Banana, GaussianMixture, TwoMoons, eight_gaussians, twenty_five_gaussians
from medgen.errors import DataError

DENSITIES = {
    "8": (eight_gaussians(sd=0.2), (-4, 4), (-4, 4)),
    "25": (twenty_five_gaussians(sd=0.3), (-3, 3), (-3, 3)),
    "moons": (TwoMoons(0.1), (-2.5, 3.5), (-2, 2.5)),
    "banana": (Banana(), (-6.5, 6.5), (-45, 6)),
}


@pytest.mark.parametrize("name", DENSITIES)
def test_integrates_to_one(name):
    density, xs, ys = DENSITIES[name]
    x, y = np.linspace(*xs, 200, endpoint=False), np.linspace(*ys, 400, endpoint=False)
    p = np.exp(density.log_prob(np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2)))
    assert p.sum() * (x[1] - x[0]) * (y[1] - y[0]) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("name", DENSITIES)
def test_samples_follow_the_density(name):
    density, *_ = DENSITIES[name]
    n, cells = 6000, 12
    points = density.sample(n, seed=7)
    low, high = points.min(0) - 1e-9, points.max(0) + 1e-9
    edges = [np.linspace(low[k], high[k], cells + 1) for k in range(2)]
    fine = [np.linspace(low[k], high[k], cells * 16 + 1) for k in range(2)]
    middle = [0.5 * (f[1:] + f[:-1]) for f in fine]
    p = np.exp(density.log_prob(np.stack(np.meshgrid(*middle, indexing="ij"), -1).reshape(-1, 2)))
    area = (fine[0][1] - fine[0][0]) * (fine[1][1] - fine[1][0])
    expected = n * area * p.reshape(cells, 16, cells, 16).sum((1, 3))
    found, _, _ = np.histogram2d(*points.T, bins=edges)
    used = expected > 8
    chi2 = ((found - expected)[used] ** 2 / expected[used]).sum() + (found[~used].sum() - expected[~used].sum()) ** 2 / max(
        expected[~used].sum(), 1
    )
    assert stats.chi2.sf(chi2, used.sum()) > 1e-3


def test_banana_values():
    np.testing.assert_allclose(Banana().log_prob(np.array([[0.0, 0.0], [1.0, -2.0]])), [-2.337877, -2.337877], atol=5e-7)


@given(x=st.tuples(st.floats(-3, 3), st.floats(-10, 3)))
def test_banana_is_the_change_of_variables(x):
    u = np.array([x[0], x[1] + x[0] ** 2 + 1])
    assert Banana().log_prob(np.array([x]))[0] == pytest.approx(stats.norm.logpdf(u).sum(), abs=1e-9)


def test_mixture_is_exact():
    mixture, x = eight_gaussians(), np.array([[2.01, 0.0], [0.0, -1.97], [1.4, 1.42], [0.0, 0.0]])
    by_hand = np.mean([stats.multivariate_normal(m, 0.02**2 * np.eye(2)).pdf(x) for m in mixture.means], axis=0)
    np.testing.assert_allclose(mixture.log_prob(x[:3]), np.log(by_hand[:3]), rtol=1e-12)
    # Far from every mode the density underflows, its logarithm does not.
    assert mixture.log_prob(x[3:])[0] == pytest.approx(-0.5 * (2 / 0.02) ** 2 - math.log(2 * math.pi * 0.02**2), rel=1e-12)


@settings(max_examples=15, deadline=None)
@given(sd=st.floats(0.02, 0.5), angle=st.floats(0, 2 * math.pi), reach=st.floats(0, 6))
def test_two_moons_against_adaptive_quadrature(sd, angle, reach):
    centre = np.array([math.cos(0.8), math.sin(0.8)])
    x = centre + reach * sd * np.array([math.cos(angle), math.sin(angle)])

    def integrand(t, k):
        c = np.array([math.cos(t), math.sin(t)]) if k == 0 else np.array([1 - math.cos(t), 0.5 - math.sin(t)])
        return math.exp(-0.5 * ((x - c) ** 2).sum() / sd**2) / (2 * math.pi * sd**2) / (2 * math.pi)

    places = np.linspace(0, math.pi, 40)[1:-1].tolist()
    p = sum(integrate.quad(integrand, 0, math.pi, args=(k,), points=places, epsabs=0, epsrel=1e-11, limit=200)[0] for k in (0, 1))
    assert TwoMoons(sd).log_prob(x[None])[0] == pytest.approx(math.log(p), abs=1e-8)


def test_modes_are_distinct_and_counted():
    ring, lattice = eight_gaussians(), twenty_five_gaussians()
    angles = np.sort(np.mod([math.atan2(y, x) for x, y in ring.means], 2 * math.pi) + 1e-12)
    np.testing.assert_allclose(np.diff(angles), math.pi / 4, atol=1e-9)
    assert len({tuple(np.round(m, 6)) for m in lattice.means}) == 25
    assert ring.captured(ring.sample(2500)) == (8, pytest.approx(1 - math.exp(-4.5), abs=0.01))  # P(r < 3 sd) in 2-D
    assert lattice.captured(lattice.sample(2500))[0] == 25
    collapsed = np.tile(ring.means[3], (100, 1))
    assert ring.captured(collapsed) == (1, 1.0)
    assert ring.captured(np.zeros((10, 2))) == (0, 0.0)
    assert ring.captured(collapsed, at_least=101)[0] == 0


def test_points_do_not_depend_on_n():
    for density, *_ in DENSITIES.values():
        np.testing.assert_array_equal(density.sample(5, 3), density.sample(20, 3)[:5])
        assert not np.array_equal(density.sample(5, 3), density.sample(5, 4))


@pytest.mark.parametrize("make", [lambda: GaussianMixture(((0.0, 0.0),), 0.0), lambda: TwoMoons(0.001), lambda: TwoMoons(math.nan)])
def test_bad_widths(make):
    with pytest.raises(DataError, match="sd"):
        make()


def test_no_points():
    with pytest.raises(DataError, match="`n`"):
        Banana().sample(0)
