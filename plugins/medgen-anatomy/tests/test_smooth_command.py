"""`medgen anatomy smooth`, by a model in closed form; a trained one in the slow test."""

from __future__ import annotations

import json
from functools import cached_property

import numpy as np
import pytest
from analytic_model import LV, MYO, SIZE, Discs, RegularisedDiscs, beating

import medgen
from medgen.cli.main import main
from medgen.runs import Run
from medgen.runs.config import RunConfig

nibabel = pytest.importorskip("nibabel")
SPIKES = (7, 15)


@pytest.fixture
def kind():
    """Of the model."""
    return Discs


@pytest.fixture
def run(kind, tmp_path, monkeypatch):
    """A run folder whose model is the analytic one."""
    folder = Run.begin(tmp_path / "run", RunConfig.from_flat({"family": "vae", "data": "none.npz"}, set())).path
    model = cached_property(lambda self: kind())
    model.__set_name__(Run, "model")
    monkeypatch.setattr(Run, "model", model)
    return str(folder)


@pytest.fixture
def reference(tmp_path):
    rng = np.random.default_rng(0)
    maps = [beating(lv=rng.uniform(450, 550), phase=p, x=rng.uniform(29, 33), y=rng.uniform(30, 34)) for p in rng.uniform(0, 6, 12)]
    np.savez(tmp_path / "reference.npz", x=np.concatenate(maps), subjects=np.repeat(np.arange(12), 24))
    return str(tmp_path / "reference.npz")


def saved(tmp_path, maps, **more):
    np.savez(tmp_path / "cine.npz", x=maps, **more)
    return str(tmp_path / "cine.npz")


def smooth(run, data, out, *words):
    return main(["anatomy", "smooth", run, data, "--out", str(out), *words])


@pytest.mark.parametrize("kind", [Discs, RegularisedDiscs])
def test_errors_go_and_dice_stays(run, reference, tmp_path, capsys):
    good = np.load(reference)["x"][:24]
    maps = np.concatenate([beating(spikes=SPIKES), good])
    data = saved(tmp_path, maps, subjects=np.repeat(["a", "b"], 24))
    np.savez(tmp_path / "truth.npz", x=np.concatenate([beating(), good]))
    out = tmp_path / "out"
    assert smooth(run, data, out, "--reference", reference, "--truth", str(tmp_path / "truth.npz")) == 0
    lines = capsys.readouterr().out
    assert "0 of 48" in lines
    report = json.loads((out / "report.json").read_text())
    assert report["before"]["inconsistent_frames"][0] >= 2
    assert report["after"]["inconsistent_frames"] == [0, 0]
    assert report["after"]["dice"]["LV"] > max(0.97, report["before"]["dice"]["LV"])
    assert report["sequences"][1]["changed_frames"] == 0
    assert set(report["limits"]) >= {"lv_area", "myo_area", "epi_center_x"}
    after = np.load(out / "cine.npz")["x"]
    assert after.dtype == maps.dtype
    np.testing.assert_array_equal(after[24:], maps[24:])  # a consistent sequence stays as it is
    assert (out / "report.png").read_bytes()[:4] == b"\x89PNG"


def test_whole_sequences_and_json(run, reference, tmp_path, capsys):
    data = saved(tmp_path, beating(spikes=SPIKES))
    counts = []
    for name, words in (("kept", []), ("whole", ["--whole"])):
        assert smooth(run, data, tmp_path / name, "--reference", reference, "--mode", "decoded", "--json", *words) == 0
        report = json.loads(capsys.readouterr().out)
        assert report["mode"] == "decoded"
        assert report["after"]["inconsistent_frames"] == [0]
        counts.append(report["sequences"][0]["changed_frames"])
    assert 0 < counts[0] <= counts[1]


def test_limits_from_a_file_are_those_of_the_report(run, reference, tmp_path, capsys):
    data = saved(tmp_path, beating(spikes=SPIKES))
    chosen = ["--attributes", "lv_area", "myo_area", "--mode", "decoded"]
    assert smooth(run, data, tmp_path / "one", "--reference", reference, *chosen) == 0
    first = json.loads((tmp_path / "one/report.json").read_text())
    assert set(first["limits"]) == {"lv_area", "myo_area"}
    (tmp_path / "limits.json").write_text(json.dumps(first["limits"]))
    assert smooth(run, data, tmp_path / "two", "--limits", str(tmp_path / "limits.json"), "--mode", "decoded") == 0
    second = json.loads((tmp_path / "two/report.json").read_text())
    assert second["sequences"] == first["sequences"]
    np.testing.assert_array_equal(np.load(tmp_path / "one/cine.npz")["x"], np.load(tmp_path / "two/cine.npz")["x"])


def test_a_volume_with_time_as_its_third_axis_comes_back_on_its_grid(run, reference, tmp_path):
    large = np.repeat(np.repeat(beating(spikes=SPIKES), 2, 1), 2, 2)  # 128 x 128
    affine = np.diag([0.8, 0.8, 30.0, 1.0])
    nibabel.Nifti1Image(np.moveaxis(large, 0, 2), affine).to_filename(tmp_path / "cine.nii.gz")
    assert smooth(run, str(tmp_path / "cine.nii.gz"), tmp_path / "out", "--reference", reference) == 0
    back = nibabel.load(tmp_path / "out/cine.nii.gz")
    assert back.shape == (128, 128, 24)
    np.testing.assert_allclose(back.affine, affine, rtol=1e-6)
    flat = np.load(saved(tmp_path, beating(spikes=SPIKES)))["x"]
    assert (np.asarray(back.dataobj)[::2, ::2, 0] == flat[0]).mean() > 0.995


