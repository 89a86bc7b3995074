"""`medgen inpaint`: what is known comes back as it was in the file, the rest is drawn; the form of the input, never over it."""

from __future__ import annotations

import fakes
import nibabel
import numpy as np
import pytest
import tiny
import torch
from PIL import Image

from medgen.interfaces import Noise
from medgen.registry.host import refresh
from medgen.runs import open_run

PLUGIN = """\
import medgen

@medgen.hookimpl
def medgen_families():
    yield medgen.FamilySpec(
        name="fake_correlated",
        interfaces=("generator", "inpainter"),
        model="testing.mutants.inpainting:Correlated",
        config="testing.mutants.config:SmallConfig",
        capabilities=medgen.Capabilities(
            spatial_dims=(0, 1, 2, 3),
            contents=("intensity", "features", "labels"),
            conditions=(medgen.ConditionSlot(name="label", kind="label"),),
        ),
        tiny={"width": 2},
        summary="Correlated Gaussian.",
    )
"""
AFFINE = np.array([[0.0, -2, 0, 10], [1.5, 0, 0, -20], [0, 0, 3, 30], [0, 0, 0, 1]])
TRAIN = ("--steps", 1, "--batch_size", 8, "--device", "cpu", "--quiet")
CPU = ("--device", "cpu", "--quiet")


