from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from medgen.registry import ImageSpec, Intensity
from medgen.report.display import Display
from medgen.report.figures import Tile, difference, error_maps, sample_grid, tile_rows
from medgen.report.style import data_uri

LABELS = Intensity(low=(0, 2, 5), high=(1, 3, 6), clip=False, dtype="uint8", rule="labels")
SPECS = {
    "signal": ImageSpec(channels=2, shape=(12,)),
    "image": ImageSpec(channels=1, shape=(6, 8), spacing=(2.0, 1.0)),
    "contrasts": ImageSpec(channels=2, shape=(6, 6), channel_names=("T1", "T2")),
    "colour": ImageSpec(channels=3, shape=(6, 6), intensity=Intensity(low=(0,), high=(255,), dtype="uint8")),
    "maps": ImageSpec(channels=3, shape=(6, 6), content="labels", intensity=LABELS),
    "volume": ImageSpec(channels=1, shape=(4, 5, 6)),
}
IMAGES = [name for name in SPECS if name != "signal"]


def values(name: str, n: int, seed: int = 0) -> np.ndarray:
    spec, rng = SPECS[name], np.random.Generator(np.random.Philox(seed))
    if spec.content == "labels":
        return rng.choice(np.array([0, 2, 5], np.uint8), (n, 1, *spec.shape))
    return rng.random((n, *spec.size)) * (255 if name == "colour" else 1)


@pytest.mark.parametrize("name", IMAGES)
def test_a_grid_has_every_view_of_every_sample_in_reading_order(name: str) -> None:
    x, display = values(name, 5), Display.of(SPECS[name])
    (ax,) = sample_grid(x, display, columns=3).axes
    expected = [view(sample) for sample in x for view in display.views]
    assert len(ax.images) == len(expected)
    for image, picture in zip(ax.images, expected, strict=True):
        wanted = picture.astype(np.uint8) if name == "colour" else picture
        np.testing.assert_array_equal(image.get_array(), wanted)
    middles = [round(sum(image.get_extent()[2:]) / 2, 6) for image in ax.images]
    assert middles == sorted(middles)
    assert len(set(middles)) == 2


def test_a_grid_of_signals_has_a_line_per_channel() -> None:
    (ax,) = sample_grid(values("signal", 4), Display.of(SPECS["signal"]), columns=2).axes
    assert len(ax.lines) == 4 * 2
    assert len(ax.patches) == 4


def test_a_taller_value_is_drawn_higher_on_the_same_scale_everywhere() -> None:
    spec = ImageSpec(channels=1, shape=(3,))
    (ax,) = sample_grid(np.array([[[0.0, 0.5, 1.0]], [[0.25, 0.25, 0.25]]]), Display.of(spec), columns=2).axes
    first, second = (line.get_ydata() for line in ax.lines)
    assert first[0] > second[0] > first[1] > first[2]  # the axis points down


def test_anisotropic_voxels_keep_their_shape() -> None:
    spec = SPECS["image"]  # 6 x 8 voxels of 2 x 1 mm
    figure = sample_grid(values("image", 1), Display.of(spec), columns=1)
    (ax,) = figure.axes
    left, right, bottom, top = ax.images[0].get_extent()
    assert (right - left) / (bottom - top) == pytest.approx(8 / 12)
    box = ax.get_position()
    width, height = box.width * figure.get_figwidth(), box.height * figure.get_figheight()
    span = abs(np.diff(ax.get_xlim())[0]), abs(np.diff(ax.get_ylim())[0])
    assert width / span[0] == pytest.approx(height / span[1])  # an inch is as many units both ways


@given(
    hnp.arrays(np.float64, (2, 1, 6, 8), elements=st.floats(-1e3, 1e3)), hnp.arrays(np.float64, (2, 1, 6, 8), elements=st.floats(-1e3, 1e3))
)
def test_the_error_map_is_the_absolute_difference(a: np.ndarray, b: np.ndarray) -> None:
    np.testing.assert_array_equal(difference(a, b, Display.of(SPECS["image"])), np.abs(a - b))


@pytest.mark.parametrize("name", IMAGES)
def test_error_maps_show_input_reconstruction_and_error_on_one_scale(name: str) -> None:
    a, b, display = values(name, 2), values(name, 2, 1), Display.of(SPECS[name])
    figure = error_maps(a, b, display)
    canvas, bar = figure.axes
    views = len(display.views)
    assert len(canvas.images) == 2 * 3 * views
    shown = canvas.images[2 * views].get_array()
    error = difference(a, b, display)
    wanted = display.views[0](error[0])
    np.testing.assert_allclose(shown, wanted.mean(-1) if name == "colour" else wanted)
    errors = [image for k, image in enumerate(canvas.images) if k // views % 3 == 2]
    assert len({image.get_clim() for image in errors}) == 1
    assert errors[0].get_clim()[0] == 0.0
    assert bar.get_ylabel() != ""


def test_unsigned_bytes_do_not_wrap_around_in_the_difference() -> None:
    spec = ImageSpec(channels=1, shape=(2,))
    a, b = np.array([[[0, 255]]], np.uint8), np.array([[[255, 0]]], np.uint8)
    assert difference(a, b, Display.of(spec)).tolist() == [[[255.0, 255.0]]]


def test_equal_images_have_a_black_error_map() -> None:
    a = values("image", 2)
    figure = error_maps(a, a, Display.of(SPECS["image"]))
    assert not np.asarray(figure.axes[0].images[2].get_array()).any()


def test_label_maps_have_one_colour_per_class_whatever_its_number() -> None:
    x = np.array([0, 2, 5] * 12, np.uint8).reshape(1, 1, 6, 6)
    image = sample_grid(x, Display.of(SPECS["maps"]), columns=1).axes[0].images[0]
    colours = {value: tuple(image.cmap(image.norm(value))) for value in (0, 2, 5)}
    assert len(set(colours.values())) == 3


def test_many_classes_have_colours_too() -> None:
    spec = ImageSpec(channels=30, shape=(6, 6), content="labels")
    image = sample_grid(np.full((1, 1, 6, 6), 29, np.uint8), Display.of(spec), columns=1).axes[0].images[0]
    assert image.cmap.N == 30


def test_a_place_may_stay_empty_and_names_are_never_read_as_tex() -> None:
    x, display = values("image", 1), Display.of(SPECS["image"])
    figure = tile_rows([[Tile(x[0]), None]], display, row_names=["$\\frac{"], column_names=["$a", "b_$^"], title="$$\\bad")
    assert len(figure.axes[0].images) == 1
    assert data_uri(figure).startswith("data:image/png;base64,")
