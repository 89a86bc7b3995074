import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgen.data.phantoms.drawing import Waves, bounded, check_count, coverage, ellipsoid_distance, generator, grid, rician, rotation
from medgen.errors import DataError


def test_generator_depends_on_seed_and_sample_only():
    first = [generator(3, i).standard_normal(4) for i in range(5)]
    again = [generator(3, i).standard_normal(4) for i in reversed(range(5))][::-1]
    np.testing.assert_array_equal(first, again)
    assert len({row.tobytes() for row in [*first, generator(4, 0).standard_normal(4)]}) == 6
    with pytest.raises(DataError, match="seed"):
        generator(-1, 0)


def test_antialiased_disc_has_area_pi_times_radius_squared_plus_a_twelfth():
    # Averaged over sub-pixel places, sum(coverage) h^2 is the integral of clip(1/2 - d/h) = pi (R^2 + h^2 / 12), exactly.
    h, radius, steps = 2.0, 9.3, 8
    points = grid((24, 24), h)
    areas = [
        coverage(ellipsoid_distance(points, (h * i / steps, h * j / steps), (radius, radius)), h).sum() * h**2
        for i in range(steps)
        for j in range(steps)
    ]
    assert np.mean(areas) == pytest.approx(math.pi * (radius**2 + h**2 / 12), abs=2e-3 * h**2)


@settings(max_examples=30, deadline=None)
@given(
    a=st.floats(8, 20),
    ratio=st.floats(1.0, 1.4),
    angle=st.floats(0, math.pi),
    row=st.floats(-3, 3),
    column=st.floats(-3, 3),
    h=st.floats(0.8, 2),
)
def test_hard_ellipse_area_within_the_tube_bound(a, ratio, angle, row, column, h):
    # A pixel is misjudged only if its square meets the curve, so the error is at most the area of the tube of half-width h / sqrt 2
    # about it, 2 (h / sqrt 2) L, with the perimeter L <= pi sqrt(2 (a^2 + b^2)).
    b = a * ratio
    size = 2 * math.ceil((b + 6) / h)
    inside = ellipsoid_distance(grid((size, size), h), (row, column), (a, b), rotation([angle])) < 0
    perimeter = math.pi * math.sqrt(2 * (a**2 + b**2))
    assert abs(inside.sum() * h**2 - math.pi * a * b) <= math.sqrt(2) * h * perimeter


def test_distance_is_exact_for_spheres_and_first_order_for_ellipsoids():
    points = grid((9, 9, 9), 1.0)
    radius = np.sqrt(sum(x**2 for x in points))
    np.testing.assert_allclose(ellipsoid_distance(points, (0, 0, 0), (3, 3, 3)), radius - 3, atol=1e-9)
    step = 1e-3
    outside = ellipsoid_distance([np.array([5 + step, 0.0]), np.array([0.0, 2 + step])], (0, 0), (5, 2))
    np.testing.assert_allclose(outside, step, rtol=2e-3)


def test_ellipse_turns_with_its_axes():
    points = grid((61, 61), 1.0)
    angle = 0.6
    axes = rotation([angle]).T  # rows: directions of the semi-axes
    inside = ellipsoid_distance(points, (0, 0), (25, 10), axes) < 0
    rows, columns = np.nonzero(inside)
    values, vectors = np.linalg.eigh(np.cov(np.stack([rows, columns])))
    main = vectors[:, values.argmax()]
    assert abs(main @ np.array([math.cos(angle), math.sin(angle)])) == pytest.approx(1, abs=1e-3)


@given(angles=st.tuples(*[st.floats(-3, 3)] * 3))
def test_rotation_is_orthonormal(angles):
    turn = rotation(angles)
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(turn) == pytest.approx(1)


@pytest.mark.parametrize("dim", [1, 2, 3])
def test_waves_match_their_formula_and_their_slope(dim):
    waves = Waves.draw(generator(0, 0), dim, 20.0, 7)
    points = grid((5, 6, 4)[:dim], 1.3)
    where = np.stack([np.broadcast_to(x, (5, 6, 4)[:dim]) for x in points], -1)
    np.testing.assert_allclose(waves(points), math.sqrt(2 / 7) * np.cos(where @ waves.vectors.T + waves.phases).sum(-1), atol=1e-12)
    gradient = -math.sqrt(2 / 7) * np.sin(where @ waves.vectors.T + waves.phases) @ waves.vectors
    np.testing.assert_allclose(waves.slope(points), np.linalg.norm(gradient, axis=-1), atol=1e-12)


def test_waves_have_unit_variance():
    values = np.concatenate([Waves.draw(generator(1, i), 2, 6.0)(grid((40, 40), 2.0)).ravel() for i in range(40)])
    assert abs(values.mean()) < 0.05
    assert values.var() == pytest.approx(1, abs=0.05)


def test_rician_noise_moments():
    noisy = rician(generator(0, 0), np.full(200_000, 0.8), 0.1)
    assert (noisy**2).mean() == pytest.approx(0.8**2 + 2 * 0.1**2, rel=2e-3)  # E|s + n|^2 = s^2 + 2 sigma^2
    background = rician(generator(0, 1), np.zeros(200_000), 0.1)
    assert background.mean() == pytest.approx(0.1 * math.sqrt(math.pi / 2), rel=5e-3)  # Rayleigh


def test_bounded_stays_within_its_width():
    draws = [bounded(generator(0, i), 5.0, 1.0, 1.5) for i in range(300)]
    assert min(draws) == 3.5
    assert max(draws) == 6.5


def test_counts_are_checked():
    with pytest.raises(DataError, match=r"`size` must be at least 1; got 0"):
        check_count(size=0)
