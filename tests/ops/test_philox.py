"""Philox4x32-10: Random123's known answers, an independent implementation, and the laws of uniforms and normals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from medgen.ops import philox_integers, philox_normal, philox_uniform
from medgen.ops.reference.philox import normal_from_bits, philox4x32, philox_bits, uniform_from_bits

# Random123, examples/kat_vectors: "philox4x32 10" counter, key, result.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def philox(counter, key, rounds=10):
    """The paper's figure, on Python integers."""
    c, k = list(counter), list(key)
    for _ in range(rounds):
        high0, low0 = divmod(0xD2511F53 * c[0], 2**32)
        high1, low1 = divmod(0xCD9E8D57 * c[2], 2**32)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B9) % 2**32, (k[1] + 0xBB67AE85) % 2**32]
    return c


def word(seed, sample, stream, element):
    """Word `element` of a sample, as the docstring of `philox_bits` says."""
    counter = (element // 4, stream, sample % 2**32, sample // 2**32)
    return philox(counter, (seed % 2**32, seed // 2**32))[element % 4]


def words(text):
    return [int(part, 16) for part in text.split()]


SEEDS = st.integers(0, 2**64 - 1) | st.sampled_from([0, 2**32, 2**63 - 1, 2**63, 2**64 - 1])
SAMPLES = st.integers(0, 2**63 - 1) | st.sampled_from([0, 2**31, 2**32 - 1, 2**32, 2**40, 2**63 - 1])
STREAMS = st.integers(0, 2**32 - 1) | st.sampled_from([0, 1, 2**31, 2**32 - 1])


class TestWords:
    @pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
    def test_known_answers(self, counter, key, result):
        tensors = tuple(torch.tensor([value]) for value in words(counter))
        k0, k1 = words(key)
        assert [int(value) for value in philox4x32(tensors, (k0, k1))] == words(result)
        assert philox(words(counter), (k0, k1)) == words(result)  # the judge is judged too

    @given(SEEDS, st.lists(SAMPLES, max_size=3), STREAMS, st.integers(0, 11))
    @settings(max_examples=60)
    def test_equals_the_independent_implementation(self, seed, samples, stream, count):
        bits = philox_bits(seed, torch.tensor(samples, dtype=torch.int64), stream, count)
        assert bits.shape == (len(samples), count)
        assert bits.tolist() == [[word(seed, sample, stream, element) for element in range(count)] for sample in samples]

    @given(st.lists(st.integers(0, 2**32 - 1), min_size=6, max_size=6), st.integers(0, 12))
    @settings(max_examples=60)
    def test_any_counter_key_and_rounds(self, numbers, rounds):
        *counter, k0, k1 = numbers
        result = philox4x32(tuple(torch.tensor([value]) for value in counter), (k0, k1), rounds)
        assert [int(value) for value in result] == philox(counter, (k0, k1), rounds)

    def test_a_longer_draw_begins_with_the_shorter(self):
        index = torch.tensor([3])
        assert torch.equal(philox_bits(1, index, 0, 1000)[:, :17], philox_bits(1, index, 0, 17))


class TestUniform:
    @given(SEEDS, SAMPLES, STREAMS, st.integers(1, 9))
    @settings(max_examples=40)
    def test_formula(self, seed, sample, stream, count):
        values = philox_uniform(seed, torch.tensor([sample]), (count,), stream=stream, dtype=torch.float64)
        assert values[0].tolist() == [(word(seed, sample, stream, e) // 2**9 + 0.5) / 2**23 for e in range(count)]

    @pytest.mark.parametrize("extreme", [0, 2**31 - 1, 2**31, 2**32 - 1])
    def test_strictly_inside(self, extreme):
        assert 0 < uniform_from_bits(torch.tensor([[extreme]]), torch.float64).item() < 1

    @pytest.mark.parametrize("extreme", [0, 2**31 - 1, 2**31, 2**32 - 1])
    def test_strictly_inside_and_exact_in_float32(self, extreme):
        bits = torch.tensor([[extreme]])
        value = uniform_from_bits(bits, torch.float32).double().item()
        assert 0 < value < 1
        assert value == uniform_from_bits(bits, torch.float64).item()

    def test_distribution(self):
        values = philox_uniform(7, torch.arange(400), (50,), dtype=torch.float64).flatten().numpy()
        assert stats.kstest(values, "uniform").pvalue > 0.01
        assert values.mean() == pytest.approx(0.5, abs=5 * math.sqrt(1 / 12 / values.size))
        assert values.var() == pytest.approx(1 / 12, rel=0.03)


class TestNormal:
    @given(SEEDS, SAMPLES, STREAMS, st.integers(1, 7))
    @settings(max_examples=40)
    def test_formula(self, seed, sample, stream, count):
        values = philox_normal(seed, torch.tensor([sample]), (count,), stream=stream, dtype=torch.float64)[0]
        for e, value in enumerate(values.tolist()):
            a, b = (word(seed, sample, stream, e - e % 2 + i) for i in range(2))
            radius = math.sqrt(-2 * math.log((a + 0.5) / 2**32))
            turn = 2 * math.pi * b / 2**32
            assert value == pytest.approx(radius * (math.sin(turn) if e % 2 else math.cos(turn)), abs=1e-12)

    def test_bound_of_the_docstring(self):
        corner = torch.tensor([[0, 0, 0, 2**31, 2**32 - 1, 0]])  # the longest radius twice, then the shortest
        values = normal_from_bits(corner, torch.float64)[0]
        assert values[0].item() == pytest.approx(math.sqrt(66 * math.log(2)), abs=1e-12)
        assert values[2].item() == pytest.approx(-math.sqrt(66 * math.log(2)), abs=1e-12)
        assert values.abs().max() <= 6.77
        assert 0 <= values[4].item() < 2e-5

    def test_distribution(self):
        values = philox_normal(7, torch.arange(400), (50,), dtype=torch.float64).flatten().numpy()
        n = values.size
        assert stats.kstest(values, "norm").pvalue > 0.01
        assert values.mean() == pytest.approx(0, abs=4 / math.sqrt(n))
        assert values.var() == pytest.approx(1, abs=4 * math.sqrt(2 / n))
        assert stats.skew(values) == pytest.approx(0, abs=4 * math.sqrt(6 / n))
        assert stats.kurtosis(values) == pytest.approx(0, abs=4 * math.sqrt(24 / n))

    @pytest.mark.parametrize(
        "change", [{"seed": 1}, {"stream": 1}, {"shift": 20_000}, {"seed": 2**32}, {"stream": 2**31}, {"shift": 2**32}]
    )
    def test_seeds_streams_and_samples_are_uncorrelated(self, change):
        n = 20_000
        first = philox_normal(0, torch.arange(n), ()).numpy()
        index = torch.arange(n) + change.get("shift", 0)
        second = philox_normal(change.get("seed", 0), index, (), stream=change.get("stream", 0)).numpy()
        assert abs(np.corrcoef(first, second)[0, 1]) < 4 / math.sqrt(n)

    def test_elements_of_a_sample_are_uncorrelated(self):
        values = philox_normal(3, torch.arange(20_000), (6,)).numpy()
        off = np.corrcoef(values.T) - np.eye(6)
        assert np.abs(off).max() < 4.5 / math.sqrt(len(values))


@pytest.mark.parametrize("draw", [philox_normal, philox_uniform])
class TestBoth:
    def test_float32_is_float64_to_one_millionth(self, draw):
        index = torch.arange(50)
        torch.testing.assert_close(draw(5, index, (9,)), draw(5, index, (9,), dtype=torch.float64).float(), atol=1e-6, rtol=0)
        assert draw(5, index, (9,)).dtype == torch.float32

    @pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 5), (1, 4, 4, 4), (0,), (2, 0)])
    @pytest.mark.parametrize("n", [0, 1, 4])
    def test_shapes(self, draw, shape, n):
        assert draw(0, torch.arange(n), shape).shape == (n, *shape)

    def test_shape_only_arranges(self, draw):
        index = torch.arange(3)
        assert torch.equal(draw(1, index, (2, 3, 5)).flatten(1), draw(1, index, (30,)))

    @pytest.mark.parametrize("seed", [-1, 2**64])
    def test_seed_out_of_range(self, draw, seed):
        with pytest.raises(ValueError, match=rf"`seed` must be in \[0, 2\^64\); got {seed}"):
            draw(seed, torch.arange(1), ())

    @pytest.mark.parametrize("stream", [-1, 2**32])
    def test_stream_out_of_range(self, draw, stream):
        with pytest.raises(ValueError, match=rf"`stream` must be in \[0, 2\^32\); got {stream}"):
            draw(0, torch.arange(1), (), stream=stream)

    @pytest.mark.parametrize("index", [torch.tensor(1), torch.tensor([1], dtype=torch.int32), torch.zeros(2), torch.zeros(2, 2).long()])
    def test_index_of_a_wrong_kind(self, draw, index):
        with pytest.raises(ValueError, match="`index` must be int64 of shape"):
            draw(0, index, ())


class TestIntegers:
    @given(SEEDS, SAMPLES, st.integers(1, 2**31) | st.sampled_from([1, 2, 2**31]))
    @settings(max_examples=60)
    def test_formula(self, seed, sample, high):
        values = philox_integers(seed, torch.tensor([sample]), (5,), high=high)[0].tolist()
        assert values == [word(seed, sample, 0, e) * high // 2**32 for e in range(5)]
        assert all(0 <= value < high for value in values)

    def test_distribution(self):
        counts = torch.bincount(philox_integers(1, torch.arange(6000), (), high=6), minlength=6)
        assert stats.chisquare(counts.numpy()).pvalue > 0.01

    @pytest.mark.parametrize("high", [0, -1, 2**31 + 1])
    def test_high_out_of_range(self, high):
        with pytest.raises(ValueError, match="`high` must be in"):
            philox_integers(0, torch.arange(1), (), high=high)
