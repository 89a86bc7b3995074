from __future__ import annotations

import numpy as np
import pytest

from medgen.data import open_data
from medgen.errors import DataError


def medmnist(rng, **more):
    arrays = {}
    for split, n in (("train", 7), ("val", 3), ("test", 2)):
        arrays[f"{split}_images"] = rng.integers(0, 256, (n, 8, 8)).astype(np.uint8)
        arrays[f"{split}_labels"] = (np.arange(n) % 2)[:, None].astype(np.uint8)
    return arrays | more


def test_medmnist_layout(save_npz, rng):
    arrays = medmnist(rng)
    data = open_data(save_npz(**arrays), default_range=(-1, 1))
    assert {k: v.tolist() for k, v in data.splits.items()} == {"train": list(range(7)), "val": [7, 8, 9], "test": [10, 11]}
    np.testing.assert_array_equal(data.stored([8])[0, 0], arrays["val_images"][1])
    batch = data.fetch(np.array([10, 11]))
    np.testing.assert_allclose(batch.x[:, 0].numpy(), arrays["test_images"] / 127.5 - 1, atol=1e-6)
    assert batch.condition.values["label"].tolist() == [0, 1]
    assert data.origin(8) == "data.npz val_images[1]"
    assert data.name == "data"


def test_plain_arrays_with_names_subjects_and_attributes(save_npz, rng):
    x = rng.integers(40, 256, (12, 2, 8, 8)).astype(np.uint8)
    path = save_npz(
        images=x,
        labels=np.arange(12) % 3,
        class_names=np.array(["a", "b", "c"]),
        patient=np.repeat(["p", "q", "r"], 4),
        channels=np.array(["T1", "T2"]),
        age=np.arange(12),
        clinical=rng.normal(size=(12, 2)),
    )
    data = open_data(path, attributes=["age", "clinical"])
    assert data.image_spec.channel_names == ("T1", "T2")
    assert [c.names for c in data.conditions] == [("a", "b", "c"), ("age", "clinical_0", "clinical_1")]
    assert sorted(len(v) for v in data.splits.values()) == [4, 4, 4]
    assert all(len(set(data.subjects[v])) == 1 for v in data.splits.values())
    assert open_data(path, channels=[1]).image_spec.channel_names == ()
    assert open_data(path, labels="none", subjects="none").subjects is None


def test_train_and_val_alone(save_npz, rng):
    data = open_data(save_npz(train=rng.normal(size=(5, 4, 4)), val=rng.normal(size=(2, 4, 4))))
    assert [len(v) for v in data.splits.values()] == [5, 2, 0]


def test_npy(tmp_path, rng):
    np.save(tmp_path / "x.npy", rng.normal(size=(6, 4, 5, 6)))
    assert open_data(tmp_path / "x.npy").image_spec.size == (4, 5, 6)
    assert open_data(tmp_path / "x.npy", dim=3).image_spec.size == (1, 4, 5, 6)


def test_key_and_source(save_npz, rng):
    path = save_npz(images=rng.integers(40, 256, (5, 8, 8)).astype(np.uint8), masks=rng.integers(0, 3, (5, 8, 8)).astype(np.uint8))
    data = open_data(path, key="masks", source="images", size=(4, 4))
    assert data.image_spec.content == "labels"
    assert data.image_spec.size == (3, 4, 4)
    assert data.conditions[0].image.size == (1, 4, 4)
    assert float(data.fetch([0]).x.sum(1).min()) == 1.0


def test_a_source_may_be_a_label_map_or_not(save_npz, rng):
    """Few whole numbers are labels unless the option says otherwise; floats are not unless it does. Labels are never mixed."""
    masks = 40 * (np.indices((8, 8)).sum(0) % 3)[None].repeat(5, 0)
    path = save_npz(
        images=rng.integers(40, 256, (5, 8, 8)).astype(np.uint8), few=(masks // 40).astype(np.uint8), floats=masks.astype(np.float32)
    )

    def source(name, **options):
        return open_data(path, key="images", source=name, size=(4, 4), **options).conditions[0].image

    assert (source("few").content, source("few").size) == ("labels", (3, 4, 4))
    assert source("few", content="intensity").content == "labels"  # that of the target
    assert (source("few", source_content="intensity").content, source("floats").content) == ("intensity", "intensity")
    found = source("floats", source_content="labels")
    assert (found.content, found.intensity.low) == ("labels", (0.0, 40.0, 80.0))
    with pytest.raises(DataError, match="label maps must have one channel of integers"):
        open_data(path, key="images", source=["few", "few"], source_content="labels")


def test_one_recording_and_an_archive_by_another_name(tmp_path, rng):
    with (tmp_path / "ecg.dat").open("wb") as file:
        np.savez(file, ecg=np.arange(1000, dtype=np.uint16))
    data = open_data(tmp_path / "ecg.dat", length=100)
    assert data.image_spec.size == (1, 100)
    assert [len(v) for v in data.splits.values()] == [8, 1, 1]
    np.testing.assert_array_equal(data.stored([3])[0, 0], np.arange(300, 400))


def test_multi_label_is_left_out_with_a_warning(save_npz, rng):
    data = open_data(save_npz(**medmnist(rng, train_labels=np.ones((7, 2)), val_labels=np.ones((3, 2)), test_labels=np.ones((2, 2)))))
    assert data.conditions == ()
    assert "not one class per sample" in data.warnings[0]


@pytest.mark.parametrize(
    ("arrays", "options", "message"),
    [
        ({"first": np.zeros((4, 4, 4)), "second": np.zeros((4, 4, 4))}, {}, r"data.npz: the option `key` must say .* first \(4, 4, 4\)"),
        ({"images": np.zeros((4, 4, 4))}, {"key": "image"}, "there is no array 'image'; did you mean 'images'"),
        ({"images": np.zeros((4, 4, 4)), "labels": np.zeros(3)}, {}, "array 'labels' must have one row for each of 4"),
        ({"images": np.zeros((4, 4, 4)), "age": np.zeros(4)}, {"attributes": ["ages"]}, "no array 'ages'; did you mean 'age'"),
        ({"images": np.zeros((4, 4, 4))}, {"source": "t1"}, "there is no array 't1'"),
        ({"images": np.array(["a", "b"])}, {}, "must be an array of real numbers; got <U1"),
        ({"train_images": np.zeros((4, 4, 4)), "val_images": np.zeros((4, 5, 4))}, {}, "one shape and type"),
        (
            {"images": np.zeros((4, 4, 4)), "labels": np.array([0, 1, 2, 9]), "class_names": np.array(["a", "b", "c"])},
            {},
            r"images\[3\]: labels",
        ),
        ({"images": np.full((4, 4, 4), np.nan)}, {}, r"data.npz images\[0\]: values must be finite"),
    ],
)
def test_what_is_wrong_is_named(save_npz, arrays, options, message):
    with pytest.raises(DataError, match=message):
        open_data(save_npz(**arrays), **options)


def test_damaged_files(tmp_path, save_npz, rng):
    whole = save_npz(images=rng.normal(size=(50, 8, 8))).read_bytes()
    for name, content in (
        ("cut.npz", whole[: len(whole) // 2]),
        ("text.npz", b"hello"),
        ("flipped.npz", whole[:5000] + b"\xff" * 99 + whole[5099:]),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            open_data(tmp_path / name)


def test_pickles_are_refused(tmp_path):
    np.savez(tmp_path / "evil.npz", images=np.array([{}, {}], dtype=object))
    with pytest.raises(DataError, match=r"evil.npz: must be a readable NumPy file without pickled objects"):
        open_data(tmp_path / "evil.npz")
