"""`medgen reconstruct`: the form of the input, never over it."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import tiny

import medgen

AFFINE = np.array([[0.0, -2, 0, 10], [1.5, 0, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def run():
    return tiny.trained()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("scans.npz", x=tiny.images(3))
    return tmp_path


def test_a_split_to_the_run(tmp_path):
    run = tiny.copied(tmp_path)
    assert tiny.ok("reconstruct", run.path, "--device", "cpu") == f"{run.path}/reconstructions: 6 files\n"
    assert len(list((run.path / "reconstructions").iterdir())) == 6


def test_to_a_file_and_to_a_folder(run, here):
    assert tiny.ok("reconstruct", run, "scans.npz", "--out", "rec.npz") == "rec.npz: 1 file\n"
    assert tiny.ok("reconstruct", run, "scans.npz", "--out", "rec") == "rec/scans.npz: 1 file\n"
    with np.load("rec.npz") as one, np.load("rec/scans.npz") as other, np.load("scans.npz") as source:
        np.testing.assert_array_equal(one["x"], other["x"])
        assert one["x"].reshape(source["x"].shape).dtype == source["x"].dtype
    assert sorted(tiny.contents(here)) == ["rec.npz", "rec/scans.npz", "scans.npz"]


def test_nifti_in_nifti_out(here):
    """The README's line: same grid, affine, shape, type and units."""
    for k in range(4):
        volume = (tiny.images(12, 14, seed=k)[..., :10] * 1000).astype(np.int16)
        image = nibabel.Nifti1Image(volume, AFFINE)
        image.header.set_xyzt_units("mm", "sec")
        image.to_filename(f"scan{k}.nii.gz")
    tiny.ok("train", "vae", "--data", "scan*.nii.gz", "--axis", 2, "--size", 12, 12, *tiny.TRAIN, "--out", "run")
    assert tiny.ok("reconstruct", "run", "scan1.nii.gz", "--out", "rec.nii.gz") == "rec.nii.gz: 1 file\n"
    old, new = nibabel.load("scan1.nii.gz"), nibabel.load("rec.nii.gz")
    np.testing.assert_array_equal(old.affine, new.affine)
    assert (old.shape, old.get_data_dtype(), old.header.get_xyzt_units()) == (new.shape, new.get_data_dtype(), new.header.get_xyzt_units())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["scans.npz", "--out", "."], "scans.npz belongs to the input"),
        (["scans.npz", "--out", "scans.npz"], "belongs to the input"),
        (["scans.npz", "--out", "rec.nii.gz"], "must be a folder, or end in .npz"),
        (["scans.npz", "--out", "scans.npz/rec"], "cannot write"),
        (["--out", "rec.png"], "--out must be a folder"),
        (["nowhere.npz", "--out", "rec"], "no file, folder or registered dataset"),
        (["--split", "dev"], "invalid choice: 'dev'"),
        (["--outt", "rec"], "unknown option '--outt'; did you mean '--out'"),
    ],
)
def test_mistakes_leave_everything_as_it_was(run, here, words, said):
    before = tiny.contents(here)
    assert said in tiny.refused("reconstruct", run, *words)
    assert tiny.contents(here) == before
    assert [p.name for p in here.iterdir()] == ["scans.npz"]


def test_runs_that_cannot(tmp_path, here):
    assert "is not a run folder" in tiny.refused("reconstruct", tmp_path / "nowhere")
    assert "needs the conditions" in tiny.refused("reconstruct", tiny.trained("cvae"), "scans.npz", "--out", "rec")
    with pytest.raises(medgen.MedgenError):
        medgen.open_run(tmp_path)
