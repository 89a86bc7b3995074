from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from medgen.data import DataConfig, from_arrays, to_model
from medgen.errors import ConfigError, DataError


@pytest.mark.parametrize(
    ("shape", "options", "size"),
    [
        ((5, 9), {}, (9,)),
        ((5, 9), {"dim": 1}, (1, 9)),
        ((5, 2, 9), {"dim": 1}, (2, 9)),
        ((5, 9, 2), {"dim": 1, "channels_last": True}, (2, 9)),
        ((5, 8, 9), {}, (1, 8, 9)),
        ((5, 8, 9, 3), {}, (3, 8, 9)),
        ((5, 4, 8, 9), {}, (4, 8, 9)),
        ((5, 6, 8, 9), {}, (1, 6, 8, 9)),
        ((5, 6, 8, 9), {"dim": 2}, (6, 8, 9)),
        ((5, 8, 9, 6), {"dim": 2, "channels_last": True}, (6, 8, 9)),
        ((5, 2, 6, 8, 9), {}, (2, 6, 8, 9)),
        ((5, 6, 8, 9, 3), {}, (3, 6, 8, 9)),
        ((5, 6, 8, 9), {"dim": 2, "channels": [1, 5]}, (2, 8, 9)),
    ],
)
def test_axes(rng, shape, options, size):
    x = rng.normal(size=shape).astype(np.float32)
    data = from_arrays(x, **options)
    assert data.image_spec.size == size
    assert data.fetch(np.arange(2)).x.shape == (2, *size)


def test_channels_last_moves_values():
    x = np.arange(5 * 8 * 9 * 3, dtype=np.uint16).reshape(5, 8, 9, 3)
    np.testing.assert_array_equal(from_arrays(x).stored([4])[0, 1], x[4, :, :, 1])


def test_fetch_is_the_gather_and_the_affine_map(rng):
    x = rng.integers(-1000, 2000, (20, 6, 7)).astype(np.int16)
    data = from_arrays(x, window=(-600, 1400), default_range=(-1, 1), labels=rng.integers(0, 3, 20))
    rows = torch.tensor([7, 3, 3, 19])
    batch = data.fetch(rows)
    expected = np.clip((x[rows.numpy()] + 600) / 2000, 0, 1) * 2 - 1
    np.testing.assert_allclose(batch.x[:, 0].numpy(), expected, atol=1e-6)
    assert torch.equal(batch.index, rows)
    assert batch.x.dtype == torch.float32
    assert torch.equal(batch.x, to_model(torch.from_numpy(data.stored(rows)), data.image_spec))
    assert data.image_spec.intensity.dtype == "int16"
    assert data.image_spec.intensity.rule == "window -600 1400"


def test_a_range_in_the_options_beats_the_default():
    assert from_arrays(np.zeros((3, 2, 2), np.uint8), range=(0, 2), default_range=(-1, 1)).image_spec.intensity.range == (0, 2)


def test_full_range_and_percentiles_come_from_the_training_split_per_channel(rng):
    x = rng.normal(size=(30, 2, 8, 8)).astype(np.float32) * [[[[1]], [[5]]]]
    splits = {"train": np.arange(20), "val": np.arange(20, 30)}
    x[25] = 1000.0
    full = from_arrays(x.astype(np.float32), splits=splits).image_spec.intensity
    used = x[:20].astype(np.float32)
    np.testing.assert_allclose(full.low, used.min((0, 2, 3)))
    np.testing.assert_allclose(full.high, used.max((0, 2, 3)))
    some = from_arrays(x.astype(np.float32), splits=splits, percentiles=(1, 99)).image_spec.intensity
    np.testing.assert_allclose([some.low, some.high], np.percentile(used, (1, 99), axis=(0, 2, 3)), rtol=1e-6)