@pytest.fixture(scope="module", autouse=True)
def _family(tmp_path_factory):
    """The closed-form inpainter, installed; the families of this machine stay."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("site")
        fakes.Site(folder).add("fake-inpaint", PLUGIN)
        patch.syspath_prepend(str(folder))
        refresh()
        yield
    fakes.forget()
    refresh()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """On 8 x 8 images whose window is narrower than their values."""
    folder = tmp_path_factory.mktemp("run")
    np.savez(folder / "x.npz", x=tiny.images(60, 8))
    tiny.ok("train", "fake_correlated", "--data", folder / "x.npz", "--window", 0.2, 0.8, "--out", folder / "run", *TRAIN)
    return folder / "run"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mask = np.ones((3, 8, 8), np.uint8)
    mask[:, 2:5, 3:6] = 0
    np.savez("scans.npz", x=tiny.images(3, 8, seed=1))
    np.savez("mask.npz", x=mask)
    return tmp_path


def arrays(*names):
    return [np.load(name)["x"].reshape(3, 8, 8) for name in names]


def test_what_is_known_comes_back_and_the_rest_is_the_models(run, here):
    assert tiny.ok("inpaint", run, "scans.npz", "--mask", "mask.npz", "--out", "a.npz", "--seed", 4, *CPU) == "a.npz: 1 file\n"
    x, mask, filled = arrays("scans.npz", "mask.npz", "a.npz")
    assert filled.dtype == x.dtype
    np.testing.assert_array_equal(filled[mask == 1], x[mask == 1])
    assert ((x < 0.2) | (x > 0.8)).any(), "also beyond the window"
    model, known = open_run(run).model, torch.from_numpy(mask[:, None] == 1)
    given = torch.from_numpy(((x - 0.2) / 0.6).clip(0, 1)[:, None].astype(np.float32))
    wanted = model.inpaint(given, known, noise=Noise(4, torch.arange(3)))[:, 0].clamp(0, 1).numpy() * 0.6 + 0.2
    np.testing.assert_allclose(filled[mask == 0], wanted[mask == 0], atol=1e-5)


def test_a_seed_fills_in_the_same_and_another_something_else(run, here):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        tiny.ok("inpaint", run, "scans.npz", "--mask", "mask.npz", "--out", f"{name}.npz", "--seed", seed, *CPU)
    a, b, c, mask = arrays("a.npz", "b.npz", "c.npz", "mask.npz")
    np.testing.assert_array_equal(a, b)
    assert (a != c)[mask == 0].any()


def test_one_mask_for_all_or_its_opposite(run, here):
    one = np.load("mask.npz")["x"][:1]
    np.savez("one.npz", x=one * 255.0)
    np.savez("hole.npz", x=one == 0)
    for words in (["mask.npz"], ["one.npz"], ["hole.npz", "--invert"]):
        tiny.ok("inpaint", run, "scans.npz", "--mask", *words, "--out", f"{words[0]}-out.npz", *CPU)
    first, *others = arrays("mask.npz-out.npz", "one.npz-out.npz", "hole.npz-out.npz")
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_nifti_on_another_grid_than_the_models(here):
    """Slices resized to the model and back: known voxels are untouched, slices that are known throughout too."""
    for k in range(4):
        values = (tiny.images(12, 14, seed=k)[..., :10] * 1000).astype(np.int16)
        image = nibabel.Nifti1Image(values, AFFINE)
        image.header.set_xyzt_units("mm", "sec")
        image.to_filename(f"scan{k}.nii.gz")
    tiny.ok("train", "fake_correlated", "--data", "scan*.nii.gz", "--axis", 2, "--size", 6, 7, *TRAIN, "--out", "run")
    hole = np.zeros((12, 14, 10), np.uint8)
    hole[5:7, 6:9, 3:5] = 1
    nibabel.Nifti1Image(hole, AFFINE).to_filename("hole.nii.gz")
    words = ("--mask", "hole.nii.gz", "--invert", "--out", "filled.nii.gz")
    assert tiny.ok("inpaint", "run", "scan1.nii.gz", *words, *CPU) == "filled.nii.gz: 1 file\n"
    old, new = nibabel.load("scan1.nii.gz"), nibabel.load("filled.nii.gz")
    np.testing.assert_array_equal(old.affine, new.affine)
    assert (old.shape, old.get_data_dtype(), old.header.get_xyzt_units()) == (new.shape, new.get_data_dtype(), new.header.get_xyzt_units())
    before, after = np.asarray(old.dataobj), np.asarray(new.dataobj)
    np.testing.assert_array_equal(after[hole == 0], before[hole == 0])
    assert (after != before)[hole == 1].mean() > 0.9

    before[hole == 1] = 30000  # what stands in the hole must not leak out of it, not even by interpolation
    image = nibabel.Nifti1Image(before, AFFINE)
    image.to_filename("other.nii.gz")
    tiny.ok("inpaint", "run", "other.nii.gz", "--mask", "hole.nii.gz", "--invert", "--out", "again.nii.gz", *CPU)
    np.testing.assert_array_equal(np.asarray(nibabel.load("again.nii.gz").dataobj), after)


def test_a_mask_of_another_grid(here):
    np.savez("x.npz", x=tiny.images(20, 8))
    volume = np.zeros((8, 8, 4), np.float32)
    for name, affine, shape in (("scan", np.eye(4), 4), ("moved", np.diag([1, 1, 2, 1.0]), 4), ("short", np.eye(4), 3)):
        nibabel.Nifti1Image(tiny.images(4, 8).transpose(1, 2, 0)[..., :shape] + volume[..., :shape], affine).to_filename(f"{name}.nii.gz")
    tiny.ok("train", "fake_correlated", "--data", "scan.nii.gz", "--axis", 2, *TRAIN, "--out", "run")
    for name, said in (
        ("moved", "has shape (8, 8, 4) and another affine. Register and resample"),
        ("short", "of shape (8, 8, 4); its own has shape (8, 8, 3)."),
    ):
        assert said in tiny.refused("inpaint", "run", "scan.nii.gz", "--mask", f"{name}.nii.gz", "--out", "a.nii.gz")
    assert "of the kind of its images" in tiny.refused("inpaint", "run", "scan.nii.gz", "--mask", "x.npz", "--out", "a.nii.gz")


def test_pictures_of_any_size(run, here):
    """A folder of PNGs, each with its own mask, resized to the model and back."""
    for k, size in enumerate(((8, 8), (12, 10))):
        for folder, values in (
            ("in", (tiny.images(1, 12, seed=k)[0, : size[0], : size[1]] * 255)),
            ("masks", 255.0 * (np.indices(size).sum(0) > 6)),
        ):
            (here / folder).mkdir(exist_ok=True)
            Image.fromarray(values.astype(np.uint8)).save(here / folder / f"p{k}.png")
    np.savez("bytes.npz", x=(tiny.images(40, 8) * 255).astype(np.uint8))
    tiny.ok("train", "fake_correlated", "--data", "bytes.npz", "--size", 8, 8, *TRAIN, "--out", "bytes")
    for k in range(2):
        assert tiny.ok("inpaint", "bytes", f"in/p{k}.png", "--mask", f"masks/p{k}.png", "--out", f"p{k}.png", *CPU) == f"p{k}.png: 1 file\n"
        x, mask, filled = (np.asarray(Image.open(name)) for name in (f"in/p{k}.png", f"masks/p{k}.png", f"p{k}.png"))
        assert filled.dtype == np.uint8
        np.testing.assert_array_equal(filled[mask > 0], x[mask > 0])
        assert (filled != x)[mask == 0].any()


def test_the_label_can_be_another(here):
    np.savez("x.npz", x=tiny.images(40, 8), labels=np.arange(40) % 2)
    tiny.ok("train", "fake_correlated", "--data", "x.npz", *TRAIN, "--lr", 0.5, "--out", "run")
    np.savez("scans.npz", x=tiny.images(3, 8, seed=1), labels=np.zeros(3, int))
    found = {}
    for name, words in {"file": (), "zero": ("--label", 0), "one": ("--label", 1)}.items():
        tiny.ok("inpaint", "run", "scans.npz", "--mask", "mask.npz", "--out", f"{name}.npz", *words, *CPU)
        found[name] = arrays(f"{name}.npz")[0]
    np.testing.assert_array_equal(found["file"], found["zero"])
    assert (found["file"] != found["one"]).any()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--mask", "mask.npz", "--out", "scans.npz"], "scans.npz belongs to the input"),
        (["--mask", "mask.npz", "--out", "mask.npz"], "mask.npz belongs to the input"),
        (["--mask", "mask.npz", "--out", "a.nii.gz"], "must be a folder, or end in .npz"),
        (["--mask", "nowhere.npz", "--out", "a.npz"], "there is no mask at nowhere.npz."),
        (["--mask", "wide.npz", "--out", "a.npz"], "a mask must have shape (1 or 3, 1, 8, 8), like its images; got (3, 1, 8, 9)"),
        (["--mask", "few.npz", "--out", "a.npz"], "(1 or 3, 1, 8, 8), like its images; got (2, 1, 8, 8)"),
        (["--mask", "ones.npz", "--out", "a.npz"], "all is known, nothing is left to fill in"),
        (["--mask", "ones.npz", "--invert", "--out", "a.npz"], "nothing is known; `medgen sample` draws whole samples"),
        (["--mask", "mask.npz"], "the following arguments are required: --out"),
        (["--out", "a.npz"], "the following arguments are required: --mask"),
        (["--mask", "mask.npz", "--out", "a.npz", "--seed", -1], "`seed` must be in [0, 2^64)"),
        (["--mask", "mask.npz", "--out", "a.npz", "--label", 1], "--label is for models with the condition 'label'"),
        (["--mask", "mask.npz", "--out", "a.npz", "--model.width", 3], "`width` of SmallConfig was fixed by training"),
    ],
)
def test_mistakes_leave_everything_as_it_was(run, here, words, said):
    for name, shape in (("wide", (3, 8, 9)), ("few", (2, 8, 8)), ("ones", (3, 8, 8))):
        mask = np.ones(shape, np.uint8)
        mask[:, 0] = name == "ones"
        np.savez(f"{name}.npz", x=mask)
    before = tiny.contents(here)
    assert said in tiny.refused("inpaint", run, "scans.npz", *words)
    assert tiny.contents(here) == before


def test_families_that_do_not(here):
    words = ("scans.npz", "--mask", "mask.npz", "--out", "a.npz")
    assert "family 'vae' does not inpaint; `medgen list --interface inpainter`" in tiny.refused("inpaint", tiny.trained(), *words)
    assert "fake_correlated" in tiny.ok("list", "--interface", "inpainter")
