"""The monoid: associative, commutative, with a neutral element, equal to torch.logsumexp, and finite where exp is not."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from medgen.maths import LogSum

VALUES = st.lists(st.floats(-1e6, 1e6) | st.sampled_from([-math.inf, 0.0]), max_size=12)


def of(values):
    return LogSum.of(torch.tensor(values, dtype=torch.float64))


def close(a, b):
    torch.testing.assert_close(a.value, b.value, rtol=1e-14, atol=1e-13)


@given(VALUES)
def test_value_is_logsumexp(values):
    torch.testing.assert_close(of(values).value, torch.tensor(values, dtype=torch.float64).logsumexp(0), rtol=1e-14, atol=1e-13)


@given(VALUES, VALUES, VALUES)
def test_merging_is_associative_commutative_and_neutral(a, b, c):
    a, b, c = of(a), of(b), of(c)
    close(a.merge(b).merge(c), a.merge(b.merge(c)))
    close(a.merge(b), b.merge(a))
    assert a.merge(of([])).value == a.value or a.value == -math.inf


@given(VALUES, VALUES)
def test_merging_is_concatenation(a, b):
    close(of(a).merge(of(b)), of(a + b))


def test_neither_overflows_nor_loses_the_far_tail():
    far = of([-1e300]).merge(of([-1e300]))
    assert far.value == -1e300
    assert of([1e6]).merge(of([-1e6])).value == 1e6


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_along_a_dimension(dim):
    values = torch.randn(3, 4, dtype=torch.float64)
    torch.testing.assert_close(LogSum.of(values, dim).value, values.logsumexp(dim))


def test_nan_stays():
    assert of([1.0, math.nan]).value.isnan()
    assert of([1.0]).merge(of([math.nan])).value.isnan()
    assert of([math.nan]).merge(of([1.0])).value.isnan()