def test_tables_are_standardised_by_the_training_split(rng):
    x = rng.normal(3.0, [1.0, 10.0, 0.1], (500, 3)) + 1000
    data = from_arrays(x)
    train = data.fetch(data.splits["train"]).x.double()
    np.testing.assert_allclose(train.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(train.std(0, correction=0), 1, atol=1e-3)
    assert data.image_spec.content == "features"
    assert data.image_spec.shape == ()
    assert not data.image_spec.intensity.clip


@pytest.mark.parametrize(
    ("values", "options", "content", "classes"),
    [
        (np.array([0, 1, 2], np.uint8), {}, "labels", ("0", "1", "2")),
        (np.array([0, 255], np.uint8), {}, "intensity", ()),
        (np.array([0, 255], np.uint8), {"content": "labels"}, "labels", ("0", "255")),
        (np.array([0, 1, 2], np.uint8), {"content": "intensity"}, "intensity", ()),
        (np.array([0.0, 3.0], np.float32), {"content": "labels"}, "labels", ("0", "3")),
        (np.array([False, True]), {}, "labels", ("0", "1")),
        (np.array([-1, 4], np.int16), {}, "intensity", ()),
    ],
)
def test_label_maps(values, options, content, classes):
    x = np.resize(values, (6, 4, 5))
    spec = from_arrays(x, **options).image_spec
    assert spec.content == content
    assert spec.channel_names == classes


def test_named_classes_of_label_maps_may_be_absent():
    x = np.resize(np.array([0, 2], np.uint8), (6, 4, 5))
    data = from_arrays(x, channel_names=("background", "LV", "RV"))
    assert data.image_spec.size == (3, 4, 5)
    assert float(data.fetch([0]).x[:, 1].sum()) == 0
    with pytest.raises(DataError, match=r"labels must be in 0\.\.1"):
        from_arrays(x, channel_names=("background", "LV"))


def test_labels_attributes_and_source_become_conditions(rng):
    x = rng.integers(0, 256, (10, 6, 6)).astype(np.uint8)
    age = np.arange(10.0)
    age[4] = np.nan
    source = rng.normal(size=(10, 2, 6, 6)).astype(np.float32)
    data = from_arrays(x, labels=["b", "a"] * 5, attributes={"age": age, "sex": np.arange(10) % 2}, images={"source": source})
    label, attributes, image = data.conditions
    assert label.names == ("a", "b")
    assert attributes.names == ("age", "sex")
    assert image.image.size == (2, 6, 6)
    condition = data.fetch(np.array([4, 5])).condition
    assert condition.values["label"].tolist() == [1, 0]
    assert condition.present["attributes"].tolist() == [False, True]
    assert condition.values["attributes"][1, 0].item() == pytest.approx((5 - attributes.mean[0]) / attributes.sd[0], rel=1e-6)
    low, high = (np.array(v)[:, None, None] for v in (image.image.intensity.low, image.image.intensity.high))
    expected = np.clip((source[5] - low) / (high - low), 0, 1)
    np.testing.assert_allclose(condition.values["source"][1].numpy(), expected, atol=1e-5)
    train = data.splits["train"]
    assert attributes.mean[0] == pytest.approx(np.nanmean(age[train]))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"labels": [0, 1, 5], "class_names": ["a", "b"]}, r"arrays \[2\]: labels must be in 0\.\.1 \(a, b\); got 5"),
        ({"labels": [0, -1, 1]}, r"arrays \[1\]: labels must be in"),
        ({"labels": [0, 1]}, "labels must be 3 integers"),
        ({"labels": [0.5, 1, 1]}, "labels must be integers"),
        ({"attributes": {"age": np.zeros(2)}}, "'age' must have one entry for each of 3 samples; got 2"),
        ({"attributes": {"age": np.array([1, np.inf, 2])}}, "attribute 'age' must hold finite"),
        ({"images": {"source": np.zeros((2, 4, 4))}}, "'source' must have one entry for each of 3 samples; got 2"),
        ({"subjects": ["a"]}, "`subjects` must name each of 3 samples"),
        ({"dim": 3}, "3-D samples must be an array"),
        ({"channels": [1]}, r"`channels` must be in 0\.\.0"),
    ],
)
def test_what_does_not_fit_is_named(more, message):
    with pytest.raises(DataError, match=message):
        from_arrays(np.random.default_rng(0).normal(size=(3, 4, 4)), **more)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_values_name_the_sample(bad):
    x = np.zeros((5, 4, 4), np.float32)
    x[3, 1, 1] = bad
    with pytest.raises(DataError, match=r"arrays \[3\]: values must be finite; got 1 NaN or infinite of 16"):
        from_arrays(x)


@pytest.mark.parametrize(("x", "message"), [(np.zeros((0, 4, 4)), "at least one"), (np.zeros((2, 4, 4), complex), "real numbers")])
def test_unusable_arrays(x, message):
    with pytest.raises(DataError, match=message):
        from_arrays(x)


def test_options_are_checked():
    with pytest.raises(ConfigError, match="did you mean 'percentiles'"):
        from_arrays(np.zeros((2, 4, 4)), percentile=(1, 2))
    with pytest.raises(ConfigError, match="not both"):
        DataConfig.parse({"window": [0, 1], "percentiles": [1, 2]})
    with pytest.raises(ConfigError, match="once each"):
        DataConfig.parse({"orientation": "RLS"})
    with pytest.raises(ConfigError, match="must increase"):
        DataConfig.parse({"window": [3, 1]})


def test_constant_data_is_usable_with_a_warning():
    data = from_arrays(np.full((4, 3, 3), 7.0))
    assert "constant" in data.warnings[0]
    assert torch.isfinite(data.fetch([0]).x).all()


def test_the_fingerprint_follows_values_order_labels_and_config(rng):
    x = rng.integers(40, 256, (6, 4, 4)).astype(np.uint8)
    changed = x.copy()
    changed[2, 1, 1] ^= 1
    prints = [
        from_arrays(x).fingerprint,
        from_arrays(changed).fingerprint,
        from_arrays(x[::-1]).fingerprint,
        from_arrays(x, labels=[0, 1] * 3).fingerprint,
        from_arrays(x, window=(0, 200)).fingerprint,
    ]
    assert len(set(prints)) == 5
    assert from_arrays(x.copy()).fingerprint == prints[0]


def test_summary_is_json_and_counts_labels():
    data = from_arrays(np.zeros((4, 3, 3), np.uint8), labels=[0, 1, 1, 1], class_names=["n", "p"], splits={"train": [0, 1], "val": [2, 3]})
    summary = json.loads(json.dumps(data.summary()))
    assert summary["labels"] == {"train": {"n": 1, "p": 1}, "val": {"n": 0, "p": 2}, "test": {"n": 0, "p": 0}}
    assert summary["intensity"] == {"rule": "full range 0 255", "low": [0.0], "high": [255.0], "range": [0.0, 1.0]}


def test_numbers_out_of_range_are_errors():
    data = from_arrays(np.zeros((4, 3, 3), np.uint8))
    for index in ([4], [-1]):
        with pytest.raises(DataError, match=r"`index` must be in 0\.\.3"):
            data.fetch(np.array(index))
    with pytest.raises(DataError, match=r"`i` must be"):
        data.origin(4)


def test_source_images_is_short_for_one_image_condition(rng):
    x, t1 = rng.normal(size=(2, 5, 4, 4)).astype(np.float32)
    short, long = from_arrays(x, source_images=t1), from_arrays(x, images={"source": t1})
    assert short.conditions == long.conditions
    assert short.fingerprint == long.fingerprint
