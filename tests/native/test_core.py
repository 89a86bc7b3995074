"""csrc/core, the lines that the kernels run, against the PyTorch reference and NumPy in higher precision, on inputs of hypothesis."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medgen.ops.reference.philox import normal_from_bits, philox4x32, uniform_from_bits

WORD = st.integers(0, 2**32 - 1) | st.sampled_from([0, 1, 511, 512, 2**29, 2**30, 2**31 - 1, 2**31, 0xB504F333, 2**32 - 2**8, 2**32 - 1])


class TestNoise:
    @given(st.lists(st.tuples(WORD, WORD, WORD, WORD), min_size=1, max_size=8), st.integers(0, 2**64 - 1))
    def test_words_are_the_references(self, core, counters, seed):
        counter = np.array(counters, dtype=np.uint32)
        columns = tuple(torch.from_numpy(counter[:, k].astype(np.int64)) for k in range(4))
        expected = torch.stack(philox4x32(columns, (seed % 2**32, seed // 2**32)), dim=1)
        assert core.philox(counter, seed).tolist() == expected.tolist()

    @given(st.lists(WORD, min_size=1, max_size=16))
    def test_uniforms_are_exact(self, core, words):
        expected = uniform_from_bits(torch.tensor([words]), torch.float64)[0].tolist()
        array = np.array(words, dtype=np.uint32)
        assert core.uniform_float(array).astype(np.float64).tolist() == expected
        assert core.uniform_double(array).tolist() == expected

    @given(st.lists(st.tuples(WORD, WORD), min_size=1, max_size=16))
    def test_normals(self, core, pairs):
        expected = normal_from_bits(torch.tensor(pairs).reshape(1, -1), torch.float64).reshape(-1, 2).numpy()
        array = np.array(pairs, dtype=np.uint32)
        assert np.abs(core.normal_float(array) - expected).max() <= 1e-6
        assert np.abs(core.normal_double(array) - expected).max() <= 1e-14 * 6.77

    def test_normals_of_many_words(self, core):
        """Every radius near both ends, and a million pairs at large."""
        ends = np.concatenate([np.arange(2**16), 2**32 - 1 - np.arange(2**16)]).astype(np.uint32)
        some = np.random.Generator(np.random.Philox(0)).integers(0, 2**32, (1_000_000, 2), dtype=np.uint32)
        pairs = np.concatenate([np.stack([ends, some[: len(ends), 1]], axis=1), some])
        assert np.abs(core.normal_float(pairs) - core.normal_double(pairs)).max() <= 1e-6


def ulps(value, exact):
    """Distance in units of the last place of `value`'s type."""
    near = np.asarray(exact).astype(value.dtype)
    return np.abs(value.astype(np.longdouble) - exact) / np.spacing(np.abs(near)).astype(np.longdouble)


FUNCTIONS = [
    ("fast_exp", np.exp, (-104.0, 88.5), (-745.0, 709.5), 1.01),
    ("fast_log", np.log, (0.0, 3.0e38), (0.0, 1e308), 0.78),
    ("fast_tanh", np.tanh, (-20.0, 20.0), (-20.0, 20.0), 1.31),
]


