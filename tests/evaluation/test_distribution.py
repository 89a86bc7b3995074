"""Frechet distance and kernel distances against closed forms, other packages, and what they must not do."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medgen.errors import DataError
from medgen.evaluation.distribution import frechet_distance, frechet_from_moments, kid, median_bandwidth, mmd, mmd_permutation_test
from medgen.ops import philox_normal


def normal(n, f, seed=0):
    return philox_normal(seed, torch.arange(n), (f,), dtype=torch.float64)


def with_moments(n, mean, root):
    """Samples whose sample mean and covariance are exactly `mean` and root^T root."""
    x = normal(n, len(mean), seed=3)
    x = x - x.mean(0)
    white = x @ torch.linalg.inv(torch.linalg.cholesky(x.T @ x / (n - 1)).T)
    return white @ root + mean


def test_standard_normal_against_n_1_4_is_two():
    one = torch.ones(1, 1)
    assert frechet_from_moments(torch.zeros(1), one, torch.ones(1), 4 * one) == pytest.approx(2.0, abs=1e-12)
    real = with_moments(50, torch.zeros(1).double(), torch.eye(1).double())
    fake = with_moments(50, torch.ones(1).double(), 2 * torch.eye(1).double())
    assert frechet_distance(real, fake) == pytest.approx(2.0, abs=1e-10)


def test_diagonal_gaussians_have_the_closed_form():
    sd_r, sd_g = torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([3.0, 0.1, 0.5]).double()
    mean = torch.tensor([1.0, -2.0, 0.5]).double()
    real = with_moments(40, torch.zeros(3).double(), torch.diag(sd_r))
    fake = with_moments(40, mean, torch.diag(sd_g))
    expected = float(mean.pow(2).sum() + (sd_r - sd_g).pow(2).sum())
    assert frechet_distance(real, fake) == pytest.approx(expected, abs=1e-9)


def test_commuting_covariances_that_are_not_diagonal():
    q = torch.linalg.qr(normal(4, 4)).Q
    a, b = torch.tensor([1.0, 4.0, 9.0, 0.25]).double(), torch.tensor([4.0, 1.0, 16.0, 0.0]).double()
    value = frechet_from_moments(torch.zeros(4), q @ torch.diag(a) @ q.T, torch.zeros(4), q @ torch.diag(b) @ q.T)
    assert value == pytest.approx(float((a.sqrt() - b.sqrt()).pow(2).sum()), abs=1e-6)


def test_features_and_moments_agree_and_equal_torchmetrics():
    fid = pytest.importorskip("torchmetrics.image.fid")
    real, fake = normal(200, 12), normal(150, 12, seed=1) * 1.3 + 0.2
    moments = [v for x in (real, fake) for v in (x.mean(0), torch.cov(x.T))]
    value = frechet_distance(real, fake)
    assert value == pytest.approx(frechet_from_moments(*moments), abs=1e-9)
    assert value == pytest.approx(float(fid._compute_fid(*moments)), abs=1e-8)


@pytest.mark.parametrize(("n", "f"), [(2, 1), (3, 10), (10, 64), (64, 64), (100, 5)])
def test_equal_sets_have_distance_zero_at_any_rank(n, f):
    x = normal(n, f)
    scale = float(x.pow(2).sum(1).mean())
    assert 0.0 <= frechet_distance(x, x[torch.arange(n).flip(0)]) <= 1e-10 * scale


@given(st.integers(2, 40), st.integers(2, 40), st.integers(1, 20), st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_frechet_is_symmetric_rotation_invariant_finite_and_scales(n, m, f, seed):
    real, fake = normal(n, f, seed), 0.5 * normal(m, f, seed + 1000) + 1
    value = frechet_distance(real, fake)
    rotation = torch.linalg.qr(normal(f, f, seed + 7)).Q
    assert math.isfinite(value)
    assert value >= 0
    tolerance = 1e-9 * (1 + value) * f
    assert frechet_distance(fake, real) == pytest.approx(value, abs=tolerance)
    assert frechet_distance(real @ rotation + 3, fake @ rotation + 3) == pytest.approx(value, abs=tolerance)
    assert frechet_distance(2 * real, 2 * fake) == pytest.approx(4 * value, abs=4 * tolerance)


def test_frechet_of_constant_sets_is_the_squared_gap():
    assert frechet_distance(torch.zeros(5, 3), torch.full((4, 3), 2.0)) == pytest.approx(12.0)


def test_rank_deficient_set_matches_the_moments():
    real, fake = normal(6, 20), normal(9, 20, seed=1)
    moments = [v for x in (real, fake) for v in (x.mean(0), torch.cov(x.T))]
    # the moments' route loses half of the digits to the zero eigenvalues; the singular values do not
    assert frechet_distance(real, fake) == pytest.approx(frechet_from_moments(*moments), abs=1e-5)


@pytest.mark.parametrize(
    ("real", "fake", "words"),
    [
        (torch.zeros(1, 3), torch.zeros(4, 3), "at least 2 rows"),
        (torch.zeros(4, 3), torch.zeros(4, 2), "same number of columns"),
        (torch.zeros(4, 3, 1), torch.zeros(4, 3), "matrix"),
        (torch.full((4, 3), torch.nan), torch.zeros(4, 3), "finite"),
    ],
)
@pytest.mark.parametrize("metric", [frechet_distance, kid, mmd])
def test_bad_features_are_refused(metric, real, fake, words):
    with pytest.raises(DataError, match=words):
        metric(real, fake)


@pytest.mark.parametrize("bad", [torch.tensor([[1.0, 0.5], [0.0, 1.0]]), -torch.eye(2), torch.full((2, 2), torch.nan)])
def test_bad_covariances_are_refused(bad):
    with pytest.raises(DataError):
        frechet_from_moments(torch.zeros(2), torch.eye(2), torch.zeros(2), bad)


def naive_mmd(x, y, kernel):
    n, m = len(x), len(y)
    xx = sum(kernel(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(kernel(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return float(xx + yy - 2 * sum(kernel(a, b) for a in x for b in y) / (n * m))


def test_kernel_distances_are_their_double_sums():
    x, y = normal(7, 4), normal(5, 4, seed=1) + 0.5
    assert kid(x, y) == pytest.approx(naive_mmd(x, y, lambda a, b: ((a * b).sum() / 4 + 1) ** 3), rel=1e-10)
    assert mmd(x, y, bandwidth=1.7) == pytest.approx(naive_mmd(x, y, lambda a, b: (-(a - b).pow(2).sum() / (2 * 1.7**2)).exp()), rel=1e-9)


def test_kid_equals_torchmetrics():
    theirs = pytest.importorskip("torchmetrics.image.kid")
    x, y = normal(60, 16), 1.2 * normal(60, 16, seed=1)
    assert kid(x, y) == pytest.approx(float(theirs.poly_mmd(x, y)), rel=1e-9)


def test_blocks_do_not_change_the_figures(monkeypatch):
    x, y = normal(23, 3), normal(17, 3, seed=1) + 0.3
    whole = kid(x, y), mmd(x, y), mmd_permutation_test(x, y, permutations=19)
    monkeypatch.setattr("medgen.evaluation.distances._ENTRIES", 60)
    parts = kid(x, y), mmd(x, y), mmd_permutation_test(x, y, permutations=19)
    assert parts[:2] == pytest.approx(whole[:2], rel=1e-9)
    assert parts[2] == pytest.approx(whole[2], rel=1e-9)


def mean_is_zero(metric):
    """Over 400 draws of two sets of 8 from one distribution, within 4 standard errors."""
    values = np.array([metric(normal(8, 2, 2 * s), normal(8, 2, 2 * s + 1)) for s in range(400)])
    return abs(values.mean()) < 4 * values.std(ddof=1) / 20


@pytest.mark.parametrize("metric", [kid, lambda x, y: mmd(x, y, bandwidth=1.5)])
def test_kernel_distances_are_unbiased_at_small_n(metric):
    assert mean_is_zero(metric)


def test_the_law_of_unbiasedness_catches_a_kid_that_counts_pairs_with_themselves():
    def biased(x, y):
        xx, yy, xy = (((a @ b.T / 2 + 1) ** 3).mean() for a, b in ((x, x), (y, y), (x, y)))
        return float(xx + yy - 2 * xy)

    assert not mean_is_zero(biased)


def test_the_law_of_rotation_catches_a_distance_of_variances_only():
    def diagonal(x, y):
        return float((x.mean(0) - y.mean(0)).pow(2).sum() + (x.std(0) - y.std(0)).pow(2).sum())

    real, fake = normal(50, 3), normal(50, 3, 1) * torch.tensor([1.0, 2.0, 5.0])
    rotation = torch.linalg.qr(normal(3, 3, 7)).Q
    changes = [metric(real @ rotation, fake @ rotation) - metric(real, fake) for metric in (frechet_distance, diagonal)]
    assert abs(changes[0]) < 1e-9
    assert abs(changes[1]) > 0.1


def test_median_bandwidth_is_the_median_distance():
    assert median_bandwidth(torch.tensor([[0.0], [1.0], [10.0]])) == 9.0
    assert median_bandwidth(torch.zeros(5, 2)) == 1.0


def test_permutation_test_is_calibrated_and_has_power():
    p = np.array([mmd_permutation_test(normal(20, 2, 2 * s), normal(15, 2, 2 * s + 1), permutations=19)[1] for s in range(200)])
    assert 0.05 <= (p <= 0.1).mean() <= 0.16  # uniform on 0.05 ... 1: expected 0.1
    assert p.mean() == pytest.approx(0.525, abs=0.08)
    assert mmd_permutation_test(normal(40, 2), normal(40, 2, 1) + 1.0, permutations=199)[1] == 1 / 200


def test_permutation_statistic_is_the_mmd():
    x, y = normal(12, 3), normal(9, 3, 1) + 1
    assert mmd_permutation_test(x, y, permutations=5)[0] == pytest.approx(mmd(x, y), rel=1e-9)
    assert mmd_permutation_test(x, y, seed=4) == mmd_permutation_test(x, y, seed=4)
