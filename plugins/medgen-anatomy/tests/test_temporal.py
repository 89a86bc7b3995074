"""The metric of temporal consistency, and the smoothing of signals, against closed forms and laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from medgen.errors import DataError
from medgen_anatomy.signals import bisect_weight, gaussian_smooth, gradient_smooth, smallest_weight, smooth, smooth_latents
from medgen_anatomy.temporal import Limits, consistency, fit_limits, second_difference

numbers = st.floats(-100, 100, width=32)
signals = st.integers(1, 30).flatmap(lambda n: arrays(np.float64, (n, 2), elements=numbers))
weights = st.floats(0, 128)


def system(frames, w):
    """((1 + w) I - w A), dense, from the definition of the mean of neighbours with repeated ends."""
    a = np.zeros((frames, frames))
    for t in range(frames):
        for s in (max(t - 1, 0), min(t + 1, frames - 1)):
            a[t, s] += 0.5
    return (1 + w) * np.eye(frames) - w * a


@given(signals, weights)
@settings(deadline=None)
def test_smoothing_solves_the_system(s0, w):
    np.testing.assert_allclose(system(len(s0), w) @ smooth(s0, w), s0, atol=1e-9)


@given(signals, weights, numbers, numbers)
@settings(deadline=None)
def test_smoothing_is_linear_and_keeps_constants_and_means(s0, w, a, b):
    np.testing.assert_allclose(smooth(a * s0 + b, w), a * smooth(s0, w) + b, atol=1e-7)
    np.testing.assert_allclose(smooth(s0, w).mean(0), s0.mean(0), atol=1e-9)
    np.testing.assert_allclose(smooth(s0[::-1], w), smooth(s0, w)[::-1], atol=1e-9)  # time has no direction


@given(signals, weights, weights)
@settings(deadline=None)
def test_more_weight_is_smoother_and_farther(s0, one, other):
    low, high = smooth(s0, min(one, other)), smooth(s0, max(one, other))
    assert (low.max(0) >= high.max(0) - 1e-9).all()
    assert (low.min(0) <= high.min(0) + 1e-9).all()
    assert np.square(np.diff(high, axis=0)).sum() <= np.square(np.diff(low, axis=0)).sum() + 1e-9
    assert np.square(high - s0).sum() >= np.square(low - s0).sum() - 1e-9


def test_no_weight_changes_nothing_and_one_frame_stays():
    s0 = np.random.default_rng(0).normal(size=(7, 3))
    np.testing.assert_array_equal(smooth(s0, 0.0), s0)
    np.testing.assert_array_equal(smooth(s0[:1], 50.0), s0[:1])
    np.testing.assert_allclose(smooth(s0, np.array([0.0, 5.0, 50.0]))[:, 1], smooth(s0[:, 1:2], 5.0)[:, 0])


@pytest.mark.parametrize("mode", [1, 3, 8])
def test_cosines_are_damped_by_their_frequency(mode):
    """cos(pi k (t + 1/2) / T) is an eigenvector of A, with eigenvalue cos(pi k / T)."""
    wave = np.cos(math.pi * mode * (np.arange(30) + 0.5) / 30)[:, None]
    np.testing.assert_allclose(smooth(wave, 7.0), wave / (1 + 7.0 * (1 - math.cos(math.pi * mode / 30))), atol=1e-12)


@pytest.mark.parametrize("w", [5.0, 50.0, 128.0])
def test_gradient_descent_ends_at_the_solution(w):
    s0 = np.random.default_rng(4).uniform(size=(40, 1))
    s, steps = gradient_smooth(s0, w)
    assert 300 < steps < 1500
    assert np.abs(s - smooth(s0, w)).max() < 3e-6
    assert gradient_smooth(np.full((40, 1), 0.3), w)[1] == 1  # nothing to do


@given(arrays(np.float64, st.integers(3, 30), elements=st.floats(0, 1, width=32)), st.floats(0.01, 0.5))
@settings(deadline=None)
def test_the_weight_found_suffices_and_a_smaller_one_of_the_grid_did_not(signal, tau):
    w, fits = smallest_weight(signal, tau)
    bend = np.abs(second_difference(smooth(signal[:, None], w))).max()
    assert fits == (bend <= tau)
    if w == 0:
        np.testing.assert_array_equal(smooth(signal[:, None], w)[:, 0], signal)
    elif fits:
        assert w % 4 == 0  # 128 / 2^5
        assert np.abs(second_difference(smooth(signal[:, None], w - 4))).max() > tau
    assert smallest_weight(signal, tau, margin=0.5)[0] == 1.5 * w


def test_what_cannot_be_smoothed_enough_is_said():
    assert smallest_weight(np.arange(20) % 2, 1e-9) == (128.0, False)
    assert bisect_weight(lambda w: False) == (128.0, False)


def test_latents_have_their_own_weights():
    rng = np.random.default_rng(1)
    t = np.linspace(0, 2 * math.pi, 30)
    z = np.stack([np.sin(t), np.sin(t), rng.normal(size=30)], 1)
    z[12, 1] += 1.0
    s, w = smooth_latents(z, np.array([0.05, 0.05, np.nan]))
    assert w[0] == 0
    assert 0 < w[1] < 128
    assert w[2] == 50
    np.testing.assert_array_equal(s[:, 0], z[:, 0])
    assert (np.abs(second_difference(s))[:, :2] <= 0.05).all()
    with pytest.raises(DataError, match="one threshold"):
        smooth_latents(z, np.array([0.1]))


def test_the_gaussian_filter_is_one():
    impulse = np.zeros((41, 1))
    impulse[20] = 1.0
    filtered = gaussian_smooth(impulse)[:, 0]
    sd = 0.05 * 41
    truth = np.exp(-0.5 * ((np.arange(41) - 20) / sd) ** 2)
    np.testing.assert_allclose(filtered, truth / truth.sum(), atol=1e-4)


@given(st.integers(3, 40), numbers, numbers)
def test_straight_lines_are_consistent(frames, a, b):
    line = (a + b * np.arange(frames))[:, None]
    assert np.abs(second_difference(line)).max() < 1e-10 * max(1, abs(a), abs(b) * frames)


def test_a_spike_puts_itself_and_its_neighbours_in_error():
    limits = Limits.of({"area": (100, 300, 0.016), "width": (0, 1, 0.1)})
    smooth_one = np.stack([200 + 0.5 * np.arange(12), np.full(12, 0.5)], 1)
    spiked = smooth_one.copy()
    spiked[5, 0] += 10.0  # d = 0.05 at the spike and -0.025 beside it
    found = consistency([smooth_one, spiked], limits)
    assert found.frames == [[], [4, 5, 6]]
    assert found.inconsistent_sequences == 0.5
    assert found.inconsistent_frames == pytest.approx(3 / 12)
    np.testing.assert_allclose(found.ratios[1][4:7, 0], [0.025 / 0.016, 0.05 / 0.016, 0.025 / 0.016])
    assert found.mean_ratio == pytest.approx((0.1 / 0.016) / 48)
    summary = found.summary()
    assert summary["inconsistent_frames"] == [0, 3]
    assert summary["attributes"]["area"]["max_ratio"] == pytest.approx(3.125)
    assert summary["attributes"]["width"] == {"inconsistent_frames": 0, "mean_ratio": 0.0, "max_ratio": 0.0}
    ends = smooth_one.copy()
    ends[[0, -1], 0] += 1e-3
    assert not consistency([ends], limits).ratios[0][[0, -1]].any()


def test_what_cannot_be_measured_is_an_error():
    limits = Limits.of({"area": (0, 1, 0.1)})
    missing = np.full((8, 1), 0.5)
    missing[3] = np.nan
    found = consistency([missing], limits)
    assert found.frames == [[2, 3, 4]]
    assert found.mean_ratio == 0.0


def test_limits_come_from_the_reference():
    rng = np.random.default_rng(2)
    sequences = [rng.normal(size=(n, 2)) for n in (5, 9)]
    limits = fit_limits(sequences, ["a", "b"])
    found = consistency(sequences, limits)
    assert found.frames == [[], []] or max(r.max() for r in found.ratios) <= 1 + 1e-12
    assert max(r.max() for r in found.ratios) == pytest.approx(1)
    joined = np.concatenate(sequences)
    np.testing.assert_array_equal([limits.low, limits.high], [joined.min(0), joined.max(0)])
    assert Limits.of(limits.table()).table() == limits.table()


def test_limits_that_are_none_are_said():
    with pytest.raises(DataError, match="low < high and tau > 0"):
        Limits.of({"a": (1, 1, 0.1)})
    with pytest.raises(DataError, match="b does not bend"):
        fit_limits([np.stack([np.arange(5.0) ** 2, np.arange(5.0)], 1)], ["a", "b"])
    with pytest.raises(DataError, match=r"must be \[T, 1\]; got shape \(5, 2\)"):
        consistency([np.zeros((5, 2))], Limits.of({"a": (0, 1, 0.1)}))
    with pytest.raises(DataError, match="at least one frame"):
        smooth(np.zeros(5), 1.0)
    with pytest.raises(DataError, match=r"frames \[2\] are not"):
        smooth(np.array([[0.0], [1.0], [np.nan]]), 1.0)
    with pytest.raises(DataError, match="not negative"):
        smooth(np.zeros((5, 1)), -1.0)
