"""Attributes of label maps: closed forms on ellipses, rotations and translations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgen.data.phantoms.drawing import generator
from medgen.errors import DataError
from medgen_anatomy.apical import ApicalShape, apical_label_map, apical_labels, draw_apical
from medgen_anatomy.attributes import ATTRIBUTES, CAMUS_BOUNDS, cardiac_attributes, scaled

SIZE = 128


def measured(shape, **options):
    return dict(zip(ATTRIBUTES, cardiac_attributes(apical_label_map(shape, SIZE, **options)[None].astype(int))[0], strict=True))


@given(
    row=st.floats(95, 102),
    column=st.floats(50, 70),
    orientation=st.floats(-15, 20),
    width=st.floats(24, 44),
    length=st.floats(50, 68),
    wall=st.floats(7, 14),
)
def test_half_ellipses_have_their_closed_forms(row, column, orientation, width, length, wall):
    shape = ApicalShape(base=(row, column), orientation=orientation, width=width, length=length, wall=wall, power=2.0)
    truth, found = shape.attributes, measured(shape)
    # a pixel is in or out as its centre is: half a pixel's error along a base that lies on a row, a fraction elsewhere
    outline = 2 * length + 2 * width
    assert abs(found["lv_area"] - truth["lv_area"]) < 0.15 * outline + 0.5 * width
    assert abs(found["myo_area"] - truth["myo_area"]) < 0.3 * outline + wall
    assert abs(found["epi_center_x"] - truth["epi_center_x"]) < 0.5
    assert abs(found["epi_center_y"] - truth["epi_center_y"]) < 0.5
    assert abs(found["lv_orientation"] - truth["lv_orientation"]) < 1.5
    # both ends are centres of pixels inside, at most a pixel's diagonal within the outline
    for name in ("lv_base_width", "lv_length"):
        assert -2.6 < found[name] - truth[name] < 0.2, name


def test_half_ellipse_in_numbers():
    shape = ApicalShape(base=(100.0, 64.0), orientation=0.0, width=40.0, length=60.0, wall=10.0, power=2.0)
    truth = shape.attributes
    assert truth["lv_area"] == pytest.approx(np.pi * 20 * 60 / 2)
    assert truth["myo_area"] == pytest.approx(np.pi * (30 * 70 - 20 * 60) / 2)
    assert truth["epi_center_y"] == pytest.approx(100 - 4 * 70 / (3 * np.pi))
    assert truth["epi_center_x"] == pytest.approx(64.0)


@pytest.mark.parametrize("power", [1.6, 2.0, 2.8])
def test_closed_forms_of_other_powers_agree_with_a_fine_grid(power):
    shape = ApicalShape(base=(1600.0, 1000.0), orientation=9.0, width=600.0, length=900.0, wall=150.0, power=power)
    maps = apical_label_map(shape, 2000)
    truth = shape.attributes
    rows, columns = np.nonzero(maps)
    assert (maps == 1).sum() == pytest.approx(truth["lv_area"], rel=1e-3)
    assert (maps == 2).sum() == pytest.approx(truth["myo_area"], rel=1e-3)
    assert (columns.mean(), rows.mean()) == (pytest.approx(truth["epi_center_x"], abs=0.1), pytest.approx(truth["epi_center_y"], abs=0.1))


@given(down=st.integers(-8, 12), right=st.integers(-20, 25), seed=st.integers(0, 1000))
def test_a_translation_moves_the_centre_alone(down, right, seed):
    size = 96
    maps = np.pad(apical_label_map(draw_apical(generator(0, seed), size), size), 30).astype(int)
    before, after = cardiac_attributes(np.stack([maps, np.roll(maps, (down, right), (0, 1))]))
    shift = np.array([0, 0, 0, 0, 0, right, down])
    np.testing.assert_allclose(after - before, shift, atol=1e-9)


@given(seed=st.integers(0, 1000))
def test_a_mirror_image_turns_orientation_and_x(seed):
    maps = apical_label_map(draw_apical(generator(0, seed), SIZE), SIZE).astype(int)
    before, after = cardiac_attributes(np.stack([maps, maps[:, ::-1]]))
    names = dict(zip(ATTRIBUTES, range(7), strict=True))
    for name in ("lv_area", "myo_area", "epi_center_y", "lv_base_width"):
        assert after[names[name]] == pytest.approx(before[names[name]]), name
    assert after[names["lv_orientation"]] == pytest.approx(-before[names["lv_orientation"]], abs=1e-9)
    assert after[names["epi_center_x"]] == pytest.approx(SIZE - 1 - before[names["epi_center_x"]])


@pytest.mark.parametrize("turn", [-60.0, -30.0, 30.0, 60.0, 80.0])
def test_orientation_is_the_turn_of_a_whole_ellipse(turn):
    rows, columns = np.mgrid[:SIZE, :SIZE] - 63.5
    angle = np.radians(turn)
    along, across = -rows * np.cos(angle) + columns * np.sin(angle), rows * np.sin(angle) + columns * np.cos(angle)
    ellipse = ((along / 50) ** 2 + (across / 20) ** 2 <= 1).astype(int)
    found = dict(zip(ATTRIBUTES, cardiac_attributes(ellipse[None])[0], strict=True))
    assert found["lv_orientation"] == pytest.approx(turn, abs=0.2)
    assert found["lv_area"] == pytest.approx(np.pi * 50 * 20, rel=0.01)


def test_what_is_missing_is_nan():
    shape = ApicalShape(base=(100.0, 64.0), orientation=0.0, width=40.0, length=60.0, wall=10.0, power=2.0)
    whole = apical_label_map(shape, SIZE).astype(int)
    maps = np.stack([np.zeros_like(whole), np.where(whole == 1, 1, 0), np.where(whole == 2, 2, 0), whole])
    found = np.isnan(cardiac_attributes(maps))
    of = {name: k for k, name in enumerate(ATTRIBUTES)}
    assert found[0].all()
    assert not found[3].any()
    assert set(np.flatnonzero(found[1])) == {of["lv_base_width"], of["lv_length"], of["myo_area"]}  # no wall, no base
    assert set(np.flatnonzero(found[2])) == {of["lv_area"], of["lv_base_width"], of["lv_length"], of["lv_orientation"]}
    inside = np.where(whole == 1, 1, 0)
    closed = np.where(inside == 0, 2, inside)[None]  # wall all round, as in a short-axis slice
    assert np.isnan(cardiac_attributes(closed)[0, of["lv_base_width"]])


def test_the_atrium_is_neither():
    shape = ApicalShape(base=(90.0, 64.0), orientation=5.0, width=40.0, length=60.0, wall=10.0, power=2.0)
    assert (apical_label_map(shape, SIZE, atrium=True) == 3).any()
    assert measured(shape) == measured(shape, atrium=True)


def test_other_labels():
    maps = apical_label_map(draw_apical(generator(0, 3), SIZE), SIZE)
    swapped = np.array([0, 5, 3], dtype=np.int32)[maps]
    np.testing.assert_array_equal(cardiac_attributes(maps[None]), cardiac_attributes(swapped[None], lv=[5, 7], myo=3))


def test_bounds_scale_to_the_unit_interval():
    assert len(CAMUS_BOUNDS) == 7
    np.testing.assert_allclose(scaled([list(map(np.mean, CAMUS_BOUNDS.values()))]), 0.5)
    np.testing.assert_allclose(scaled([[high for _, high in CAMUS_BOUNDS.values()]]), 1.0)


@pytest.mark.parametrize("maps", [np.zeros((4, 4), int), np.zeros((1, 4, 4))])
def test_other_arrays_are_refused(maps):
    with pytest.raises(DataError, match=r"integers \[B, H, W\]"):
        cardiac_attributes(maps)


def test_the_dataset_knows_the_truth():
    data = apical_labels(n=12, size=64, seed=4)
    spec = data.conditions[0]
    assert spec.names == ATTRIBUTES
    assert data.image_spec.channels == 3
    found = cardiac_attributes(data.stored(np.arange(12))[:, 0])
    truth = np.stack([data.samples.attributes[name] for name in ATTRIBUTES], 1)
    np.testing.assert_allclose(found[:, [5, 6]], truth[:, [5, 6]], atol=0.3)
    np.testing.assert_allclose(found[:, 0], truth[:, 0], rtol=0.05)
    assert len({map_.tobytes() for map_ in data.stored(np.arange(12))}) == 12
    assert np.array_equal(apical_labels(n=20, size=64, seed=4).stored(np.arange(12)), data.stored(np.arange(12)))
