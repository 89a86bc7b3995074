"""`Noise`: the draws of sample i are the same however the samples are divided; no RNG state is touched."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medgen.interfaces import Noise, as_noise

DRAWS = {
    "normal": lambda noise: noise.normal(1, 5, 3),
    "normal of another stream": lambda noise: noise.normal(7, stream=9),
    "uniform": lambda noise: noise.uniform(4),
    "float64": lambda noise: noise.normal(3, dtype=torch.float64),
    "integers": lambda noise: noise.integers(10, 6),
    "one number": lambda noise: noise.normal(),
}


@pytest.fixture(params=DRAWS.values(), ids=DRAWS)
def draw(request):
    return request.param


class TestOneSampleIsAlwaysTheSame:
    SEED = 2**63 + 11

    def test_alone(self, draw):
        batch = draw(Noise.of(self.SEED, range(64)))
        for i in (0, 5, 63):
            assert torch.equal(draw(Noise.of(self.SEED, [i]))[0], batch[i])

    def test_in_batches_of_7(self, draw):
        parts = [draw(Noise.of(self.SEED, range(start, min(start + 7, 64)))) for start in range(0, 64, 7)]
        assert torch.equal(torch.cat(parts), draw(Noise.of(self.SEED, range(64))))

    def test_on_two_ranks_strided(self, draw):
        batch = draw(Noise.of(self.SEED, range(64)))
        for rank in range(2):
            assert torch.equal(draw(Noise.of(self.SEED, range(rank, 64, 2))), batch[rank::2])

    def test_on_two_ranks_contiguous(self, draw):
        ranks = [draw(Noise.of(self.SEED, range(32))), draw(Noise.of(self.SEED, range(32, 64)))]
        assert torch.equal(torch.cat(ranks), draw(Noise.of(self.SEED, range(64))))

    def test_asked_twice(self, draw):
        noise = Noise.of(self.SEED, range(8))
        assert torch.equal(draw(noise), draw(noise))

    def test_far_away(self, draw):
        far = 2**40
        assert torch.equal(draw(Noise.of(self.SEED, [far + 3]))[0], draw(Noise.of(self.SEED, range(far, far + 7)))[3])
        assert not torch.equal(draw(Noise.of(self.SEED, range(far, far + 4))), draw(Noise.of(self.SEED, range(4))))


@given(st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=12), st.data())
@settings(max_examples=40)
def test_any_choice_of_samples_is_a_choice_of_rows(index, data):
    rows = data.draw(st.lists(st.integers(0, len(index) - 1), max_size=5))
    noise = Noise.of(4, index)
    assert torch.equal(noise[rows].normal(3), noise.normal(3)[rows])
    assert torch.equal(noise[1:].uniform(2), noise.uniform(2)[1:])
    assert torch.equal(noise[0].uniform(2), noise.uniform(2)[:1])


def test_streams_and_seeds_differ():
    noise = Noise.of(1, range(10))
    draws = [noise.normal(20), noise.normal(20, stream=1), Noise.of(2, range(10)).normal(20), Noise.of(1, range(10, 20)).normal(20)]
    for i, first in enumerate(draws):
        for second in draws[i + 1 :]:
            assert not bool((first == second).any())


def test_float32_and_float64_are_the_same_draws():
    noise = Noise.of(1, range(10))
    torch.testing.assert_close(noise.normal(20, dtype=torch.float64).float(), noise.normal(20), atol=1e-6, rtol=0)
    assert torch.equal(noise.normal(20).bfloat16(), noise.normal(20, dtype=torch.bfloat16))


def test_global_state_is_neither_read_nor_changed(draw):
    def states():
        return torch.get_rng_state().tolist(), np.random.get_state()[1].tolist(), np.random.get_state()[2], random.getstate()

    torch.manual_seed(0)
    before = states()
    first = draw(Noise.of(3, range(5)))
    assert states() == before
    torch.manual_seed(1)
    np.random.seed(1)
    random.seed(1)
    assert torch.equal(draw(Noise.of(3, range(5))), first)


class TestAsNoise:
    def test_a_seed_is_samples_from_0(self):
        noise = as_noise(5, 3, "cpu")
        assert (noise.seed, noise.index.tolist(), noise.index.dtype) == (5, [0, 1, 2], torch.int64)
        assert len(as_noise(5, 0, "cpu")) == 0

    def test_noise_passes_through(self):
        noise = Noise.of(5, [9, 7])
        assert as_noise(noise, 2, "cpu").index.tolist() == [9, 7]

    def test_noise_of_another_number(self):
        with pytest.raises(ValueError, match="`noise` must be for 3 samples; got noise for 2"):
            as_noise(Noise.of(5, [9, 7]), 3, "cpu")

    def test_bad_seed_is_found_when_drawing(self):
        with pytest.raises(ValueError, match="`seed` must be in"):
            as_noise(-1, 3, "cpu").normal(2)


def test_frozen():
    with pytest.raises(AttributeError):
        Noise.of(0, [1]).seed = 3
