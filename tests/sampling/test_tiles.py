from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medgen.errors import ConfigError
from medgen.sampling import tiled
from medgen.sampling.tiles import tile_starts, tile_weights

BLENDS = st.sampled_from(["hann", "gaussian"])


@given(st.integers(1, 90), st.integers(1, 40), st.floats(0, 0.9), BLENDS)
@settings(max_examples=80, deadline=None)
def test_weights_are_a_partition_of_unity(length, size, overlap, blend):
    size = min(size, length)
    starts = tile_starts(length, size, overlap)
    assert starts[0] == 0
    assert starts[-1] == length - size
    assert all(b - a <= max(1, size * (1 - overlap)) for a, b in pairwise(starts))
    total = torch.zeros(length, dtype=torch.float64)
    for start, weights in zip(starts, tile_weights(starts, size, length, blend), strict=True):
        assert bool((weights > 0).all())
        total[start : start + size] += weights
    torch.testing.assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)


@given(st.integers(1, 3), st.floats(0, 0.8), BLENDS, st.integers(1, 7), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_what_acts_on_each_position_comes_back_without_seams(dim, overlap, blend, micro_batch, seed):
    torch.manual_seed(seed)
    shape, size = torch.randint(3, 14, (dim,)).tolist(), torch.randint(1, 9, (dim,)).tolist()
    x = torch.randn(2, 2, *shape, dtype=torch.float64) * 1000
    found = tiled(lambda t, _: torch.cat((3 * t - 1, t[:, :1].abs()), 1), x, size, overlap=overlap, blend=blend, micro_batch=micro_batch)
    torch.testing.assert_close(found, torch.cat((3 * x - 1, x[:, :1].abs()), 1), rtol=1e-12, atol=1e-9)


def test_a_shift_between_tiles_is_spread_over_the_overlap():
    """Tile k adds k: the result rises without a jump as large as 1."""
    x = torch.zeros(1, 1, 400)
    found = tiled(lambda t, number: t + number.view(-1, 1, 1), x, (40,), overlap=0.5)[0, 0]
    count = len(tile_starts(400, 40, 0.5))
    assert found[0] == 0
    assert found[-1] == count - 1
    assert float(found.diff().abs().max()) < 0.09
    hard = tiled(lambda t, number: t + number.view(-1, 1, 1), x, (40,), overlap=0.0)[0, 0]
    assert float(hard.diff().abs().max()) == 1


def test_tiles_are_numbered_over_the_batch_and_the_work_is_told():
    seen, told = [], []
    tiled(
        lambda t, number: (seen.extend(number.tolist()), t)[1],
        torch.zeros(2, 1, 10),
        (4,),
        micro_batch=3,
        progress=lambda *a: told.append(a),
    )
    assert seen == list(range(8))
    assert told == [(3, 8), (6, 8), (8, 8)]


@pytest.mark.parametrize(("size", "options"), [((4,), {}), ((4, 0), {}), ((4, 4), {"overlap": 1.0}), ((4, 4), {"micro_batch": 0})])
def test_wrong_arguments_are_refused(size, options):
    with pytest.raises(ConfigError, match="must"):
        tiled(lambda t, _: t, torch.zeros(1, 1, 8, 8), size, **options)