class TestFunctions:
    """Errors of core/exp.h against NumPy's 80-bit functions; the numbers are those that the header states."""

    @pytest.mark.parametrize(("name", "oracle", "narrow", "wide", "bound"), FUNCTIONS)
    @given(data=st.data())
    def test_float(self, core, name, oracle, narrow, wide, bound, data):
        low, high = (float(np.float32(end)) for end in narrow)
        x = data.draw(st.lists(st.floats(low, high, width=32, exclude_min=low == 0), min_size=1, max_size=50))
        value = getattr(core, name)(np.array(x, dtype=np.float32))
        assert value.dtype == np.float32
        assert (ulps(value, oracle(np.array(x, dtype=np.longdouble))) <= bound + 0.01).all()

    @pytest.mark.parametrize(("name", "oracle", "narrow", "wide", "bound"), FUNCTIONS)
    @given(data=st.data())
    def test_double(self, core, name, oracle, narrow, wide, bound, data):
        x = np.array(data.draw(st.lists(st.floats(*wide, exclude_min=wide[0] == 0), min_size=1, max_size=50)))
        assert (ulps(getattr(core, name)(x), oracle(x.astype(np.longdouble))) <= bound + 1.0).all()

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_ends(self, core, dtype):
        x = np.array([np.inf, -np.inf, np.nan, 0.0], dtype=dtype)
        np.testing.assert_array_equal(core.fast_exp(x), np.array([np.inf, 0, np.nan, 1], dtype=dtype))
        np.testing.assert_array_equal(core.fast_log(x), np.array([np.inf, np.nan, np.nan, -np.inf], dtype=dtype))
        np.testing.assert_array_equal(core.fast_tanh(x), np.array([1, -1, np.nan, 0], dtype=dtype))
        zeros = np.array([0.0, -0.0], dtype=dtype)
        assert np.signbit(core.fast_tanh(zeros)).tolist() == [False, True]

    @given(st.floats(-0.5, 0.5))
    def test_fractional_powers_of_two(self, core, f):
        exact = np.exp2(np.longdouble(f))
        assert abs(core.exp2_double(f) / exact - 1) < 2.1e-16
        g = np.float32(f)
        assert abs(np.longdouble(core.exp2_float(g)) / np.exp2(np.longdouble(g)) - 1) < 2.0e-7


VALUES = st.lists(st.floats(-1e4, 1e4), max_size=30)


class TestLogSum:
    @given(VALUES, st.integers(0, 30))
    def test_parts_merge_to_the_whole(self, core, values, cut):
        left, right = (core.log_sum(np.array(part)) for part in (values[:cut], values[cut:]))
        merged = core.merge(left, right)[2]
        expected = np.logaddexp.reduce(np.array(values, dtype=np.longdouble)) if values else -np.inf
        assert merged == pytest.approx(float(expected), rel=1e-14, abs=1e-13)
        assert core.merge(right, left)[2] == pytest.approx(merged, rel=1e-15, abs=1e-14)

    @given(VALUES)
    def test_the_largest_is_kept_apart(self, core, values):
        largest, total = core.log_sum(np.array(values))
        assert largest == max(values, default=-np.inf)
        assert 1.0 <= total <= len(values) * (1 + 1e-12) if values else total == 0.0

    def test_nothing_is_neutral(self, core):
        nothing = (-np.inf, 0.0)
        assert core.merge(nothing, nothing)[2] == -np.inf
        assert core.merge(nothing, (3.0, 2.0)) == core.merge((3.0, 2.0), nothing) == (3.0, 2.0, 3.0 + np.log(2.0))


@pytest.mark.parametrize("kind", ["none", "tanh", "soft"])
class TestCoupling:
    @given(x=st.floats(-1e3, 1e3), s=st.floats(-5, 5), t=st.floats(-1e3, 1e3), s_max=st.floats(0.1, 10))
    def test_inverse(self, core, kind, x, s, t, s_max):
        couple = getattr(core, f"coupling_{kind}")
        y, log_det = couple(x, s, t, s_max, False)
        back, minus = couple(y, s, t, s_max, True)
        assert minus == -log_det
        assert abs(back - x) <= 1e-15 * (8 * abs(x) + 8 * abs(t) * np.exp(-log_det))
        assert kind == "none" or abs(log_det) <= s_max

    @given(x=st.floats(-10, 10), s=st.floats(0.01, 3) | st.floats(-3, -0.01), t=st.floats(-10, 10), inverse=st.booleans())
    def test_gradients_are_those_of_differences(self, core, kind, x, s, t, inverse):
        couple = getattr(core, f"coupling_{kind}")
        g, h, s_max, step = 0.7, -1.3, 1.7, 1e-6

        def objective(x, s, t):
            y, log_det = couple(x, s, t, s_max, inverse)
            return g * y + h * log_det

        side = couple(x, s, t, s_max, True)[0] if inverse else x
        numeric = [
            (
                objective(*(v + step * (i == k) for i, v in enumerate((x, s, t))))
                - objective(*(v - step * (i == k) for i, v in enumerate((x, s, t))))
            )
            / (2 * step)
            for k in range(3)
        ]
        assert getattr(core, f"coupling_{kind}_gradients")(g, h, side, s, s_max, inverse) == pytest.approx(numeric, rel=1e-6, abs=2e-6)


