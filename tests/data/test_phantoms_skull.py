import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgen.data.phantoms import Skull, draw_skull, skull_volume, three_planes
from medgen.data.phantoms.drawing import generator


def _sphere(radius=30.0, thickness=6.0):
    return Skull(
        gestational_age=30,
        outer=(radius,) * 3,
        thickness=thickness,
        centre=(0, 0, 0),
        angles=(0, 0, 0),
        ventricle=(3, 8, 5),
        ventricle_offset=8,
    )


def test_hollow_sphere_has_its_thickness_and_volume():
    h = 1.0
    bone = skull_volume(_sphere(), 72, h) == 1
    where = (np.argwhere(bone) - 35.5) * h
    radius = np.linalg.norm(where, axis=1)
    assert radius.min() == pytest.approx(24, abs=h)
    assert radius.max() == pytest.approx(30, abs=h)
    assert _sphere().skull_volume == pytest.approx(4 / 3 * math.pi * (30**3 - 24**3) / 1000)
    assert bone.sum() * h**3 / 1000 == pytest.approx(_sphere().skull_volume, rel=0.005)


@settings(max_examples=8, deadline=None)
@given(i=st.integers(0, 10**6))
def test_volume_fractions(i):
    skull, size = draw_skull(generator(0, i)), 96
    h = 144 / size
    labels = skull_volume(skull, size, h, inside=True)
    counts = np.bincount(labels.ravel(), minlength=4) * h**3 / 1000
    a, b, c = skull.outer
    # Voxels that a surface meets lie within h sqrt(3) / 2 of it; the surface of an ellipsoid is at most that of its bounding sphere.
    tube = 2 * h * math.sqrt(3) / 2 * 4 * math.pi * max(a, b, c) ** 2 / 1000
    assert abs(counts[1] - skull.skull_volume) <= 2 * tube
    assert counts[2] + counts[3] == pytest.approx(skull.cranial_volume, rel=0.01)
    assert counts[3] == pytest.approx(skull.ventricular_volume, rel=0.15)
    assert counts[1:].sum() == pytest.approx(skull.skull_volume + skull.cranial_volume, rel=0.01)
    assert not np.concatenate([labels[0].ravel(), labels[:, 0].ravel(), labels[..., 0].ravel(), labels[-1].ravel()]).any()


def test_centre_and_axes_are_those_of_the_volume():
    skull = draw_skull(generator(0, 4))
    filled = skull_volume(skull, 96, 1.5, inside=True) > 0
    where = (np.argwhere(filled) - 47.5) * 1.5
    np.testing.assert_allclose(where.mean(0), skull.centre, atol=0.1)
    # Second moments of a solid ellipsoid are a^2 / 5.
    np.testing.assert_allclose(np.sort(np.sqrt(5 * np.linalg.eigvalsh(np.cov(where.T)))), np.sort(skull.outer), rtol=0.01)


def test_classes_follow_the_cephalic_index():
    skulls = [draw_skull(generator(0, i)) for i in range(300)]
    assert {s.shape_class for s in skulls} == {0, 1, 2}
    for s in skulls:
        assert s.shape_class == (0 if s.cephalic_index < 0.75 else 2 if s.cephalic_index > 0.85 else 1)


def test_three_planes_are_orthogonal_cuts():
    volumes = np.random.default_rng(0).integers(0, 4, (2, 5, 5, 5)).astype(np.uint8)
    axial, sagittal, coronal = np.moveaxis(three_planes(volumes, at=(1, 2, 3)), 1, 0)
    np.testing.assert_array_equal(axial, volumes[:, :, :, 3])
    np.testing.assert_array_equal(sagittal, volumes[:, 1])
    np.testing.assert_array_equal(coronal, volumes[:, :, 2])
    assert three_planes(volumes).shape == (2, 3, 5, 5)
