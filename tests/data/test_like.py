from __future__ import annotations

import numpy as np
import pytest
import torch

from medgen.data import from_arrays, open_data, open_like, save_like
from medgen.errors import ConfigError, DataError

LAS = np.array([[-2.0, 0, 0, 90], [0, 1.5, 0, -126], [0, 0, 3, -72], [0, 0, 0, 1]])


def smooth(shape, dtype=np.int16):
    grids = np.meshgrid(*[np.linspace(-1, 1, s) for s in shape], indexing="ij")
    return (1000 * np.exp(-2 * sum(g**2 for g in grids)) + 100 * grids[0]).astype(dtype)


def there_and_back(path, out, nibabel, **options):
    data = open_data(path, default_range=(-1, 1), **options)
    like = open_like(path, data.image_spec, data.conditions, **data.config.to_json())
    x = like.fetch(like.splits["test"]).x
    paths = save_like(x, like, out)
    return data, like, [nibabel.load(p) for p in paths]


@pytest.mark.parametrize("options", [{}, {"axis": 0}, {"axis": 1}, {"axis": 2}, {"orientation": "SPR"}, {"axis": 2, "orientation": "PIR"}])
def test_identity_gives_back_the_file(write_nifti, tmp_path, options):
    nibabel = pytest.importorskip("nibabel")
    values = smooth((8, 9, 10))
    path = write_nifti("scan.nii.gz", values, LAS)
    data, like, (image,) = there_and_back(path, tmp_path / "out", nibabel, window=(-2000, 2000), **options)
    np.testing.assert_array_equal(np.asarray(image.dataobj), values)
    np.testing.assert_array_equal(image.affine, LAS)
    assert image.get_data_dtype() == np.int16
    assert len(like) == len(data)
    rows = np.arange(len(data))
    assert torch.equal(like.fetch(rows).x, data.fetch(rows).x)


@pytest.mark.parametrize(
    "options",
    [
        {"size": (12, 14, 10)},
        {"size": (14, 12), "axis": 1},
        {"spacing": (2.2, 1.9, 2.6)},
        {"spacing": (1.9, 1.7), "axis": 2, "orientation": "RAS"},
    ],
)
def test_sampling_is_undone(write_nifti, tmp_path, options):
    nibabel = pytest.importorskip("nibabel")
    values = smooth((18, 20, 16))
    path = write_nifti("scan.nii.gz", values, LAS)
    data, like, (image,) = there_and_back(path, tmp_path / "out", nibabel, window=(-2000, 2000), **options)
    rows = np.arange(len(data))
    assert torch.equal(like.fetch(rows).x, data.fetch(rows).x)
    assert image.shape == values.shape
    np.testing.assert_array_equal(image.affine, LAS)
    inside = (slice(3, -3),) * 3
    assert np.abs(np.asarray(image.dataobj)[inside] - values[inside]).max() < 80  # of 1100: two interpolations of a smooth bump