class TestSplit:
    """Products of halves, as the tensor cores have them."""

    @given(st.lists(st.floats(width=32), min_size=1, max_size=32))
    def test_halves_are_numpys(self, core, values):
        array = np.array(values, dtype=np.float32)
        with np.errstate(over="ignore", under="ignore"):
            expected = array.astype(np.float16)
        found = core.half_of(array).astype(np.uint16).view(np.float16)
        np.testing.assert_array_equal(found, expected)
        back = core.float_of_half(core.half_of(array).astype(np.uint16))
        np.testing.assert_array_equal(back, expected.astype(np.float32))

    @given(st.floats(-1000, 1000))
    def test_two_halves_have_22_bits(self, core, value):
        assert abs(core.split_value(value) - value) <= max(abs(value) * 2.0**-22, 2.0**-25)

    @given(
        st.sampled_from([5, 7, 16, 17, 31, 32, 48, 63, 64]),
        st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.999999]),
        st.sampled_from(["random", "axis", "diagonal"]),
        st.sampled_from([0.0, 1e-3, 0.3, 1.0]),
        st.sampled_from([24, 25, 26]),
        st.integers(0, 10**6),
    )
    def test_log_density_within_1e_4(self, core, dim, share, direction, spread, bits, seed):
        """Up to the largest norm that the product form takes; `share` is of that norm's square, `spread` of the points about the query."""
        rng = np.random.default_rng(seed)
        query = {"random": rng.standard_normal(dim), "axis": np.eye(dim)[seed % dim], "diagonal": np.ones(dim)}[direction][None]
        query *= np.sqrt(share * 1024 / max(dim**0.5, 6.4)) / np.linalg.norm(query)
        assert core.form_of(float((query**2).sum()), dim, False) == 0
        points = np.concatenate([query + spread * rng.standard_normal((30, dim)), rng.standard_normal((30, dim))])
        log_weights = rng.standard_normal(60) - np.log(60)
        found = core.split_log_sum(query, points, log_weights, bits)[0]
        scores = log_weights.astype(np.longdouble) - ((query - points).astype(np.longdouble) ** 2).sum(1) / 2
        exact = scores.max() + np.log(np.exp(scores - scores.max()).sum())
        assert abs(found - exact) <= 1e-4

    def test_an_error_in_the_last_place_of_a_high_part_would_show(self, core):
        """The bound that the scores are held to is far below what a half alone can do."""
        query = np.full((1, 32), 2.0 + 2.0**-11)  # half way between two halves
        coarse = query.astype(np.float16).astype(np.float64)
        args = np.zeros(1), 24
        assert abs(core.split_log_sum(query, query, *args)[0]) < 1e-5
        assert abs(core.split_log_sum(query, coarse + 1, *args)[0] - core.split_log_sum(query, query + 1, *args)[0]) > 1e-2

    @given(st.integers(1, 2**40), WORD)
    def test_a_draw_of_equal_weights(self, core, count, word):
        assert core.chosen_point(None, count, word) == word * count >> 32

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=40), WORD)
    def test_a_draw_by_weight(self, core, weights, word):
        total = np.cumsum(np.array(weights) + 1e-3)
        expected = np.searchsorted(total, (word + 0.5) / 2**32 * total[-1], side="right")
        assert core.chosen_point(total, len(total), word) == min(expected, len(total) - 1)
