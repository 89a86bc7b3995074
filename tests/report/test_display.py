from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgen.registry import ImageSpec, Intensity
from medgen.report.display import Display, views_of

SHAPE = (4, 5, 6)
LAYOUTS = [(order, signs) for order in permutations(range(3)) for signs in product((-1.0, 1.0), repeat=3)]


def oriented(order: tuple[int, ...], signs: tuple[float, ...]) -> tuple[ImageSpec, np.ndarray]:
    """A volume [3, *S] whose channels are the world coordinates, and its spec."""
    affine = np.zeros((4, 4))
    affine[3, 3] = 1
    for voxel, world in enumerate(order):
        affine[world, voxel] = signs[voxel] * (voxel + 1.0)
    index = np.stack(np.meshgrid(*(np.arange(s) for s in SHAPE), indexing="ij"))
    world = np.einsum("wv,v...->w...", affine[:3, :3], index.astype(float))
    spec = ImageSpec(channels=3, shape=SHAPE, spacing=(1.0, 2.0, 3.0), affine=tuple(affine.ravel()), channel_names=("x", "y", "z"))
    return spec, world


def falls(picture: np.ndarray, axis: int) -> bool:
    return bool((np.diff(picture, axis=axis) < 0).all())


@given(st.sampled_from(LAYOUTS), st.booleans())
def test_known_orientation_is_shown_radiologically(layout: tuple[tuple[int, ...], tuple[float, ...]], project: bool) -> None:
    spec, world = oriented(*layout)
    # world: x grows to the right of the patient, y to the front, z upwards
    expected = {"axial": ("y", "x"), "coronal": ("z", "x"), "sagittal": ("z", "y")}
    views = {view.name: view for view in views_of(spec, project=project)}
    for plane, (down, across) in expected.items():
        assert falls(views[f"{down} {plane}"](world), 0), plane
        assert falls(views[f"{across} {plane}"](world), 1), plane


@given(st.sampled_from(LAYOUTS), st.integers(0, 2))
def test_slices_of_a_volume_are_turned_like_the_volume(layout: tuple[tuple[int, ...], tuple[float, ...]], axis: int) -> None:
    volume, world = oriented(*layout)
    plane = [k for k in range(3) if k != axis]
    spec = ImageSpec(
        channels=3,
        shape=tuple(SHAPE[k] for k in plane),
        spacing=tuple(volume.spacing[k] for k in plane),
        affine=volume.affine,
        slice_axis=axis,
        channel_names=("x", "y", "z"),
    )
    middle = world.take(SHAPE[axis] // 2, axis + 1)
    whole = {view.name: view for view in views_of(volume) if view.axis == axis}
    for view in views_of(spec):
        same = next(v for name, v in whole.items() if name.startswith(view.name))
        np.testing.assert_array_equal(view(middle), same(world))
        assert view.size == same.size


def test_the_size_of_a_picture_is_in_mm_after_turning() -> None:
    spec = ImageSpec(channels=1, shape=(4, 6), spacing=(2.0, 1.0), affine=tuple(np.eye(4).ravel()), slice_axis=2)
    (view,) = views_of(spec)
    picture = view(np.zeros((1, 4, 6)))
    assert picture.shape == (6, 4)
    assert view.size == (6.0, 8.0)


def test_images_without_geometry_stay_as_stored() -> None:
    x = np.arange(12.0).reshape(1, 3, 4)
    (view,) = views_of(ImageSpec(channels=1, shape=(3, 4)))
    np.testing.assert_array_equal(view(x), x[0])
    assert view.name == ""
    assert views_of(ImageSpec(channels=1, shape=(9,))) == ()


def test_three_nameless_bytes_are_a_colour_and_named_ones_are_contrasts() -> None:
    grey = Intensity(low=(0,), high=(255,), dtype="uint8")
    assert [v.channel for v in views_of(ImageSpec(channels=3, shape=(4, 4), intensity=grey))] == [None]
    named = ImageSpec(channels=3, shape=(4, 4), intensity=grey, channel_names=("T1", "T2", "PD"))
    assert [v.name for v in views_of(named)] == ["T1", "T2", "PD"]


def test_sparse_binary_volumes_are_projected_and_dense_ones_sliced() -> None:
    spec = ImageSpec(channels=1, shape=(10, 10, 10))
    x = np.zeros((3, 1, 10, 10, 10))
    x[:, :, 0, 1, 2] = 1.0
    display = Display.of(spec, x)
    assert display.project
    assert [view(x[0]).max() for view in display.views] == [1.0] * 3
    assert "projections" in display.caption
    assert not Display.of(spec, x + np.linspace(0, 0.1, 10)).project
    assert "middle slices" in Display.of(spec).caption


@pytest.mark.parametrize(
    ("rule", "clip", "expected"), [("window 0 10", True, (0.0, 10.0)), ("full range of the training split", True, (2.0, 4.0))]
)
def test_a_chosen_window_is_kept_and_a_full_range_is_trimmed(rule: str, clip: bool, expected: tuple[float, float]) -> None:
    spec = ImageSpec(channels=1, shape=(64, 64), intensity=Intensity(low=(0,), high=(10,), clip=clip, rule=rule))
    x = np.full((1, 1, 64, 64), 2.0)
    x[..., 32:] = 4.0
    x[0, 0, 0, 0] = 10.0  # one bright voxel must not darken the rest
    display = Display.of(spec, x)
    assert (display.low[0], display.high[0]) == pytest.approx(expected)


def test_a_constant_reference_leaves_the_specs_window() -> None:
    spec = ImageSpec(channels=1, shape=(4, 4), intensity=Intensity(low=(0,), high=(10,), rule="full range of the training split"))
    assert Display.of(spec, np.ones((2, 1, 4, 4))).high == (10.0,)
