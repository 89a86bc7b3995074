"""Reconstructions and scores: in the form of the input, never over it, the same in any batch."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tiny
import torch

import medgen
from medgen.data.writers import FORMATS
from medgen.errors import ConfigError, DataError, RunError
from medgen.interfaces import Noise
from medgen.registry import ImageSpec
from medgen.runs import Scores, batches_of, open_run, reconstruct_to, sample_format, sample_to_folder, score

# rotated by 20 degrees about the third axis, anisotropic, off the origin
TURN = np.array([[0.9396926, -0.3420201, 0, 0], [0.3420201, 0.9396926, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
AFFINE = TURN @ np.diag([-1.5, 1.25, 3.0, 1.0])
AFFINE[:3, 3] = [31.5, -12.25, 7.0]


def write_volume(path: Path, seed: int, shape: tuple[int, ...] = (12, 10, 8), affine: np.ndarray = AFFINE) -> Path:
    """int16 HU with a bright ball, in millimetres and seconds, with an s-form of code 2."""
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, s) for s in shape], indexing="ij"))
    ball = np.sqrt((grid**2).sum(0)) < 0.5 + 0.05 * seed
    values = np.where(ball, 400, -700) + np.random.Generator(np.random.Philox(seed)).integers(-50, 50, shape)
    image = nibabel.Nifti1Image(values.astype(np.int16), affine)
    image.header.set_xyzt_units("mm", "sec")
    image.set_sform(affine, code=2)
    image.set_qform(affine, code=1)
    image.to_filename(path)
    return path


@pytest.fixture(scope="module")
def volumes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("volumes")
    for k in range(6):
        write_volume(folder / f"sub-{k:02d}.nii.gz", k)
    return folder


def fit(data, out, **options):
    options = {"steps": 2, "batch_size": 4, "window": (-1000, 1000), **options}
    return medgen.train("vae", data, out, model=tiny.MODEL, device="cpu", show=False, **options)


@pytest.fixture(scope="module")
def whole(volumes, tmp_path_factory):
    """A run on whole volumes."""
    return fit(volumes, tmp_path_factory.mktemp("whole") / "run")


@pytest.fixture(scope="module")
def slices(volumes, tmp_path_factory):
    """A run on axial slices, resized."""
    return fit(volumes, tmp_path_factory.mktemp("slices") / "run", axis=2, size=(8, 8))


# NIfTI in, NIfTI out --------------------------------------------------------------------------------------------------------------------


def test_samples_of_volumes_have_the_grid_and_units_of_the_data(whole, tmp_path):
    sample_to_folder(whole, tmp_path / "a", 2, format="nifti")
    for path in (tmp_path / "a").glob("*.nii.gz"):
        image = nibabel.load(path)
        np.testing.assert_allclose(image.affine, AFFINE, atol=1e-5)
        np.testing.assert_allclose(image.header.get_zooms(), (1.5, 1.25, 3.0), atol=1e-5)
        assert image.header.get_xyzt_units()[0] == "mm"
        assert (image.shape, image.get_data_dtype()) == ((12, 10, 8), np.int16)
        assert np.abs(np.asarray(image.dataobj)).max() > 100, "HU, not model units"


def test_samples_of_slices_are_volumes_of_one_slice(slices, tmp_path):
    sample_to_folder(slices, tmp_path / "a", 1, format="nifti")
    image = nibabel.load(tmp_path / "a" / "sample_000000.nii.gz")
    assert image.shape == (8, 8, 1)
    np.testing.assert_allclose(image.header.get_zooms(), (1.5 * 12 / 8, 1.25 * 10 / 8, 3.0), atol=1e-5)
    corner = AFFINE @ [(12 / 8 - 1) / 2, (10 / 8 - 1) / 2, 0, 1]  # the centre of the first, larger, voxel
    np.testing.assert_allclose(image.affine[:, 3], corner, atol=1e-4)


@pytest.mark.parametrize("kind", ["whole", "slices"])
def test_a_reconstruction_lies_on_the_grid_of_its_input(request, kind, tmp_path):
    """Another shape and another affine than the training data's."""
    run = request.getfixturevalue(kind)
    affine = np.diag([2.0, 2.0, 2.5, 1.0])
    affine[:3, 3] = [-9, 8, -7]
    source = write_volume(tmp_path / "in.nii.gz", 3, (9, 11, 7), affine)
    before = source.read_bytes()
    assert reconstruct_to(run, str(source), tmp_path / "out.nii.gz") == [tmp_path / "out.nii.gz"]
    assert source.read_bytes() == before
    old, new = nibabel.load(source), nibabel.load(tmp_path / "out.nii.gz")
    np.testing.assert_array_equal(new.affine, old.affine)
    assert (new.shape, new.get_data_dtype()) == (old.shape, old.get_data_dtype())
    for key in ("sform_code", "qform_code", "xyzt_units", "pixdim"):
        np.testing.assert_array_equal(new.header[key], old.header[key], err_msg=key)
    assert not np.array_equal(np.asarray(new.dataobj), np.asarray(old.dataobj))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.nii.gz", "out.nii.gz"]


