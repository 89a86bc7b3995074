"""Precision, recall, density, coverage and nearest neighbours on sets whose answers are known."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medgen.errors import DataError
from medgen.evaluation.distances import nearest, radii
from medgen.evaluation.prdc import coverage, density, precision, recall
from medgen.ops import philox_normal

ALL = (precision, recall, density, coverage)


def normal(n, f, seed=0):
    return philox_normal(seed, torch.arange(n), (f,), dtype=torch.float64)


def test_disjoint_clusters_give_zero():
    assert [metric(normal(50, 3), normal(50, 3, 1) + 100) for metric in ALL] == [0.0] * 4


def test_identical_sets_give_one():
    x = normal(80, 3)
    assert (precision(x, x), recall(x, x), coverage(x, x)) == (1.0, 1.0, 1.0)
    # each x_i's open ball holds itself and k - 1 others: exactly k in all
    assert density(x, x) == pytest.approx(1.0)


def test_dropping_a_mode_lowers_recall_and_coverage_not_precision():
    real = torch.cat([normal(100, 2), normal(100, 2, 1) + 50])
    fake = normal(200, 2, 2)
    assert precision(real, fake) > 0.9
    assert recall(real, fake) <= 0.5
    assert coverage(real, fake) <= 0.5


def test_inventing_a_mode_lowers_precision_not_recall():
    real = normal(200, 2)
    fake = torch.cat([normal(100, 2, 1), normal(100, 2, 2) + 50])
    assert precision(real, fake) <= 0.5
    assert recall(real, fake) > 0.9


def test_coverage_has_its_expectation_for_equal_distributions():
    """1 - (N - 1) ... (N - k) / ((2N - 1) ... (2N - k)): Naeem et al., proposition 2."""
    n, k = 60, 5
    expected = 1 - math.prod((n - i) / (2 * n - i) for i in range(1, k + 1))
    values = [coverage(normal(n, 2, 2 * s), normal(n, 2, 2 * s + 1)) for s in range(60)]
    assert sum(values) / 60 == pytest.approx(expected, abs=0.008)


def naive(real, fake, k):
    def ball(x):
        return [sorted(math.dist(a, b) for j, b in enumerate(x) if j != i)[k - 1] for i, a in enumerate(x)]

    r, g = ball(real), ball(fake)
    n, m = range(len(real)), range(len(fake))
    d = [[math.dist(a, b) for b in fake] for a in real]
    return (
        sum(any(d[i][j] <= r[i] for i in n) for j in m) / len(m),
        sum(any(d[i][j] <= g[j] for j in m) for i in n) / len(n),
        sum(d[i][j] < r[i] for i in n for j in m) / (k * len(m)),
        sum(min(d[i]) < r[i] for i in n) / len(n),
    )


@given(st.integers(7, 20), st.integers(7, 20), st.integers(1, 4), st.integers(1, 6), st.integers(0, 50))
@settings(max_examples=25, deadline=None)
def test_all_four_are_their_definitions(n, m, f, k, seed):
    real, fake = normal(n, f, seed), normal(m, f, seed + 100) + 0.5
    values = [metric(real, fake, k=k) for metric in ALL]
    assert values == pytest.approx(naive(real.tolist(), fake.tolist(), k))


def test_blocks_do_not_change_the_figures(monkeypatch):
    real, fake = normal(40, 2), normal(33, 2, 1)
    whole = [metric(real, fake) for metric in ALL]
    monkeypatch.setattr("medgen.evaluation.distances._ENTRIES", 100)
    assert [metric(real, fake) for metric in ALL] == whole


def test_copies_have_distance_zero_and_are_found():
    real = normal(30, 5) + 1000.0
    distance, row = nearest(real, real[[4, 17]], k=2)
    assert row[:, 0].tolist() == [4, 17]
    assert distance[:, 0].tolist() == [0.0, 0.0]
    assert bool((distance[:, 1] > 0.1).all())


def test_nearest_equals_torch_cdist():
    real, fake = normal(30, 6), normal(11, 6, 1)
    expected = torch.cdist(fake, real).sort(1)
    distance, row = nearest(real, fake, k=5)
    assert torch.allclose(distance, expected.values[:, :5], atol=1e-9)
    assert torch.equal(row, expected.indices[:, :5])


def test_radii_skip_the_sample_itself_but_not_its_copies():
    assert radii(torch.tensor([[0.0], [1.0], [3.0]]).double(), 1).tolist() == [1.0, 1.0, 4.0]
    assert radii(torch.tensor([[2.0], [2.0], [5.0]]).double(), 1).tolist() == [0.0, 0.0, 9.0]


@pytest.mark.parametrize("metric", ALL)
def test_too_few_samples_are_refused(metric):
    with pytest.raises(DataError, match="at least 8 rows"):
        metric(normal(7, 2), normal(20, 2), k=7)
    with pytest.raises(DataError, match="`k` must be at least 1"):
        metric(normal(7, 2), normal(20, 2), k=0)


@pytest.mark.parametrize("k", [0, 6])
def test_nearest_refuses_a_k_it_cannot_find(k):
    with pytest.raises(DataError, match=r"`k` must be in 1\.\.5"):
        nearest(normal(5, 2), normal(3, 2), k=k)
