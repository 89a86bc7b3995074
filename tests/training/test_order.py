from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgen.errors import DataError
from medgen.training.optim import lr_factor
from medgen.training.order import BatchOrder


@given(n=st.integers(1, 200), batch=st.integers(1, 64), seed=st.integers(0, 2**63 - 1))
def test_every_epoch_is_a_permutation(n, batch, seed):
    order = BatchOrder(np.arange(n) + 1000, batch, seed)
    for epoch in range(2):
        seen = np.concatenate([order.batch(epoch * order.per_epoch + i) for i in range(order.per_epoch)])
        assert len(set(seen.tolist())) == len(seen) == order.per_epoch * order.size
        assert set(seen.tolist()) <= set(range(1000, 1000 + n))
        assert n - len(seen) < order.size


@given(n=st.integers(4, 100), jump=st.integers(0, 300))
def test_batches_do_not_depend_on_the_way_there(n, jump):
    walked, jumped = BatchOrder(np.arange(n), 4, 7), BatchOrder(np.arange(n), 4, 7)
    for number in range(jump):
        walked.batch(number)
    assert (walked.batch(jump) == jumped.batch(jump)).all()


def test_epochs_and_seeds_differ():
    order, other = BatchOrder(np.arange(100), 100, 0), BatchOrder(np.arange(100), 100, 1)
    assert (order.batch(0) != order.batch(1)).any()
    assert (order.batch(0) != other.batch(0)).any()


def test_the_order_is_the_same_everywhere():
    """Golden values: a change would silently break every resumed run."""
    assert BatchOrder(np.arange(10), 10, 0).batch(0).tolist() == GOLDEN


GOLDEN = [0, 2, 9, 1, 8, 5, 4, 3, 6, 7]


def test_too_few_samples():
    with pytest.raises(DataError, match="at least 4 sample"):
        BatchOrder(np.arange(3), 8, 0, divisor=4)


@given(
    total=st.integers(1, 5000), warmup=st.integers(0, 1000), schedule=st.sampled_from(["constant", "cosine", "linear", "constant_linear"])
)
def test_learning_rate_rises_then_never_rises_again(total, warmup, schedule):
    factors = [lr_factor(s, total, schedule=schedule, warmup=warmup) for s in range(0, total, max(1, total // 50))]
    assert all(0.0 <= f <= 1.0 + 1e-12 for f in factors)
    peak = factors.index(max(factors))
    assert all(a <= b + 1e-12 for a, b in pairwise(factors[: peak + 1]))
    assert all(a >= b - 1e-12 for a, b in pairwise(factors[peak:]))