def test_a_reconstruction_is_of_what_was_there_to_reconstruct(volumes, tmp_path):
    """Trained on noiseless balls, the bright ball comes back where it was: axes and slices are not permuted."""
    run = fit(volumes, tmp_path / "run", steps=150, lr=1e-2)
    source = volumes / "sub-02.nii.gz"
    reconstruct_to(run, str(source), tmp_path / "out")
    old, new = (np.asarray(nibabel.load(p).dataobj).astype(float) for p in (source, tmp_path / "out" / "sub-02.nii.gz"))
    assert np.corrcoef(old.ravel(), new.ravel())[0, 1] > 0.8


def test_a_folder_gives_a_file_of_the_same_name_for_each(whole, volumes, tmp_path):
    written = reconstruct_to(whole, str(volumes), tmp_path / "new" / "out")
    assert [p.name for p in written] == [p.name for p in sorted(volumes.iterdir())]
    assert sorted(tiny.contents(tmp_path)) == [f"new/out/sub-{k:02d}.nii.gz" for k in range(6)]


# where it is written --------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def scans(tmp_path):
    np.savez(tmp_path / "scans.npz", x=tiny.images(5))
    return tmp_path / "scans.npz"


@pytest.mark.parametrize("out", [".", "scans.npz"])
def test_the_input_is_never_replaced(scans, tmp_path, out):
    before = tiny.contents(tmp_path)
    with pytest.raises(RunError, match="belongs to the input, which is never replaced; choose another --out"):
        reconstruct_to(open_run(tiny.trained()), str(scans), tmp_path / out)
    assert tiny.contents(tmp_path) == before


def test_nor_a_folder_or_pattern_of_inputs(whole, volumes):
    before = tiny.contents(volumes)
    for data in (str(volumes), f"{volumes}/sub-0*.nii.gz"):
        with pytest.raises(RunError, match="never replaced"):
            reconstruct_to(whole, data, volumes)
    assert tiny.contents(volumes) == before


def test_an_earlier_result_is_replaced(scans, tmp_path):
    run = open_run(tiny.trained())
    (tmp_path / "out.npz").write_text("old")
    reconstruct_to(run, str(scans), tmp_path / "out.npz")
    with np.load(tmp_path / "out.npz") as file:
        assert file["x"].shape == (5, 1, 16, 16)


@pytest.mark.parametrize(
    ("data", "out", "message"),
    [
        ("scans.npz", "out.png", "must be a folder, or end in .npz"),
        (None, "out.npz", "so that --out must be a folder"),
        ("scans.npz", "scans.npz/x", "cannot write"),
    ],
)
def test_a_file_name_that_does_not_fit(scans, tmp_path, data, out, message):
    before = tiny.contents(tmp_path)
    with pytest.raises(medgen.MedgenError, match=message):
        reconstruct_to(open_run(tiny.trained()), data and str(tmp_path / data), tmp_path / out)
    assert tiny.contents(tmp_path) == before


def test_many_files_do_not_fit_into_one(whole, volumes, tmp_path):
    with pytest.raises(RunError, match=r"gives 6 .nii.gz file\(s\); --out must be a folder"):
        reconstruct_to(whole, str(volumes), tmp_path / "all.nii.gz")
    assert list(tmp_path.iterdir()) == []


def test_a_split_of_the_runs_own_data(tmp_path):
    run, seen = open_run(tiny.trained()), []
    written = reconstruct_to(run, None, tmp_path / "a", split="test", progress=seen.append)
    assert [p.name for p in written] == [f"sample_{i:06d}.png" for i in range(len(run.dataset.splits["test"]))]
    assert seen == [len(written)]


def test_splits_that_are_empty_or_unknown(tmp_path):
    run = medgen.train(
        "vae",
        "cardiac_phantom?n=20&size=16",
        tmp_path / "run",
        model=tiny.MODEL,
        steps=1,
        batch_size=8,
        split=(0.8, 0.2, 0.0),
        device="cpu",
        show=False,
    )
    for split in ("test", "dev"):
        with pytest.raises(RunError, match=rf"no samples in split '{split}'; it has \['train', 'val'\]"):
            score(run, split=split)


