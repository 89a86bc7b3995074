"""`connected` and `volume_ks` on shapes drawn by hand, and against SciPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from medgen.evaluation import evaluate_sets
from medgen.evaluation.shapes import connected, volume_ks


def boxes(sides) -> torch.Tensor:
    """Cubes of the given sides in volumes of 9^3."""
    x = torch.zeros(len(sides), 1, 9, 9, 9)
    for i, side in enumerate(sides):
        x[i, 0, :side, :side, :side] = 1
    return x


def test_pieces():
    whole, diagonal, two, none = boxes([3]), boxes([2]), boxes([2]), torch.zeros(1, 1, 9, 9, 9)
    diagonal[0, 0, 2, 2, 2] = 1
    two[0, 0, 5, 5, 5] = 1
    assert [connected(whole, x) for x in (whole, diagonal, two, none)] == [1, 1, 0, 0]
    score = evaluate_sets(torch.cat((whole, two)), torch.cat((whole, whole)), value_range=(0, 1), metrics=["connected"], bootstrap=0)[0]
    assert (score.value, score.details) == (1.0, {"of the real samples": 0.5})


def test_the_threshold_is_the_middle_of_the_real_range():
    real = torch.tensor([[[-1.0, 1.0, 1.0, -1.0]]])
    assert connected(real, torch.tensor([[[0.1, -0.1, 0.1, 0.1]]])) == 0.0
    assert connected(real, torch.tensor([[[0.1, 0.1, 0.1, -0.1]]])) == 1.0


@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_volumes_are_compared_as_scipy_does(real, fake):
    score = evaluate_sets(boxes([*real, 0]), boxes(fake), value_range=(0, 1), metrics=["volume_ks"], bootstrap=0)[0]
    expected = stats.ks_2samp(np.array([*real, 0]) ** 3.0, np.array(fake) ** 3.0)
    assert score.value == pytest.approx(expected.statistic)
    assert score.details["p"] == pytest.approx(expected.pvalue)


def test_equal_volumes_agree_and_others_do_not():
    x = boxes([3, 4, 5, 6] * 10)
    assert volume_ks(x, x.flip(-1)) == 0.0
    assert volume_ks(x, boxes([8] * 40)) == 1.0
