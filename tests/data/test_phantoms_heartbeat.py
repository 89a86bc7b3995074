import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import find_peaks

from medgen.data.phantoms import draw_heartbeat, heartbeat_signal, noiseless_heartbeat
from medgen.data.phantoms.drawing import generator

RATE = 500.0


def _times(seconds=6.0):
    return (np.arange(int(seconds * RATE)) - int(seconds * RATE) // 2) / RATE


@settings(max_examples=30, deadline=None)
@given(i=st.integers(0, 10**6))
def test_r_peaks_are_where_they_are_said_to_be(i):
    truth, times = draw_heartbeat(generator(0, i)), _times()
    signal = noiseless_heartbeat(truth, times)
    peaks, _ = find_peaks(signal, height=0.6 * truth.r_height, distance=int(0.2 * RATE))
    expected = [t for t in truth.r_times(times.max()) if abs(t) < times.max() - 0.1]
    found = [times[p] for p in peaks if abs(times[p]) < times.max() - 0.1]
    np.testing.assert_allclose(found, expected, atol=0.012)


@settings(max_examples=30, deadline=None)
@given(i=st.integers(0, 10**6))
def test_rhythm(i):
    truth = draw_heartbeat(generator(0, i))
    gaps = np.diff(truth.r_times(6.0))
    if truth.beat == 0:
        np.testing.assert_allclose(gaps, 60 / truth.heart_rate)
    else:
        early = int(np.argmin(gaps))
        assert gaps[early] == pytest.approx(truth.prematurity * truth.rr)
        assert gaps[early] + gaps[early + 1] == pytest.approx(2 * truth.rr)  # full compensatory pause
        np.testing.assert_allclose(np.delete(gaps, [early, early + 1]), truth.rr)


def test_premature_beat_is_wide_and_without_p():
    widths = {0: [], 1: []}
    for i in range(60):
        truth, times = draw_heartbeat(generator(0, i)), _times(2.0)
        signal = noiseless_heartbeat(truth, times)
        near = np.abs(times) < 0.15
        widths[truth.beat].append((signal[near] > 0.5 * truth.r_height).sum() / RATE)
    assert len(widths[1]) > 5
    assert max(widths[0]) < min(widths[1])


def test_noise_and_wander():
    truth = draw_heartbeat(generator(0, 3))
    times = (np.arange(4000) - 2000) / 250
    signal = heartbeat_signal(truth, generator(0, 3), 4000, 250.0, noise=0.05)
    rest = signal - noiseless_heartbeat(truth, times)
    assert np.diff(rest).std() / np.sqrt(2) == pytest.approx(0.05, rel=0.05)
    clean = heartbeat_signal(truth, generator(0, 3), 4000, 250.0, noise=0.0) - noiseless_heartbeat(truth, times)
    assert np.abs(clean).max() <= truth.wander + 1e-6
    assert signal.dtype == np.float32