def test_families_without_the_verb(tmp_path):
    with pytest.raises(RunError, match="family 'ae' has no log-density; `medgen list --interface density`"):
        score(open_run(tiny.trained("ae")))


# scores ---------------------------------------------------------------------------------------------------------------------------------


def test_scores_do_not_depend_on_the_batches():
    run = open_run(tiny.trained())
    rows = run.dataset.splits["train"][:40]
    found = score(run, split="train", limit=40, seed=3)
    one_by_one = []
    with torch.no_grad():
        for batch in batches_of(run.model, run.dataset, rows, size=7):
            one_by_one.append(run.model.log_prob(batch.x, noise=Noise(3, batch.index)))
    torch.testing.assert_close(found.log_prob, torch.cat(one_by_one).double(), rtol=1e-5, atol=1e-4)
    assert found.origins == [run.dataset.origin(int(i)) for i in rows]
    assert torch.equal(found.bits_per_dim, -found.log_prob / (256 * math.log(2)))


def test_a_file_and_the_split_it_holds_score_the_same(tmp_path):
    run = open_run(tiny.trained())
    rows = run.dataset.splits["val"]
    np.savez(tmp_path / "val.npz", x=run.dataset.stored(rows))
    split, file = score(run, importance_samples=2), score(run, str(tmp_path / "val.npz"), importance_samples=2)
    assert (split.kind, split.importance_samples, len(file.log_prob)) == ("bound", 2, len(rows))
    assert abs(split.log_prob.mean() - file.log_prob.mean()) < 0.1 * split.log_prob.std(), "another draw of the bound's noise"


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_of_nothing(limit):
    with pytest.raises(ConfigError, match=f"`limit` must be at least 1; got {limit}"):
        score(open_run(tiny.trained()), limit=limit)


def test_conditions_of_a_file_are_used_and_missed(tmp_path):
    run = open_run(tiny.trained("cvae"))
    np.savez(tmp_path / "bare.npz", x=tiny.images(3))
    with pytest.raises(medgen.MedgenError, match=r"needs the conditions \['attributes', 'label'\]"):
        score(run, str(tmp_path / "bare.npz"))


def test_the_table_reads_back_to_the_last_bit(tmp_path):
    scores = score(open_run(tiny.trained()))
    scores.write(tmp_path / "deep" / "scores.csv")
    with (tmp_path / "deep" / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["log_prob_nats"]) for row in rows] == scores.log_prob.tolist()
    assert [float(row["bits_per_dim"]) for row in rows] == scores.bits_per_dim.tolist()
    assert {row["kind"] for row in rows} == {"bound"}
    assert [row["sample"] for row in rows] == scores.origins


def test_the_summary_says_what_the_number_is():
    nats = torch.tensor([-1.0, -3.0], dtype=torch.float64)
    text = str(Scores(nats, -nats / math.log(2), ["a", "b"], "bound", 5))
    assert text == "log p = -2.000 +- 2.000 nats (lower bound), 2.8854 +- 2.8854 bits/dim in model units, n = 2, 5 importance samples"
    assert "bound" not in str(Scores(nats, nats, ["a", "b"], "exact", 1))
    assert "nan" in str(Scores(nats[:1], nats[:1], ["a"], "exact", 1)), "one sample has no standard error"


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (ImageSpec(channels=1, shape=(8, 8)), "png"),
        (ImageSpec(channels=1, shape=(8, 8), affine=tuple(np.eye(4).ravel())), "nifti"),
        (ImageSpec(channels=1, shape=(8, 8, 8)), "nifti"),
        (ImageSpec(channels=2, shape=(8,)), "npz"),
        (ImageSpec(channels=3, shape=(), content="features"), "csv"),
    ],
)
def test_the_format_by_default(spec, expected):
    assert sample_format(spec) == expected
    assert expected in FORMATS


def test_bad_files_are_named(tmp_path):
    x = tiny.images(3)
    x[1, 2, 3] = np.nan
    np.savez(tmp_path / "bad.npz", x=x)
    for verb in (score, lambda run, data: reconstruct_to(run, data, tmp_path / "out")):
        with pytest.raises(DataError, match=r"bad.npz x\[1\]: values must be finite"):
            verb(open_run(tiny.trained()), str(tmp_path / "bad.npz"))
    assert not (tmp_path / "out").exists()
