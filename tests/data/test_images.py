from __future__ import annotations

import numpy as np
import pytest

from medgen.data import open_data
from medgen.data.readers import images
from medgen.errors import DataError


@pytest.mark.parametrize(
    ("suffix", "dtype"), [("png", np.uint8), ("png", np.uint16), ("tif", np.uint8), ("tif", np.uint16), ("tif", np.float32)]
)
def test_values_and_depth_are_kept(write_png, rng, tmp_path, suffix, dtype):
    pixels = [(rng.uniform(0, 1, (6, 9)) * (60000 if dtype == np.uint16 else 250)).astype(dtype) for _ in range(4)]
    for k, p in enumerate(pixels):
        write_png(f"i{k}.{suffix}", p)
    data = open_data(tmp_path)
    assert data.image_spec.size == (1, 6, 9)
    assert data.image_spec.intensity.dtype == np.dtype(dtype).name
    np.testing.assert_array_equal(data.stored([3])[0, 0], pixels[3])


def test_colour_and_channels(write_png, rng, tmp_path):
    pixels = rng.integers(0, 256, (6, 9, 3)).astype(np.uint8)
    write_png("a.png", pixels)
    np.testing.assert_array_equal(open_data(tmp_path).stored([0])[0], pixels.transpose(2, 0, 1))
    np.testing.assert_array_equal(open_data(tmp_path, channels=[1]).stored([0])[0, 0], pixels[..., 1])


def test_folders_are_classes_or_splits(write_png, rng, tmp_path):
    for split, n in (("train", 4), ("test", 2)):
        for label in ("ill", "well"):
            for k in range(n):
                write_png(f"{split}/{label}/{k}.png", rng.integers(0, 256, (4, 4)).astype(np.uint8))
    data = open_data(tmp_path)
    assert data.conditions[0].names == ("ill", "well")
    assert len(data.splits["test"]) == 4
    assert sorted(data.fetch(data.splits["test"]).condition.values["label"].tolist()) == [0, 0, 1, 1]
    assert {data.origin(int(i)).split("/")[0] for i in data.splits["val"]} == {"train"}
    one = open_data(tmp_path / "train")
    assert one.conditions[0].names == ("ill", "well")
    assert open_data(tmp_path / "train" / "ill").conditions == ()


def test_names_that_look_like_patients_are_warned_of(write_png, rng, tmp_path):
    for p in range(3):
        for k in range(4):
            write_png(f"p{p}_{k}.png", rng.integers(0, 256, (4, 4)).astype(np.uint8))
    assert "leakage likely: 12 file names share 3 beginnings" in open_data(tmp_path).warnings[0]
    data = open_data(tmp_path, subjects=r"(p\d)_")
    assert data.warnings == ()
    assert [len(v) for v in data.splits.values()] == [4, 4, 4]


def test_large_folders_are_read_when_needed(write_png, rng, tmp_path, monkeypatch):
    for k in range(5):
        write_png(f"{k}.png", rng.integers(0, 256, (4, 4)).astype(np.uint8))
    held = open_data(tmp_path)
    monkeypatch.setattr(images, "MEMORY_LIMIT", 10)
    lazy = open_data(tmp_path)
    assert type(lazy.samples.store).__name__ == "LazyStore"
    assert lazy.fingerprint == held.fingerprint


def test_what_is_wrong_is_named(write_png, rng, tmp_path):
    write_png("a.png", rng.integers(0, 256, (6, 9)).astype(np.uint8))
    write_png("b.png", rng.integers(0, 256, (6, 8)).astype(np.uint8))
    with pytest.raises(DataError, match=r"b.png: must be 6 x 9 like a.png; got 6 x 8. Give `size`"):
        open_data(tmp_path)
    assert open_data(tmp_path, size=(4, 4)).image_spec.size == (1, 4, 4)
    write_png("b.png", rng.integers(0, 256, (6, 9, 3)).astype(np.uint8))
    with pytest.raises(DataError, match=r"b.png: must have mode L like a.png; got RGB"):
        open_data(tmp_path)
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"b.png: must be a readable image"):
        open_data(tmp_path)
