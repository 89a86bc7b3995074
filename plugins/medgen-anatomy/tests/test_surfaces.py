"""Surfaces against closed forms, and the filling of cuts against matplotlib's point-in-polygon test."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from analytic_meshes import cup, ellipsoid, half_ellipsoid
from hypothesis import given, settings
from hypothesis import strategies as st

from medgen.errors import DataError
from medgen_anatomy.surfaces import cut, fill, long_axis, surface, volume


@pytest.mark.parametrize(
    ("mesh", "truth", "open_ends"),
    [
        (ellipsoid(30, 30, 30), 4 / 3 * math.pi * 30**3, False),
        (ellipsoid(40, 20, 25), 4 / 3 * math.pi * 40 * 20 * 25, False),
        (half_ellipsoid(80, 25, 20), 2 / 3 * math.pi * 80 * 25 * 20, True),
        (cup(50, 20), math.pi * 400 * 50, True),
    ],
)
def test_volumes(mesh, truth, open_ends):
    shape = surface(*mesh)
    assert bool(len(shape.rim)) is open_ends
    assert volume(shape) == pytest.approx(truth, rel=2e-3)
    assert volume(replace(shape, vertices=shape.vertices + 500)) == pytest.approx(volume(shape), rel=1e-9)
    flipped = surface(mesh[0], mesh[1][:, ::-1])
    assert volume(flipped) == pytest.approx(volume(shape), rel=1e-12)


def test_the_long_axis_follows_the_heart():
    vertices, faces = half_ellipsoid(80, 25, 20)
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    shift = np.array([5.0, -40.0, 12.0])
    frame = long_axis(surface(vertices @ rotation.T + shift, faces))
    np.testing.assert_allclose(frame.axes[0], rotation @ [-1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(frame.origin, shift, atol=1e-9)
    np.testing.assert_allclose(frame.axes @ frame.axes.T, np.eye(3), atol=1e-12)
    assert frame.axes[1] @ [0, 0, 1] < 0  # rows run downwards


def test_a_cut_of_a_sphere_is_a_circle():
    shape = surface(*ellipsoid(30, 30, 30))
    levels = np.array([-29.0, -10.0, 0.0, 12.5, 29.9, 31.0])
    level, segments = cut(shape.vertices, shape.faces, levels)
    radius = np.linalg.norm(segments, axis=2)
    truth = np.sqrt(np.maximum(900 - levels**2, 0))
    assert set(level.tolist()) == {0, 1, 2, 3, 4}
    np.testing.assert_allclose(radius, np.broadcast_to(truth[level][:, None], radius.shape), rtol=0.03)
    # closed: every end belongs to exactly two segments, bit for bit
    for k in range(5):
        _, count = np.unique(segments[level == k].reshape(-1, 2), axis=0, return_counts=True)
        assert (count == 2).all()


@given(st.integers(3, 40), st.integers(0, 2**31), st.booleans())
@settings(deadline=None, max_examples=60)
def test_filling_is_even_odd(corners, seed, on_the_grid):
    rng = np.random.default_rng(seed)
    outline = rng.uniform(-9, 9, (corners, 2))
    if on_the_grid:
        outline = np.rint(outline)  # vertices on the rays
    segments = np.stack([outline, np.roll(outline, -1, axis=0)], 1)
    rows, columns = np.linspace(-10, 10, 31) + 1e-4, np.linspace(-10, 10, 27) + 1e-4
    inside = fill(np.zeros(corners, int), segments, 1, rows, columns)[0]
    v, u = np.meshgrid(rows, columns, indexing="ij")
    crossings = np.zeros(v.shape, int)  # one point and one edge at a time
    for (v0, u0), (v1, u1) in segments:
        if v0 != v1:
            crossings += ((v0 <= v) != (v1 <= v)) & (u0 + (v - v0) * (u1 - u0) / (v1 - v0) <= u)
    np.testing.assert_array_equal(inside, crossings % 2 == 1)


def test_a_convex_outline_agrees_with_matplotlib():
    path = pytest.importorskip("matplotlib.path")
    phi = np.linspace(0, 2 * math.pi, 50, endpoint=False)
    outline = np.stack([7 * np.sin(phi) + 0.3, 4 * np.cos(phi) - 0.2], 1)
    rows = columns = np.linspace(-10, 10, 64)
    inside = fill(np.zeros(50, int), np.stack([outline, np.roll(outline, -1, axis=0)], 1), 1, rows, columns)[0]
    points = np.stack(np.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
    np.testing.assert_array_equal(inside, path.Path(outline).contains_points(points).reshape(64, 64))


def test_what_is_no_surface_is_said():
    vertices, faces = half_ellipsoid(80, 25, 20)
    with pytest.raises(DataError, match=r"finite numbers \[P, 3\]"):
        surface(vertices[:, :2], faces)
    with pytest.raises(DataError, match="in 0\\.\\."):
        surface(vertices, faces + 1)
    with pytest.raises(DataError, match="oriented surface"):
        surface(vertices, np.concatenate([faces, faces[500:501]]))
    tube = np.arange(len(faces) // 2 - 128)
    with pytest.raises(DataError, match="at most one open end"):
        surface(vertices, faces[np.concatenate([tube, tube + len(faces) // 2])])
    with pytest.raises(DataError, match="this surface is closed"):
        long_axis(surface(*ellipsoid(3, 3, 3)))
    with pytest.raises(DataError, match="must not point along"):
        long_axis(surface(vertices, faces), up=(1, 0, 0))