def test_a_folder_of_pictures(run, reference, tmp_path):
    pillow = pytest.importorskip("PIL.Image")
    (tmp_path / "frames").mkdir()
    for t, maps in enumerate(beating(spikes=SPIKES)):
        pillow.fromarray(maps).save(tmp_path / f"frames/{t:03d}.png")
    assert smooth(run, str(tmp_path / "frames"), tmp_path / "out", "--reference", reference) == 0
    assert len(list((tmp_path / "out").glob("*.png"))) == 25  # with the report's picture
    assert json.loads((tmp_path / "out/report.json").read_text())["after"]["inconsistent_frames"] == [0]


@pytest.mark.parametrize(
    ("maps", "words", "message"),
    [
        (beating()[0], ["--limits", "camus"], "[N, *S]"),
        (beating()[:2], ["--limits", "camus"], "at least 3 frames"),
        (beating() * 2, ["--limits", "camus"], "labels must be among [0, 1, 2]"),
        (beating() + 0.25, ["--limits", "camus"], "whole numbers"),
        (beating(), [], "either a reference"),
        (beating(), ["--limits", "camus"], "lv_area lies far outside its limits 19632 to 112404"),
        (beating(), ["--limits", "none.json"], "limits must be 'camus' or a JSON file"),
        (beating(), ["--reference", "REF", "--limits", "camus"], "either a reference"),
        (beating(), ["--reference", "REF", "--attributes", "lv_volume"], "must be among lv_area"),
        (beating(), ["--reference", "REF", "--attributes", "lv_length"], "cannot be measured"),
        (beating(), ["--reference", "REF", "--labels", "LV=7"], "must be two of the labels [0, 1, 2]"),
        (beating(), ["--reference", "REF", "--truth", "REF"], "must have one map for each of 24 frames; got 288"),
        (beating(), ["--reference", "REF", "--weight", "-1"], "must not be negative"),
    ],
)
def test_mistakes_are_one_line(run, reference, tmp_path, capsys, maps, words, message):
    data = saved(tmp_path, maps)
    assert smooth(run, data, tmp_path / "out", *[reference if w == "REF" else w for w in words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("kind", "code"), [(Discs, 2), (RegularisedDiscs, 0)])
def test_the_mode_needs_its_model(run, code, reference, tmp_path, capsys):
    words = ["--reference", reference, "--mode", "attributes", "--whole"]
    assert smooth(run, saved(tmp_path, beating(spikes=SPIKES)), tmp_path / "out", *words) == code
    if code:
        assert "needs an attribute-regularised model" in capsys.readouterr().err
        return
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["mode"] == "attributes"
    assert report["sequences"][0]["weights"][1] == 50.0  # the heart's area is no attribute of this model
    assert report["after"]["inconsistent_frames"] == [0]


def test_principal_components_smooth_beating_hearts(tmp_path):
    clean = "cardiac_sequence?n=30&frames=16&size=32&seed=1"
    done = medgen.train("pca_masks", clean, tmp_path / "run", model={"components": 32}, show=False)
    hearts = "cardiac_sequence?n=6&frames=16&size=32&seed=9"
    assert smooth(str(done.path), f"{hearts}&spikes=2&spike_scale=0.7", tmp_path / "out", "--reference", clean, "--truth", hearts) == 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    before, after = report["before"], report["after"]
    assert before["sequences_with_errors"] == 1.0
    assert sum(after["inconsistent_frames"]) == 0
    assert after["dice"]["LV"] >= before["dice"]["LV"] - 0.01
    assert after["dice"]["MYO"] >= before["dice"]["MYO"] - 0.01
    assert np.load(tmp_path / "out/cardiac_sequence.npz")["x"].shape == (96, 32, 32)


@pytest.mark.slow
def test_a_trained_vae_smooths_beating_hearts(tmp_path):
    clean = "cardiac_sequence?n=40&frames=20&size=32&seed=1"
    done = medgen.train(
        "vae", clean, tmp_path / "run", model={"latent_dim": 12, "channels": (16, 32, 64)}, epochs=12, batch_size=32, show=False
    )
    words = ["--reference", clean, "--truth", "cardiac_sequence?n=6&frames=20&size=32&seed=9", "--attributes", "lv_area", "myo_area"]
    assert smooth(str(done.path), "cardiac_sequence?n=6&frames=20&size=32&seed=9&spikes=2&spike_scale=0.7", tmp_path / "out", *words) == 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert sum(report["before"]["inconsistent_frames"]) >= 12
    assert sum(report["after"]["inconsistent_frames"]) == 0
    assert min(report["after"]["dice"].values()) > 0.75


def test_sizes_agree():
    assert beating().shape == (24, SIZE, SIZE)
    assert {0, LV, MYO} == set(np.unique(beating()).tolist())
