"""Densification: every point and flag is a function of what is asked, whatever happened on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from ring_model import ring_data
from tiny import cli, ok

import medgen
import medgen_anatomy.shape_store as shape_store
from medgen.errors import ConfigError, DataError, RunError
from medgen.interfaces import Noise
from medgen.nn import Parzen
from medgen.runs import open_run
from medgen_anatomy.choice import choose_criteria, criteria_from_json, criteria_to_json
from medgen_anatomy.criteria import myocardium_criteria, violations
from medgen_anatomy.decoding import ShapeDecoder
from medgen_anatomy.densify import Proposals, densify
from medgen_anatomy.shape_store import FAILED, ShapeStore

CRITERIA = myocardium_criteria()
N = 700


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rings")
    np.savez(folder / "rings.npz", masks=ring_data())
    ok("train", "pca_masks", "--data", folder / "rings.npz", "--key", "masks", "--model.components", 6, "--out", folder / "run", "--quiet")
    return open_run(folder / "run")


@pytest.fixture(scope="module")
def store(run, tmp_path_factory):
    return densify(run, N, CRITERIA, tmp_path_factory.mktemp("store") / "all", batch=64)


def contents(store):
    return {name: (store.folder / name).read_bytes() for name in ("flags.npy", "points/points.npy", "density.npz")}


def test_points_are_draws_from_the_density_of_the_encodings(run, store):
    rows = np.concatenate([run.dataset.splits["train"], run.dataset.splits["val"]])
    z = run.model.encode(run.dataset.fetch(rows).x).mean
    with np.load(store.folder / "density.npz") as kept:
        density = Parzen(torch.from_numpy(kept["points"]), torch.from_numpy(kept["bandwidth"]))
    torch.testing.assert_close(density.points, z, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(density.bandwidth, Parzen.fit(z, "leave_one_out", "full").bandwidth, rtol=0.02, atol=1e-3)
    np.testing.assert_array_equal(store.points, density.draw(Noise.of(0, range(N))).numpy())


def test_flags_are_the_violations_of_what_the_points_decode_to(run, store):
    decoder = ShapeDecoder(run.model)
    maps = np.concatenate([decoder.maps(torch.from_numpy(store.points[at : at + 64].copy())) for at in range(0, N, 64)])
    broken = violations(maps, CRITERIA)
    np.testing.assert_array_equal((store.flags()[:, None] >> np.arange(len(CRITERIA))) & 1, broken)
    summary = store.note["summary"]
    assert summary["violations"] == dict(zip(CRITERIA.names, broken.sum(0).tolist(), strict=True))
    assert 0 < summary["valid"] == (~broken.any(1)).sum() < N
    assert summary["acceptance"] == 1.0
    assert summary["failed"] == 0
    assert sum(len(block) for block in store.valid()) == summary["valid"]


@pytest.mark.parametrize("at", [0, 1, 5, 9])
def test_an_interrupted_run_goes_on_to_the_same_bytes(run, store, tmp_path, monkeypatch, at):
    monkeypatch.setattr(shape_store, "_EVERY", 0.0 if at % 2 else 1e9)  # with notes, and with none since the start

    def stop(step, done, _of):
        if step == "judging" and done > at * 64:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        densify(run, N, CRITERIA, tmp_path / "s", batch=64, progress=stop)
    begun = ShapeStore(tmp_path / "s")
    assert not begun.finished
    again = densify(run, N, CRITERIA, tmp_path / "s", batch=64)
    assert contents(again) == contents(store)
    assert again.note["summary"]["violations"] == store.note["summary"]["violations"]


@pytest.mark.slow
def test_a_killed_command_goes_on_to_the_same_bytes(run, tmp_path):
    words = ["anatomy", "densify", run.path, "--points", 200_000, "--criteria", "myocardium", "--batch", 64, "--quiet", "--threads", 1]
    child = subprocess.Popen(
        [sys.executable, "-m", "medgen", *map(str, words), "--out", str(tmp_path / "killed")],
        env={**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())},
    )
    note = tmp_path / "killed" / "densify.json"
    while child.poll() is None and not (note.is_file() and ShapeStore(note.parent).done):
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert 0 < ShapeStore(tmp_path / "killed").done < 200_000
    ok(*words, "--out", tmp_path / "killed")
    ok(*words, "--out", tmp_path / "whole")
    assert contents(ShapeStore(tmp_path / "killed")) == contents(ShapeStore(tmp_path / "whole"))


def test_whatever_goes_wrong_with_a_point_makes_that_point_invalid(run, tmp_path, monkeypatch):
    whole = ShapeDecoder.probabilities

    def shaky(self, z):
        if bool((z[:, 0] > 0.5).any()):
            raise DataError("no map here")
        return whole(self, z)

    good = densify(run, 60, CRITERIA, tmp_path / "good", batch=16, threads=1)
    monkeypatch.setattr(ShapeDecoder, "probabilities", shaky)
    for name in ("density.npz", "densify.json", "flags.npy"):  # the density is there already: no map is decoded to make it
        (tmp_path / "bad").mkdir(exist_ok=True)
        (tmp_path / "bad" / name).write_bytes((tmp_path / "good" / name).read_bytes())
    text = (tmp_path / "bad" / "densify.json").read_text().replace('"done": 60', '"done": 0')
    (tmp_path / "bad" / "densify.json").write_text(text)
    note = ShapeStore(tmp_path / "bad").note | {"summary": None}
    shape_store.write_json(tmp_path / "bad" / "densify.json", note)
    bad = densify(run, 60, CRITERIA, tmp_path / "bad", batch=16, threads=1)
    lost = bad.points[:, 0] > 0.5
    assert 0 < lost.sum() == bad.note["summary"]["failed"] < 60
    np.testing.assert_array_equal(bad.flags(), np.where(lost, FAILED, good.flags()))


def test_what_is_wrong_with_the_model_is_an_error_and_not_an_invalid_point(run, tmp_path, monkeypatch):
    def broken(self, z):
        raise DataError("never")

    monkeypatch.setattr(ShapeDecoder, "probabilities", broken)
    with pytest.raises(DataError, match="never"):
        densify(run, 60, CRITERIA, tmp_path / "s")


def test_a_folder_is_not_taken_over(run, store, tmp_path):
    with pytest.raises(RunError, match=r"criteria .* points"):
        densify(run, N + 1, CRITERIA.with_limits(lv_concavity=1.0), store.folder, batch=64)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        densify(run, N, CRITERIA, tmp_path)
    with pytest.raises(RunError, match="no valid shapes"):
        ShapeStore(tmp_path)


def test_a_hopeless_proposal_is_refused_or_replaced(run, tmp_path):
    with pytest.raises(ConfigError, match="too long"):
        densify(run, 10**6, CRITERIA, tmp_path / "a", rule="fixed", factor=1e-3, proposals=Proposals("gaussian", patience=1.0))
    how = Proposals("gaussian", patience=1.0, switch=True)
    found = densify(run, 2000, CRITERIA, tmp_path / "b", rule="fixed", factor=1e-3, proposals=how, batch=256)
    assert found.note["summary"]["acceptance"] == 1.0
    assert "took the kernels" in found.note["summary"]["note"]


def test_nearest_valid_points_are_exact_in_every_block(store, monkeypatch):
    monkeypatch.setattr(shape_store, "_BLOCK", 50)
    z = torch.randn(9, store.asked["dim"], generator=torch.Generator().manual_seed(1))
    valid = np.concatenate([b.numpy() for b in store.valid()])
    distance = np.linalg.norm(valid[None].astype(float) - z.numpy()[:, None], axis=2)
    order = distance.argsort(1)[:, :4]
    np.testing.assert_array_equal(store.nearest(z, 4).numpy(), valid[order])


def test_the_command_prints_what_was_found(run, store, tmp_path):
    out = ok("anatomy", "densify", run.path, "--points", N, "--batch", 64, "--criteria", "myocardium", "--out", store.folder, "--quiet")
    assert f"{store.note['summary']['valid']} valid of {N} points" in out
    answer = cli("anatomy", "densify", run.path, "--points", 5, "--out", tmp_path / "x")
    assert answer.code == 2
    assert "--criteria myocardium --labels MYO=1 LV=2" in answer.err
    answer = cli("anatomy", "densify", run.path, "--points", 0, "--criteria", "myocardium")
    assert answer.code == 2
    assert "at least 1" in answer.err


def test_criteria_are_chosen_by_the_names_of_the_labels():
    def spec(*names):
        return medgen.ImageSpec(channels=len(names), shape=(8, 8), content="labels", channel_names=names)

    assert choose_criteria(spec("background", "RV", "MYO", "LV")).labels == {"background": 0, "rv": 1, "myo": 2, "lv": 3}
    assert choose_criteria(spec("background", "LV", "MYO", "LA")).name == "echo"
    found = choose_criteria(spec("background", "LV", "MYO"), missing="invalid", limits={"lv_circularity": 0.7})
    assert (found.name, found.labels["lv"], found.missing, found["lv_circularity"].limit) == ("myocardium", 1, "invalid", 0.7)
    assert criteria_from_json(criteria_to_json(found)) == found
    with pytest.raises(RunError, match="does not know"):
        choose_criteria(spec("background", "RV", "MYO", "LV"), "myocardium", {"MYO": 2, "LV": 3})
    with pytest.raises(ConfigError, match="structures of 'echo'"):
        choose_criteria(spec("background", "RV", "MYO", "LV"), "echo")
