"""`ImageSpec`, `Intensity`, `ConditionSpec`: exact through JSON, and nothing invalid gets in."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgen.errors import ConfigError
from medgen.registry import ConditionSlot, ConditionSpec, ImageSpec, Intensity

FINITE = st.floats(-1e9, 1e9)
WINDOWS = st.tuples(FINITE, st.floats(1e-3, 1e9)).map(lambda w: (w[0], w[0] + w[1])).filter(lambda w: w[0] < w[1])


@st.composite
def intensities(draw, channels):
    windows = draw(st.lists(WINDOWS, min_size=1, max_size=1) | st.lists(WINDOWS, min_size=channels, max_size=channels))
    low, high = zip(*windows, strict=True)
    return Intensity(
        low=low, high=high, range=draw(WINDOWS), clip=draw(st.booleans()), unit=draw(st.text()), dtype="int16", rule=draw(st.text())
    )


@st.composite
def image_specs(draw):
    channels, shape = draw(st.integers(1, 4)), tuple(draw(st.lists(st.integers(1, 512), max_size=3)))
    axes = [st.floats(1e-3, 100)] * len(shape)
    return ImageSpec(
        channels=channels,
        shape=shape,
        spacing=draw(st.none() | st.tuples(*axes)),
        content=draw(st.sampled_from(["intensity", "labels", "features"])),
        intensity=draw(intensities(channels)),
        affine=draw(st.none() | st.tuples(*[FINITE] * 16)),
        slice_axis=draw(st.sampled_from([None, 0, 1, 2])),
        channel_names=draw(st.just(()) | st.tuples(*[st.text()] * channels)),
    )


@st.composite
def condition_specs(draw):
    name = draw(st.sampled_from(["label", "attributes", "source", "spacing"]))
    kind = draw(st.sampled_from(["label", "attributes", "image"]))
    if kind == "image":
        return ConditionSpec(name=name, kind=kind, image=draw(image_specs()))
    names = draw(st.lists(st.text(), min_size=1, max_size=5))
    number = [FINITE] * len(names)
    mean = draw(st.just(()) | st.tuples(*number))
    return ConditionSpec(name=name, kind=kind, names=names, mean=mean, sd=tuple(1.0 + abs(m) for m in mean))


@given(image_specs())
def test_image_spec_round_trip(spec):
    assert ImageSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert json.loads(json.dumps(spec.to_json())) == spec.to_json()
    assert hash(ImageSpec.from_json(spec.to_json())) == hash(spec)


@given(condition_specs())
def test_condition_spec_round_trip(spec):
    assert ConditionSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


@given(image_specs())
def test_sizes(spec):
    assert spec.dim == len(spec.shape)
    assert spec.size == (spec.channels, *spec.shape)
    assert spec.numel == math.prod(spec.size)


@given(intensities(3), st.integers(0, 2), st.floats(0, 1))
def test_intensity_map_takes_the_window_to_the_range(intensity, channel, t):
    index = 0 if len(intensity.low) == 1 else channel
    low, high = intensity.low[index], intensity.high[index]
    a, b = intensity.range
    stored = low + t * (high - low)
    model = stored * intensity.scale(channel) + intensity.offset(channel)
    tolerance = 1e-9 * (abs(a) + abs(b)) + 1e-9 * (b - a) / (high - low) * (abs(low) + abs(high))
    assert model == pytest.approx(a + t * (b - a), abs=tolerance)


def test_lung_window():
    lung = Intensity(low=(-600,), high=(1400,), range=(-1, 1))
    assert [v * lung.scale(0) + lung.offset(0) for v in (-600, 400, 1400)] == pytest.approx([-1, 0, 1])


def test_numpy_numbers_become_plain():
    spec = ImageSpec(channels=np.int64(2), shape=np.array([4, 5]), spacing=np.array([1.0, 0.5], np.float32))
    assert json.loads(json.dumps(spec.to_json()))["shape"] == [4, 5]
    assert spec == ImageSpec(channels=2, shape=(4, 5), spacing=(1.0, 0.5))


GOOD = {"channels": 2, "shape": (4, 5)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": 0}, "`channels` must be at least 1; got 0"),
        ({"channels": 2.5}, "`channels` must be whole; got 2.5"),
        ({"channels": "2"}, "`channels` must be whole"),
        ({"shape": (4, 0)}, "`shape` must have 0 to 3 axes"),
        ({"shape": (2, 2, 2, 2)}, "`shape` must have 0 to 3 axes"),
        ({"shape": (4.5, 5)}, "each axis of `shape` must be whole; got 4.5"),
        ({"spacing": (1.0,)}, "`spacing` must give one positive number per axis"),
        ({"spacing": (1.0, 0.0)}, "`spacing`"),
        ({"spacing": (1.0, math.nan)}, "`spacing`"),
        ({"spacing": (1.0, math.inf)}, "`spacing`"),
        ({"content": "picture"}, "`content` must be 'intensity', 'labels' or 'features'; got 'picture'"),
        ({"affine": (1.0,) * 12}, "`affine` must hold 16 finite numbers"),
        ({"affine": (math.nan,) * 16}, "`affine` must hold 16 finite numbers"),
        ({"slice_axis": 3}, "`slice_axis` must be 0, 1, 2 or None; got 3"),
        ({"channel_names": ("a",)}, "`channel_names` must name each of 2 channels"),
        ({"intensity": Intensity(low=(0, 0, 0), high=(1, 1, 1))}, "`intensity` must have 1 or 2 windows; got 3"),
    ],
)
def test_invalid_image_spec(change, message):
    with pytest.raises(ConfigError) as error:
        ImageSpec(**{**GOOD, **change})
    assert message in str(error.value)


@pytest.mark.parametrize(
    "values",
    [
        {"low": (0,), "high": (1, 2)},
        {"low": (), "high": ()},
        {"low": (1,), "high": (1,)},
        {"low": (2,), "high": (1,)},
        {"low": (math.nan,), "high": (1,)},
        {"low": (0,), "high": (math.inf,)},
        {"range": (1, 0)},
        {"range": (0, math.inf)},
        {"range": (0, math.nan)},
    ],
)
def test_invalid_intensity(values):
    with pytest.raises(ConfigError):
        Intensity(**values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "label", "kind": "word", "names": ("a",)}, "`kind` of condition slot 'label' must be one of"),
        ({"name": "no name", "kind": "label", "names": ("a",)}, "must be an identifier"),
        ({"name": "label", "kind": "label"}, "must name its classes or attributes"),
        ({"name": "source", "kind": "image"}, "`image` is for slots of kind 'image'"),
        ({"name": "label", "kind": "label", "names": ("a",), "image": ImageSpec(**GOOD)}, "`image` is for slots of kind 'image'"),
        ({"name": "a", "kind": "attributes", "names": ("x", "y"), "mean": (0,), "sd": (1, 1)}, "must give mean and sd of each"),
        ({"name": "a", "kind": "attributes", "names": ("x",), "mean": (0,), "sd": (0,)}, "positive sds"),
        ({"name": "a", "kind": "attributes", "names": ("x",), "mean": (math.nan,), "sd": (1,)}, "finite means"),
    ],
)
def test_invalid_condition_spec(values, message):
    with pytest.raises(ConfigError) as error:
        ConditionSpec(**values)
    assert message in str(error.value)


@pytest.mark.parametrize("foreign", [{}, {"channels": 1}, {**GOOD, "colour": 3}, {**GOOD, "intensity": {"lo": 1}}, [], None])
def test_foreign_json_is_a_config_error(foreign):
    with pytest.raises(ConfigError, match="not an image spec"):
        ImageSpec.from_json(foreign)
    with pytest.raises(ConfigError):
        ConditionSpec.from_json(foreign)


def test_size_of_a_condition():
    assert ConditionSpec(name="label", kind="label", names=("a", "b", "c")).size == 3
    assert ConditionSpec(name="source", kind="image", image=ImageSpec(**GOOD)).size == 2
    assert not ConditionSlot(name="label", kind="label").required
    assert ConditionSlot(name="source", kind="image").content == "any"
    for name, kind, content in (("source", "image", "pictures"), ("label", "label", "labels")):
        with pytest.raises(ConfigError, match=f"`content` of condition slot {name!r} must be 'any', or of an image slot"):
            ConditionSlot(name=name, kind=kind, content=content)
