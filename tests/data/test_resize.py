from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medgen.data.geometry import Grid, Plan, affine_resized, axis_codes
from medgen.data.resize import resize
from medgen.errors import DataError


@pytest.mark.parametrize(("old", "new"), [((12, 9), (5, 14)), ((16, 16), (4, 4)), ((3, 5), (6, 10))])
def test_two_axes_equal_torch(rng, old, new):
    x = rng.normal(size=(3, 2, *old)).astype(np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(x), size=new, mode="bilinear", antialias=True)
    np.testing.assert_allclose(resize(x, new, labels=False), expected, atol=1e-5)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.data())
@settings(max_examples=40, deadline=None)
def test_constants_stay_and_labels_are_never_mixed(old, draw):
    new = draw.draw(st.lists(st.integers(1, 9), min_size=len(old), max_size=len(old)))
    constant = np.full((2, 1, *old), 77, np.uint8)
    assert (resize(constant, new, labels=False) == 77).all()
    labels = np.random.Generator(np.random.Philox(0)).choice(np.array([0, 3, 9], np.uint8), (2, 1, *old))
    assert set(np.unique(resize(labels, new, labels=True))) <= {0, 3, 9}
    assert resize(labels, new, labels=True).shape == (2, 1, *new)


def test_averages_survive_shrinking_by_whole_numbers_away_from_the_border():
    x = np.arange(32, dtype=np.float32)[None, None]
    np.testing.assert_allclose(resize(x, (8,), labels=False)[0, 0, 1:-1], np.arange(5.5, 27, 4), atol=1e-5)


def test_number_of_axes():
    with pytest.raises(DataError, match=r"`size` must have one number per axis of samples of shape \(4, 4\); got \(2,\)"):
        resize(np.zeros((1, 1, 4, 4)), (2,), labels=False)


@given(st.permutations([0, 1, 2]), st.tuples(*[st.sampled_from([-2.5, 0.7, 3.0])] * 3), st.floats(-0.4, 0.4))
@settings(max_examples=40, deadline=None)
def test_axis_codes_of_tilted_grids(order, steps, angle):
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    letters = [("L", "R"), ("P", "A"), ("I", "S")]
    for voxel, world in enumerate(order):
        affine[world, voxel] = steps[voxel]
    tilt = np.eye(4)
    tilt[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    assert axis_codes(tilt @ affine) == "".join(letters[w][int(steps[v] > 0)] for v, w in enumerate(order))


def test_the_corners_of_the_field_of_view_stay():
    affine = np.array([[-2.0, 0, 0, 90], [0, 1.5, 0, -126], [0, 0, 3, -72], [0, 0, 0, 1]])
    old, new = (10, 12, 8), (5, 7, 8)
    small = affine_resized(affine, old, new)
    for corner in ((0, 0, 0), (1, 1, 1), (1, 0, 1)):
        before = affine @ [*(np.array(corner) * old - 0.5), 1]
        after = small @ [*(np.array(corner) * new - 0.5), 1]
        np.testing.assert_allclose(before, after, atol=1e-9)


def test_a_plan_without_work_leaves_the_grid():
    grid = Grid((4, 5, 6), np.eye(4))
    assert Plan(codes="RAS").turned(grid) is grid
    assert Plan(spacing=(1.0, 1.0, float("nan"))).wanted(grid) is None