def test_another_grid_is_resampled_to_the_training_one_and_back(write_nifti, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    train = open_data(write_nifti("a/train.nii", smooth((16, 16, 16)), np.eye(4)), axis=2)
    # The same field of view, half the voxel size, stored upside down.
    fine = smooth((32, 32, 20))[:, :, ::-1].copy()
    affine = np.array([[0.5, 0, 0, 0], [0, 0.5, 0, 0], [0, 0, -1, 19], [0, 0, 0, 1]])
    like = open_like(write_nifti("b/new.nii", fine, affine), train.image_spec)
    assert len(like) == 20
    assert like.image_spec is train.image_spec
    (path,) = save_like(like.fetch(np.arange(20)).x, like, tmp_path / "out")
    image = nibabel.load(path)
    assert image.shape == fine.shape
    np.testing.assert_array_equal(image.affine, affine)
    assert np.abs(np.asarray(image.dataobj) - fine)[4:-4, 4:-4].max() < 60


def test_slices_left_out_in_training_are_kept(write_nifti, tmp_path):
    values = smooth((8, 8, 12))
    values[..., :6] = 0
    path = write_nifti("scan.nii", values)
    data = open_data(path, axis=2, min_foreground=0.1)
    assert len(data) < 12
    assert len(open_like(path, data.image_spec, **data.config.to_json())) == 12
    (out,) = save_like(data.fetch(np.arange(len(data))).x, data, tmp_path / "out")
    assert open_data(out, axis=2).image_spec.shape == (8, 8)


def test_several_volumes_and_label_maps(write_nifti, tmp_path, rng):
    nibabel = pytest.importorskip("nibabel")
    values = [rng.choice(np.array([0, 1, 4], np.uint8), (5, 6, n)) for n in (4, 7)]
    for k, v in enumerate(values):
        write_nifti(f"seg/s{k}/mask.nii.gz", v, LAS)
    _, like, images = there_and_back(tmp_path / "seg", tmp_path / "out", nibabel, axis=2, content="labels")
    assert like.image_spec.channels == 3
    for image, v in zip(images, values, strict=True):
        np.testing.assert_array_equal(np.asarray(image.dataobj), v)
    write_nifti("new.nii", np.full((5, 6, 3), 2, np.uint8), LAS)
    with pytest.raises(DataError, match=r"labels must be among \[0, 1, 4\]; got \[2\]"):
        open_like(tmp_path / "new.nii", like.image_spec)


def test_dicom_in_nifti_out(write_dicom, rng, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    pixels = rng.integers(0, 4096, (5, 4, 6))
    for k in range(5):
        write_dicom(f"ct/{k}.dcm", pixels[k], (10.0, 20.0, 2.5 * k))
    data, _, (image,) = there_and_back(tmp_path / "ct", tmp_path / "out", nibabel, window=(-1024, 3071), axis=2)
    np.testing.assert_array_equal(np.asarray(image.dataobj), pixels.transpose(2, 1, 0) - 1024)
    np.testing.assert_array_equal(image.affine, np.array(data.image_spec.affine).reshape(4, 4))


def test_pictures(write_png, rng, tmp_path):
    image = pytest.importorskip("PIL.Image")
    for name in ("a", "b"):
        write_png(f"in/{name}/1.png", rng.integers(0, 256, (6, 9)).astype(np.uint8))
    data = open_data(tmp_path / "in")
    like = open_like(tmp_path / "in", data.image_spec, data.conditions)
    assert like.fetch([1]).condition.values["label"].tolist() == [1]
    paths = save_like(like.fetch([0, 1]).x, like, tmp_path / "out")
    assert [p.relative_to(tmp_path / "out").as_posix() for p in paths] == ["a/1.png", "b/1.png"]
    with image.open(paths[1]) as picture:
        np.testing.assert_array_equal(np.asarray(picture), data.stored([1])[0, 0])


def test_npz_tables_and_signals(save_npz, rng, tmp_path):
    x = rng.integers(0, 256, (5, 8, 8)).astype(np.uint8)
    data = open_data(save_npz(images=x), size=(4, 4))
    like = open_like(tmp_path / "data.npz", data.image_spec)
    with np.load(save_like(like.fetch(np.arange(5)).x, like, tmp_path / "out")[0]) as file:
        assert file["x"].shape == (5, 1, 8, 8)
    (tmp_path / "t.csv").write_text("a,b\n" + "\n".join(f"{k},{k * k}" for k in range(10)))
    table = open_data(tmp_path / "t.csv")
    like = open_like(tmp_path / "t.csv", table.image_spec)
    (path,) = save_like(like.fetch(np.arange(10)).x, like, tmp_path / "out")
    np.testing.assert_allclose(open_data(path).stored([7]), [[7, 49]], rtol=1e-5)
    assert path.read_text().startswith("a,b")
    np.save(tmp_path / "s.npy", rng.normal(size=1000))
    signal = open_data(tmp_path / "s.npy", length=50)
    assert len(open_like(tmp_path / "s.npy", signal.image_spec)) == 20


def test_conditions_follow_the_names_of_the_model(save_npz, rng):
    x = rng.integers(40, 256, (4, 8, 8)).astype(np.uint8)
    model = from_arrays(x, labels=["c", "a", "b", "c"], attributes={"age": np.arange(4)})
    path = save_npz(images=x, labels=np.array(["c", "b", "b", "c"]), age=np.arange(4) + 10)
    like = open_like(path, model.image_spec, model.conditions, attributes=["age"])
    condition = like.fetch(np.arange(4)).condition
    assert condition.values["label"].tolist() == [2, 1, 1, 2]
    spec = model.conditions[1]
    np.testing.assert_allclose(condition.values["attributes"][:, 0], (np.arange(4) + 10 - spec.mean[0]) / spec.sd[0], rtol=1e-6)
    other = save_npz("other.npz", images=x, labels=np.array(["c", "z", "b", "c"]))
    with pytest.raises(DataError, match=r"classes must be among \['a', 'b', 'c'\]; got \['b', 'c', 'z'\]"):
        open_like(other, model.image_spec, model.conditions)
    assert open_like(other, model.image_spec, model.conditions, labels="none").conditions == ()


def test_registered_datasets_are_read_too():
    data = open_data("cardiac_phantom?n=4", default_range=(-1, 1))
    like = open_like("cardiac_phantom?n=3", data.image_spec)
    assert like.splits["test"].tolist() == [0, 1, 2]
    assert torch.equal(like.fetch([1]).x, data.fetch([1]).x)


def test_slices_dropped_from_a_resampled_volume_come_back_as_background(write_nifti, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    values = smooth((8, 8, 12), np.float32) + 500
    values[..., :3] = values[..., 9:] = 0
    data = open_data(write_nifti("scan.nii", values), axis=2, min_foreground=0.1, spacing=(1.0, 1.0, 0.5))
    (out,) = save_like(data.fetch(np.arange(len(data))).x, data, tmp_path / "out")
    back = np.asarray(nibabel.load(out).dataobj)
    assert back.shape == values.shape
    np.testing.assert_allclose(back[..., 4:8], values[..., 4:8], rtol=0.05)
    assert np.abs(back[..., 10:] - data.image_spec.intensity.low[0]).max() == 0


def test_what_cannot_fit_is_named(save_npz, write_nifti, rng):
    grey = from_arrays(rng.integers(0, 256, (4, 8, 8)).astype(np.uint8)).image_spec
    colour = save_npz(images=rng.integers(0, 256, (4, 3, 8, 8)).astype(np.uint8))
    with pytest.raises(DataError, match=r"data.npz: samples \[C, \*S\] must have shape \(1, 8, 8\) for this model; got \(3, 8, 8\)"):
        open_like(colour, grey)
    with pytest.raises(DataError, match=r"2-D samples must be an array"):
        open_like(save_npz("v.npz", images=rng.normal(size=(4, 2, 8, 8, 8))), grey)
    with pytest.raises(ConfigError, match="did you mean 'select'"):
        open_like(colour, grey, selekt="*")
    like = open_like(save_npz("ok.npz", images=rng.integers(0, 256, (4, 8, 8)).astype(np.uint8)), grey)
    with pytest.raises(DataError, match="`x` must hold one result for each of 4 samples; got 3"):
        save_like(torch.zeros(3, 1, 8, 8), like, "unused")
