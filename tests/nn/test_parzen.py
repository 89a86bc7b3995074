"""`Parzen`: equal to SciPy and scikit-learn where they define the same; the likelihood of left-out points by its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import gaussian_kde

from medgen.errors import ConfigError, DataError
from medgen.interfaces import Noise
from medgen.maths import bandwidth_scale
from medgen.nn import Parzen
from medgen.nn.parzen import fit_factor, grid_factor, leave_one_out_factor
from medgen.ops import parzen_log_density

F64 = torch.float64


def normal(n, dim, seed=0):
    return torch.randn(n, dim, generator=torch.Generator().manual_seed(seed), dtype=F64)


@given(st.integers(5, 200), st.integers(1, 4), st.sampled_from(["scott", "silverman"]), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_full_is_scipys(n, dim, rule, seed):
    x, y = normal(n + dim, dim, seed) * 3 + 1, normal(20, dim, seed + 1) * 4
    ours = Parzen.fit(x, rule, "full").log_prob(y)
    theirs = gaussian_kde(x.numpy().T, rule).logpdf(y.numpy().T)
    near = theirs > -300  # SciPy's logpdf has no digits where its exp underflows
    np.testing.assert_allclose(ours.numpy()[near], theirs[near], rtol=1e-7, atol=1e-7)


def test_weighted_is_scipys():
    x, w, y = normal(60, 2), torch.rand(60, dtype=F64), normal(20, 2, 1)
    kde = gaussian_kde(x.numpy().T, weights=w.numpy())
    ours = Parzen(x, torch.linalg.cholesky(torch.from_numpy(kde.covariance)), w)
    np.testing.assert_allclose(ours.log_prob(y).numpy(), kde.logpdf(y.numpy().T), rtol=1e-9)


@pytest.mark.parametrize("h", [0.2, 1.0])
def test_absolute_is_scikit_learns(h):
    """Without its tree, whose densities of far points are off by nats."""
    neighbors = pytest.importorskip("sklearn.neighbors", reason="scikit-learn is not installed")
    x, y = normal(300, 3), normal(50, 3, 1)
    theirs = neighbors.KernelDensity(bandwidth=h, leaf_size=300).fit(x.numpy()).score_samples(y.numpy())
    np.testing.assert_allclose(Parzen.fit(x, "fixed", "absolute", fixed=h).log_prob(y).numpy(), theirs, rtol=1e-8)


def test_the_grid_is_scikit_learns_search():
    """The recipe of Painchaud's densification: GridSearchCV over logspace(-1, 1, 100)."""
    selection = pytest.importorskip("sklearn.model_selection", reason="scikit-learn is not installed")
    from sklearn.neighbors import KernelDensity

    x = normal(80, 2)
    folds = [(np.flatnonzero(np.arange(80) % 5 != k), np.flatnonzero(np.arange(80) % 5 == k)) for k in range(5)]
    search = selection.GridSearchCV(KernelDensity(leaf_size=80), {"bandwidth": np.logspace(-1, 1, 100)}, cv=folds).fit(x.numpy())
    assert grid_factor(x, bandwidth_scale(x, "absolute")) == pytest.approx(search.best_params_["bandwidth"], rel=1e-12)


@pytest.mark.parametrize("kind", ["absolute", "scalar", "diagonal", "full"])
def test_leave_one_out_is_the_best_by_its_definition(kind):
    x = normal(60, 2) * torch.tensor([1.0, 3.0])
    scale = bandwidth_scale(x, kind)

    def score(factor):
        others = [torch.cat([x[:i], x[i + 1 :]]) for i in range(len(x))]
        return sum(float(parzen_log_density(x[i : i + 1], others[i], factor * scale)) for i in range(len(x)))

    best = leave_one_out_factor(x, scale)
    assert all(score(best) >= score(best * step) for step in (0.9, 0.99, 1.01, 1.1))


def test_rules_do_not_depend_on_units():
    x = normal(200, 3)
    for rule in ("scott", "silverman", "leave_one_out"):
        for kind in ("absolute", "scalar", "diagonal", "full"):
            one, thousand = Parzen.fit(x, rule, kind), Parzen.fit(1000 * x, rule, kind)
            torch.testing.assert_close(thousand.bandwidth, 1000 * one.bandwidth, rtol=1e-3, atol=0)
    assert fit_factor(x, bandwidth_scale(x, "absolute"), "scott") == pytest.approx(200 ** (-1 / 7) * float(bandwidth_scale(x, "scalar")))


def test_draws_follow_the_density():
    density = Parzen(torch.tensor([[-3.0, 0.0], [3.0, 0.0]]), torch.tensor([0.5, 2.0]), torch.tensor([1.0, 3.0]))
    x = density.draw(Noise.of(0, range(20_000)))
    right = x[:, 0] > 0
    assert float(right.float().mean()) == pytest.approx(0.75, abs=0.015)
    torch.testing.assert_close(x[right].mean(0), torch.tensor([3.0, 0.0]), atol=0.08, rtol=0)
    torch.testing.assert_close(x[right].std(0), torch.tensor([0.5, 2.0]), atol=0, rtol=0.03)


@pytest.mark.parametrize("weights", [None, torch.ones(7)])
def test_state_of_any_size_comes_back(weights):
    kept = Parzen(torch.randn(7, 2), torch.eye(2), weights)
    other = Parzen(torch.zeros(1, 2), 1.0, None if weights is None else torch.ones(1))
    other.load_state_dict(kept.state_dict())
    y = torch.randn(5, 2)
    assert torch.equal(other.log_prob(y), kept.log_prob(y))


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: Parzen(torch.zeros(0, 2), 1.0), ConfigError, "at least one point"),
        (lambda: Parzen(torch.tensor([[math.nan]]), 1.0), DataError, "must be finite"),
        (lambda: Parzen(torch.zeros(1, 2), -1.0), ConfigError, "must be positive"),
        (lambda: Parzen(torch.zeros(1, 2), torch.ones(3)), ConfigError, r"\[D, D\] with D = 2"),
        (lambda: Parzen(torch.zeros(2, 2), 1.0, torch.zeros(2)), ConfigError, "not all 0"),
        (lambda: Parzen.fit(normal(9, 1), "best"), ConfigError, "`rule` must be"),
        (lambda: Parzen.fit(normal(9, 1), "fixed", fixed=-1.0), ConfigError, "positive factor"),
        (lambda: Parzen.fit(normal(9, 1), "grid", folds=1), ConfigError, "`folds` must be"),
        (lambda: Parzen.fit(normal(4, 1).repeat(2, 1), "leave_one_out"), DataError, "4 of 8 points repeat others"),
        (lambda: leave_one_out_factor(normal(1, 1), torch.ones((), dtype=F64)), DataError, "at least two points"),
        (lambda: grid_factor(normal(1, 1), torch.ones((), dtype=F64)), DataError, "at least two points"),
    ],
)
def test_mistakes(call, error, said):
    with pytest.raises(error, match=said):
        call()
