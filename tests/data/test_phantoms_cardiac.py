import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from medgen.data.phantoms import CardiacShape, cardiac_image, cardiac_label_map, draw_cardiac
from medgen.data.phantoms.cardiac import _lens
from medgen.data.phantoms.cycle import contraction, draw_cycle
from medgen.data.phantoms.drawing import generator
from medgen.errors import DataError

ROUND = CardiacShape(
    disease="normal",
    centre=(0, 0),
    orientation=0,
    a=22,
    b=22,
    wall_thickness=9,
    septal_excess=0,
    rv_width=22,
    rv_radius=0.9,
    blood=0.8,
    contrast=0.5,
)


def _areas(shape, h):
    size = math.ceil(200 / h)
    return np.bincount(cardiac_label_map(shape, size, h).ravel(), minlength=4) * h**2


@settings(max_examples=25, deadline=None)
@given(i=st.integers(0, 10**6))
def test_areas_of_label_maps_are_the_closed_forms(i):
    shape, h = draw_cardiac(generator(0, i)), 0.5
    _, rv, myo, lv = _areas(shape, h)
    (big_a, big_b), (rv_a, rv_b) = shape.epicardium[1], shape.rv_border[1]

    def tube(a, b):  # see test_phantoms_drawing: pixels that the curve meets
        return math.sqrt(2) * h * math.pi * math.sqrt(2 * (a**2 + b**2))

    assert abs(lv - shape.lv_area) <= tube(shape.a, shape.b)
    assert abs(myo - shape.myo_area) <= tube(shape.a, shape.b) + tube(big_a, big_b)
    assert abs(rv - shape.rv_area) <= tube(rv_a, rv_b) + tube(big_a, big_b)
    # The bound allows for the worst alignment of grid and curve; a typical error is a hundredth of it.
    np.testing.assert_allclose([rv, myo, lv], [shape.rv_area, shape.myo_area, shape.lv_area], rtol=0.02)


def test_area_errors_shrink_with_the_pixel():
    shapes = [draw_cardiac(generator(2, i)) for i in range(6)]
    errors = [np.mean([abs(_areas(s, h)[3] / s.lv_area - 1) for s in shapes]) for h in (4.0, 1.0, 0.25)]
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < 1e-3


def test_lens_area():
    assert _lens(1, 1, 0) == pytest.approx(math.pi)
    assert _lens(1, 0.25, 0.5) == pytest.approx(math.pi / 16)
    assert _lens(1, 1, 2) == 0
    assert _lens(1, 1, 1) == pytest.approx(2 * math.pi / 3 - math.sqrt(3) / 2)


def test_wall_thickness_of_the_annulus():
    h = 0.25
    myo = cardiac_label_map(ROUND, 400, h) == 2
    rows, columns = np.nonzero(myo)
    radius = h * np.hypot(rows - 199.5, columns - 199.5)
    assert radius.min() == pytest.approx(22, abs=h)
    assert radius.max() == pytest.approx(31, abs=h)


def test_septum_is_thicker_by_the_excess():
    h = 0.25
    labels = cardiac_label_map(replace(ROUND, septal_excess=3.0), 401, h)
    line = labels[200]  # through the centre, along u, which points to the left
    left, right = (line[:200] == 2).sum() * h, (line[201:] == 2).sum() * h
    assert left == pytest.approx(12, abs=h)
    assert right == pytest.approx(6, abs=h)


@settings(max_examples=25, deadline=None)
@given(angle=st.floats(-1.2, 1.2), i=st.integers(0, 1000))
def test_orientation_is_that_of_the_maps(angle, i):
    shape = replace(draw_cardiac(generator(0, i)), orientation=angle, centre=(0.0, 0.0), septal_excess=0.0)
    labels = cardiac_label_map(shape, 300, 0.6)
    rv, lv = (np.array(ndimage.center_of_mass(labels == k)) for k in (1, 3))
    row, column = rv - lv
    assert math.atan2(-row, -column) == pytest.approx(angle, abs=0.02)
    rows, columns = np.nonzero(labels == 3)
    values, vectors = np.linalg.eigh(np.cov(np.stack([rows, columns])))
    assert abs(vectors[:, values.argmin()] @ shape.axes[0]) == pytest.approx(1, abs=0.02)  # short axis of the cavity along u


