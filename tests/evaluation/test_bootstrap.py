"""Intervals cover the truth at about their rate, follow their seed, and know when they cannot be had."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from medgen.evaluation.bootstrap import bootstrap_mean, subsample
from medgen.evaluation.distribution import frechet_distance, kid
from medgen.evaluation.prdc import coverage as prdc_coverage


def generator(seed):
    return np.random.Generator(np.random.Philox(seed))


def test_mean_of_gaussians_is_covered_at_the_stated_rate():
    hits = 0
    for s in range(400):
        low, high = bootstrap_mean(generator(s).normal(3.0, 2.0, 60), resamples=200, seed=s)
        hits += low <= 3.0 <= high
    assert 0.90 <= hits / 400 <= 0.98


def test_interval_has_the_width_of_the_standard_error():
    values = generator(0).normal(size=400)
    low, high = bootstrap_mean(values, resamples=2000)
    assert high - low == pytest.approx(2 * 1.96 * values.std(ddof=1) / 20, rel=0.08)


def test_groups_are_drawn_whole():
    """Ten equal slices per subject carry the information of one: the interval must be sqrt(10) times as wide."""
    subjects = generator(1).normal(size=40)
    slices, names = np.repeat(subjects, 10), np.repeat(np.arange(40), 10)
    alone = np.diff(bootstrap_mean(subjects, resamples=2000))
    grouped = np.diff(bootstrap_mean(slices, resamples=2000, groups=names.tolist()))
    naive = np.diff(bootstrap_mean(slices, resamples=2000))
    assert grouped == pytest.approx(alone, rel=0.15)
    assert grouped == pytest.approx(naive * math.sqrt(10), rel=0.15)


def test_groups_of_unequal_size_keep_the_mean_over_samples():
    low, high = bootstrap_mean([1.0, 1.0, 1.0, 5.0], groups=["a", "a", "a", "b"], resamples=500)
    assert (low, high) == (1.0, 5.0)


def test_same_seed_same_interval():
    values = generator(0).normal(size=30)
    assert bootstrap_mean(values, seed=5) == bootstrap_mean(values, seed=5)
    assert bootstrap_mean(values, seed=5) != bootstrap_mean(values, seed=6)


def test_blocks_of_weights_do_not_change_the_kind_of_answer():
    values = generator(0).normal(size=150_000)  # more than one block
    low, high = bootstrap_mean(values, resamples=150)
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(150_000), rel=0.35)


@pytest.mark.parametrize(("values", "resamples"), [([1.0], 200), ([1.0, math.inf], 200), ([1.0, 2.0], 0)])
def test_no_interval_where_there_can_be_none(values, resamples):
    assert bootstrap_mean(values, resamples=resamples) == (None, None)


def test_global_random_state_is_untouched():
    np.random.seed(3)
    torch.manual_seed(3)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    bootstrap_mean([1.0, 2.0])
    subsample(lambda i, j: float(i[0]), (10, 10), value=0.0, resamples=5)
    assert (np.random.get_state()[1] == before[0]).all()
    assert torch.equal(torch.get_rng_state(), before[1])


@pytest.mark.parametrize("share", [0.5, 0.2])
def test_parts_have_the_spread_of_the_whole_set(share):
    """For a difference of means the interval must have the width 2 * 1.96 * sqrt(2 / n), whatever the share."""
    x, y = generator(0).normal(size=500), generator(1).normal(size=500)
    low, high = subsample(lambda i, j: x[i].mean() - y[j].mean(), (500, 500), value=0.0, share=share, resamples=1500)
    assert high - low == pytest.approx(2 * 1.96 * math.sqrt(2 / 500), rel=0.08)


def test_parts_hold_no_sample_twice():
    sizes = set()

    def statistic(i, j):
        sizes.add((len(set(i.tolist())), len(set(j.tolist()))))
        return 0.0

    subsample(statistic, (21, 40), value=0.0, resamples=20)
    assert sizes == {(10, 20)}


def rate(metric, truth, draw, repeats, n):
    hits = 0
    for s in range(repeats):
        real, fake = draw(s, n)
        low, high = subsample(
            lambda i, j, real=real, fake=fake: metric(real[torch.from_numpy(i)], fake[torch.from_numpy(j)]),
            (n, n),
            value=metric(real, fake),
            resamples=60,
            seed=s,
        )
        hits += low <= truth <= high
    return hits / repeats


def shifted_gaussians(seed, n):
    values = torch.from_numpy(generator(seed).normal(size=(2, n, 1)))
    return values[0], 2 * values[1] + 1


def test_frechet_interval_covers_the_truth_between_n_0_1_and_n_1_4():
    assert 0.85 <= rate(frechet_distance, 2.0, shifted_gaussians, 100, 200) <= 1.0


def test_kid_interval_covers_the_truth():
    # k = (xy + 1)^3; with moments (0, 1, 0, 3 -> E x^3 = 0) and (1, 5, 13): E k over the three pairs in closed form
    r, g = (0.0, 1.0, 0.0), (1.0, 5.0, 13.0)

    def expected(p, q):
        return 1 + 3 * p[0] * q[0] + 3 * p[1] * q[1] + p[2] * q[2]

    truth = expected(r, r) + expected(g, g) - 2 * expected(r, g)
    assert 0.85 <= rate(kid, truth, shifted_gaussians, 60, 150) <= 1.0


def test_centring_keeps_a_biased_statistic_inside_its_interval():
    """Coverage of halves differs from that of whole sets; the interval is about the whole sets all the same."""
    for s in range(5):
        values = torch.from_numpy(generator(s).normal(size=(2, 60, 2)))
        value = prdc_coverage(values[0], values[1] * 0.3)
        low, high = subsample(lambda i, j, v=values: prdc_coverage(v[0][i], v[1][j] * 0.3), (60, 60), value=value, limits=(0.0, 1.0))
        assert 0 <= low < value < high <= 1


@pytest.mark.parametrize("share", [0.0, 0.6])
def test_share_is_checked(share):
    with pytest.raises(ValueError, match="`share`"):
        subsample(lambda i, j: 0.0, (4, 4), value=0.0, share=share)
