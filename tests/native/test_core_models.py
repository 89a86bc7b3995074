"""csrc/core of splines, diffusion steps and Parzen densities against float64 NumPy, on inputs of hypothesis."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

SIZE, SLOPE, PLACE = st.floats(0.01, 5), st.floats(0.01, 5), st.floats(-5, 5)
BINS = st.tuples(PLACE, SIZE, PLACE, SIZE, SLOPE, SLOPE)
SHARE = st.floats(0, 1)


def spline(bin_, theta):
    """Value and log-derivative by the paper's formulas (4) and (5)."""
    _, w, y, h, d0, d1 = bin_
    s, rest = h / w, 1 - theta
    below = s + (d1 + d0 - 2 * s) * theta * rest
    slope = s**2 * (d1 * theta**2 + 2 * s * theta * rest + d0 * rest**2) / below**2
    return y + h * (s * theta**2 + d0 * theta * rest) / below, math.log(slope)


class TestSpline:
    @given(BINS, SHARE)
    def test_value_and_log_slope(self, core, bin_, theta):
        assert core.bin_value(bin_, theta) == pytest.approx(spline(bin_, theta), rel=1e-12, abs=1e-12)

    @given(BINS, SHARE)
    def test_inverse(self, core, bin_, theta):
        value, log_slope = core.bin_value(bin_, theta)
        back = core.bin_inverse(bin_, value)
        # an error of the value is one of theta by the slope
        assert abs(back - theta) <= 1e-13 * (1 + (abs(bin_[2]) + bin_[3]) / (math.exp(log_slope) * bin_[1])) * 10

    @given(
        st.tuples(PLACE, *[st.floats(0.2, 3)], PLACE, *[st.floats(0.2, 3)] * 3), st.floats(0.05, 0.95), st.floats(-2, 2), st.floats(-2, 2)
    )
    def test_gradients_are_those_of_differences(self, core, bin_, theta, a, b):
        x, step = bin_[0] + theta * bin_[1], 1e-6

        def objective(x, *six):
            value, log_slope = spline(six, (x - six[0]) / six[1])
            return a * value + b * log_slope

        inputs = np.array([x, *bin_])
        numeric = [(objective(*(inputs + step * e)) - objective(*(inputs - step * e))) / (2 * step) for e in np.eye(7)]
        assert core.bin_gradients(bin_, theta, a, b) == pytest.approx(numeric, rel=1e-5, abs=2e-6)

    @given(st.floats(-700, 700))
    def test_softplus_and_sigmoid(self, core, u):
        assert float(core.softplus(np.float64(u))) == pytest.approx(np.logaddexp(0, u), rel=1e-14)
        assert float(core.sigmoid(np.float64(u))) == pytest.approx(1 / (1 + np.exp(-np.longdouble(u))), rel=1e-14)


NUMBER = st.floats(-10, 10)
ROW = st.lists(st.floats(-3, 3, width=32), min_size=8, max_size=8)


class TestStep:
    @given(ROW, NUMBER, NUMBER, st.none() | st.floats(0.1, 3))
    def test_mean(self, core, row, x, output, clip):
        expected = row[0] * x + row[1] * output
        if clip is not None:
            expected = row[4] * np.clip(row[2] * x + row[3] * output, -clip, clip) + row[5] * x
        assert core.step_mean_double(row, x, output, clip) == pytest.approx(expected, rel=1e-14, abs=1e-13)
        assert core.step_mean_float(row, x, output, clip) == pytest.approx(expected, rel=1e-5, abs=2e-4)

    @given(ROW, st.sampled_from([None, 1.0]))
    def test_nan_stays(self, core, row, clip):
        row = [1.0 if value == 0 else value for value in row]
        assert math.isnan(core.step_mean_double(row, math.nan, 0.0, clip))
        assert math.isnan(core.step_mean_double(row, 0.0, math.nan, clip))

    @given(st.floats(-50, 50))
    def test_noise_where_the_deviation_is_not_zero(self, core, scale):
        assert core.step_is_noisy(scale, False) == (scale != 0)
        assert core.step_is_noisy(scale, True)
        assert not core.step_is_noisy(-math.inf, True)


DOT, DIRECT, WIDE_DOT, WIDE, INFINITE, NAN, DONE = range(7)


class TestParzen:
    @given(st.integers(1, 200), st.floats(0, 1e8), st.floats(1, 10))
    def test_a_farther_query_never_gets_a_quicker_form(self, core, dim, norm2, factor):
        narrow, wide = [DOT, DIRECT, WIDE], [WIDE_DOT, WIDE]
        for order, is_double in ((narrow, False), (wide, True)):
            near, far = (order.index(core.form_of(value, dim, is_double)) for value in (norm2, norm2 * factor))
            assert near <= far

    @pytest.mark.parametrize("is_double", [False, True])
    def test_not_finite(self, core, is_double):
        assert core.form_of(math.inf, 8, is_double) == INFINITE
        assert core.form_of(math.nan, 8, is_double) == NAN

    @given(st.integers(1, 64), st.integers(0, 10**6), st.floats(0.01, 13) | st.floats(0.01, 300))
    def test_the_form_chosen_rounds_within_the_promise(self, core, dim, seed, norm):
        """The scores of a float query and a point beside it, by the form that its norm gets, against float64."""
        random = np.random.Generator(np.random.Philox(seed))
        direction = random.standard_normal(dim)
        y = (norm * direction / np.linalg.norm(direction)).astype(np.float32)
        x = (y + random.standard_normal(dim) / math.sqrt(dim)).astype(np.float32)
        exact = ((y.astype(float) - x) ** 2).sum() / 2
        form = core.form_of(float((y.astype(float) ** 2).sum()), dim, False)
        if form == DOT:  # summed in order, as the kernel does
            found = np.float32((y.astype(float) ** 2).sum() / 2) - (
                np.float32(0) + np.cumsum(y * x)[-1] - np.float32((x.astype(float) ** 2).sum() / 2)
            )
            assert abs(float(found) - exact) <= 3e-5 + 2e-7 * exact
        if form in (DOT, DIRECT):
            assert norm <= 128 * (1 + 1e-6)

    @given(st.sampled_from([DOT, DIRECT]), st.floats(-1e6, 100), st.floats(0, 1e6), st.integers(1, 64), st.integers(1, 10**6))
    def test_too_far_is_too_far_farther_on(self, core, form, log_sum, less, dim, points):
        assert core.too_far(form, log_sum - less, dim, points) >= core.too_far(form, log_sum, dim, points)
        assert not core.too_far(form, -math.inf, dim, points)

    @given(st.sampled_from([WIDE_DOT, WIDE, INFINITE, NAN, DONE]), st.floats(-1e9, 100))
    def test_double_is_never_done_again(self, core, form, log_sum):
        assert not core.too_far(form, log_sum, 8, 100)