@settings(max_examples=20, deadline=None)
@given(i=st.integers(0, 10**6))
def test_maps_are_anatomical(i):
    labels = cardiac_label_map(draw_cardiac(generator(0, i)), 128, 144 / 128)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    assert not border.any()
    for k in (1, 2, 3):
        assert ndimage.label(labels == k, np.ones((3, 3)))[1] == 1
    assert ndimage.binary_fill_holes(labels == 2).sum() == ((labels == 2) | (labels == 3)).sum()
    neighbours = ndimage.binary_dilation(labels == 3, np.ones((3, 3))) & (labels != 3)
    assert set(np.unique(labels[neighbours])) == {2}  # the cavity touches muscle only


def test_diseases_differ_as_they_should():
    by = {d: [draw_cardiac(generator(0, i), d) for i in range(60)] for d in ("normal", "dilated", "hypertrophic")}
    cavity = {d: np.mean([s.lv_area for s in shapes]) for d, shapes in by.items()}
    wall = {d: np.mean([s.septal_thickness for s in shapes]) for d, shapes in by.items()}
    assert cavity["hypertrophic"] < cavity["normal"] < 0.7 * cavity["dilated"]
    assert wall["dilated"] < wall["normal"] < 0.7 * wall["hypertrophic"]


def test_drawn_classes_are_equally_likely():
    drawn = [draw_cardiac(generator(0, i)).disease for i in range(900)]
    counts = [drawn.count(d) for d in ("normal", "dilated", "hypertrophic")]
    assert all(abs(c - 300) < 4 * math.sqrt(900 * 2 / 9) for c in counts)


def test_image_shows_blood_brighter_than_muscle_by_the_contrast():
    differences, contrasts = [], []
    for i in range(12):
        rng = generator(0, i)
        shape = draw_cardiac(rng)
        image, labels = cardiac_image(shape, rng, 96, 1.5), cardiac_label_map(shape, 96, 1.5)
        assert image.dtype == np.float32
        assert image.min() >= 0
        assert image.max() <= 1
        inner = [ndimage.binary_erosion(labels == k, iterations=2) for k in (2, 3)]
        differences.append(np.median(image[inner[1]]) - np.median(image[inner[0]]))
        contrasts.append(shape.contrast)
    # The bias field multiplies both, by a factor near 1 whose log has standard deviation 0.1.
    np.testing.assert_allclose(differences, contrasts, rtol=0.35)
    assert np.mean(np.array(differences) / contrasts) == pytest.approx(1, abs=0.12)


# Cycles


@settings(max_examples=30, deadline=None)
@given(i=st.integers(0, 10**6), frames=st.integers(3, 60))
def test_ejection_fraction_over_the_cycle(i, frames):
    cycle = draw_cycle(generator(0, i), frames)
    shapes = [cycle.true_shape(t) for t in range(frames)]
    volume = [s.lv_area * (1 - cycle.contraction(t) * cycle.shortening) for t, s in enumerate(shapes)]
    assert 1 - min(volume) / max(volume) == pytest.approx(cycle.ejection_fraction, rel=1e-9)
    assert int(np.argmax(volume)) == 0
    assert int(np.argmin(volume)) == cycle.end_systole
    mass = [s.myo_area * (1 - cycle.contraction(t) * cycle.shortening) for t, s in enumerate(shapes)]
    np.testing.assert_allclose(mass, mass[0], rtol=1e-9)  # muscle is incompressible


def test_cycle_closes_and_is_smooth():
    s = np.array([contraction(t, 10, 30) for t in range(61)])
    assert s[0] == s[30] == s[60] == 0
    assert s[10] == 1
    assert np.abs(np.diff(s, 2)).max() <= 0.5 * (math.pi / 10) ** 2 + 1e-12  # the largest curvature of the faster half cosine


def test_spikes_are_where_the_area_jumps():
    cycle = draw_cycle(generator(0, 1), 30, spikes=3)
    assert len(cycle.spikes) == 3
    assert set(cycle.spikes) <= set(range(1, 29))
    for t in range(30):
        factor = cycle.shape(t).lv_area / cycle.true_shape(t).lv_area
        assert factor == pytest.approx(0.64 if t in cycle.spikes else 1)
    assert [t for t in range(30) if cycle.shape(t) != cycle.true_shape(t)] == list(cycle.spikes)


@pytest.mark.parametrize(("frames", "spikes"), [(2, 0), (10, 9), (10, -1)])
def test_impossible_cycles(frames, spikes):
    with pytest.raises(DataError, match="frames"):
        draw_cycle(generator(0, 0), frames, spikes)
