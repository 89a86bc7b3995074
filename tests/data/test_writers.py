from __future__ import annotations

import numpy as np
import pytest
import torch

from medgen.data import open_data, save_samples
from medgen.data.writers import DESCRIPTION
from medgen.errors import DataError
from medgen.registry import ImageSpec, Intensity

AFFINE = np.array([[0, -2.0, 0, 90], [1.5, 0, 0, -126], [0, 0, 3, -72], [0, 0, 0, 1]])


def spec_of(shape, channels=1, dtype="int16", low=-1000.0, high=1000.0, **more):
    return ImageSpec(channels=channels, shape=shape, intensity=Intensity(low=(low,), high=(high,), range=(-1, 1), dtype=dtype), **more)


def test_nifti_volumes(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    spec = spec_of((4, 5, 6), affine=tuple(AFFINE.ravel()))
    x = torch.linspace(-1, 1, 2 * 120).reshape(2, 1, 4, 5, 6)
    paths = save_samples(x, spec, tmp_path, 41, "nifti")
    assert [p.name for p in paths] == ["sample_000041.nii.gz", "sample_000042.nii.gz"]
    image = nibabel.load(paths[1])
    assert image.shape == (4, 5, 6)
    assert image.get_data_dtype() == np.int16
    np.testing.assert_array_equal(image.affine, AFFINE)
    np.testing.assert_array_equal(np.asarray(image.dataobj), np.rint(x[1, 0].double().numpy() * 1000))
    assert bytes(image.header["descrip"]).rstrip(b"\0").decode() == DESCRIPTION


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_nifti_slices_are_thin_volumes_on_the_right_axis(tmp_path, axis):
    nibabel = pytest.importorskip("nibabel")
    spec = spec_of((4, 5), affine=tuple(AFFINE.ravel()), slice_axis=axis)
    x = torch.linspace(-1, 1, 20).reshape(1, 1, 4, 5)
    image = nibabel.load(save_samples(x, spec, tmp_path, 0, "nifti")[0])
    assert image.shape == tuple(np.insert([4, 5], axis, 1))
    np.testing.assert_array_equal(image.affine, AFFINE)
    np.testing.assert_array_equal(np.asarray(image.dataobj).squeeze(axis), np.rint(x[0, 0].double().numpy() * 1000))


def test_nifti_without_affine_has_the_spacing_and_channels_last(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    image = nibabel.load(save_samples(torch.zeros(1, 2, 3, 4, 5), spec_of((3, 4, 5), 2, spacing=(1, 2, 3)), tmp_path, 0, "nifti")[0])
    assert image.shape == (3, 4, 5, 2)
    np.testing.assert_array_equal(image.affine, np.diag([1, 2, 3, 1]))


def test_npz_and_csv(tmp_path):
    x = torch.linspace(-1, 1, 8).reshape(1, 2, 4)
    spec = spec_of((4,), 2, dtype="float32", channel_names=("I", "II"))
    with np.load(save_samples(x, spec, tmp_path, 3, "npz")[0]) as file:
        np.testing.assert_allclose(file["x"], x[0] * 1000, rtol=1e-6)
    path = save_samples(x, spec, tmp_path, 3, "csv")[0]
    assert path.name == "sample_000003.csv"
    assert path.read_text().splitlines()[0] == "I,II"
    back = open_data(path, dim=1, length=4)
    np.testing.assert_allclose(back.stored([0])[0], x[0] * 1000, rtol=1e-6)


@pytest.mark.parametrize(("dtype", "mode", "top"), [("uint8", "L", 255), ("uint16", "I;16", 65535)])
def test_png_keeps_integers(tmp_path, dtype, mode, top):
    image = pytest.importorskip("PIL.Image")
    spec = spec_of((3, 5), dtype=dtype, low=0, high=top)
    x = torch.linspace(-1, 1, 15).reshape(1, 1, 3, 5)
    with image.open(save_samples(x, spec, tmp_path, 0, "png")[0]) as picture:
        assert picture.mode == mode
        np.testing.assert_array_equal(np.asarray(picture), np.rint((x[0, 0].double().numpy() + 1) / 2 * top))


def test_png_spreads_a_window_over_16_bit(tmp_path):
    image = pytest.importorskip("PIL.Image")
    with image.open(save_samples(torch.tensor([[[[-1.0, 0.0, 1.0]]]]), spec_of((1, 3)), tmp_path, 0, "png")[0]) as picture:
        assert np.asarray(picture).tolist() == [[0, 32768, 65535]]


@pytest.mark.parametrize(("channels", "shape", "size"), [(3, (4, 6), (4, 6, 3)), (2, (4, 6), (4, 12)), (1, (4, 6, 5), (6, 16))])
def test_png_of_colour_channels_and_volumes(tmp_path, channels, shape, size):
    image = pytest.importorskip("PIL.Image")
    spec = spec_of(shape, channels, dtype="uint8", low=0, high=255)
    with image.open(save_samples(torch.zeros(1, *spec.size), spec, tmp_path, 0, "png")[0]) as picture:
        assert np.asarray(picture).shape == size


def test_png_of_labels_holds_class_numbers(tmp_path):
    image = pytest.importorskip("PIL.Image")
    x = torch.eye(4)[:, None][None]  # classes 0..3 along one row
    with image.open(save_samples(x, ImageSpec(channels=4, shape=(1, 4), content="labels"), tmp_path, 0, "png")[0]) as picture:
        assert np.asarray(picture).tolist() == [[0, 1, 2, 3]]


def test_formats_that_cannot_hold_the_samples(tmp_path):
    with pytest.raises(DataError, match="format 'png' must be used with 2-D or 3-D samples; got 1-D"):
        save_samples(torch.zeros(1, 1, 4), spec_of((4,)), tmp_path, 0, "png")
    with pytest.raises(DataError, match="`format` must be one of"):
        save_samples(torch.zeros(1, 1, 4), spec_of((4,)), tmp_path, 0, "jpeg")
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_nothing(tmp_path, monkeypatch):
    def fails(file, **arrays):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", fails)
    with pytest.raises(OSError, match="disk full"):
        save_samples(torch.zeros(1, 1, 4), spec_of((4,)), tmp_path, 0, "npz")
    assert list(tmp_path.iterdir()) == []
