"""`medgen sample`: the same bytes whatever happens in between, and one line for every mistake."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tiny
import torch
from PIL import Image

import medgen
from medgen.runs import open_run


@pytest.fixture(scope="module")
def run():
    return tiny.trained()


def draw(run, out, *words):
    return tiny.ok("sample", run, "--out", out, "--device", "cpu", "--quiet", *words)


def test_defaults(tmp_path):
    run = tiny.copied(tmp_path)
    assert tiny.ok("sample", run.path, "--device", "cpu") == f"{run.path}/samples: 16 new samples\n"
    files = sorted(p.name for p in (run.path / "samples").iterdir())
    assert files == [*(f"sample_{i:06d}.png" for i in range(16)), "samples.json"]
    assert tiny.ok("sample", run.path, "-n", 20) == f"{run.path}/samples: 4 new samples, 16 were there already\n"


def test_whatever_n_start_and_order_the_files_are_the_same_bytes(run, tmp_path):
    draw(run, tmp_path / "whole", "-n", 70, "--format", "npz")
    draw(run, tmp_path / "few", "-n", 3, "--format", "npz")
    draw(run, tmp_path / "ranks", "-n", 35, "--start", 35, "--format", "npz")
    draw(run, tmp_path / "ranks", "-n", 35, "--format", "npz")
    whole, few = (tiny.contents(tmp_path / name) for name in ("whole", "few"))
    assert all(whole[name] == value for name, value in few.items())
    assert tiny.contents(tmp_path / "ranks") == whole


def test_the_files_are_the_models_samples_in_stored_units(run, tmp_path):
    draw(run, tmp_path, "-n", 2, "--seed", 7, "--format", "npz")
    x = medgen.load(run).sample(32, noise=7, micro_batch=32)[:2].clamp(0, 1)  # the phantom is stored in [0, 1]; its window clips
    for i in range(2):
        with np.load(tmp_path / f"sample_{i:06d}.npz", allow_pickle=False) as file:
            np.testing.assert_allclose(file["x"], x[i].numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("form", "suffix"), [("png", ".png"), ("nifti", ".nii.gz"), ("npz", ".npz"), ("auto", ".png")])
def test_formats(run, tmp_path, form, suffix):
    draw(run, tmp_path, "-n", 1, "--format", form)
    path = tmp_path / f"sample_000000{suffix}"
    assert path.is_file()
    if suffix == ".png":
        assert Image.open(path).size == (16, 16)


def test_labels_by_name_number_and_in_turn(tmp_path):
    run = tiny.trained("cvae")
    for label in ("dilated", "1", "cycle", "normal", "hypertrophic"):
        draw(run, tmp_path / label, "-n", 4, "--label", label, "--format", "npz")
    files = {label: tiny.contents(tmp_path / label) for label in ("dilated", "1", "cycle", "normal", "hypertrophic")}
    assert files["1"] == files["dilated"], "the manifest too"
    for i, label in enumerate(("normal", "dilated", "hypertrophic", "normal")):
        name = f"sample_{i:06d}.npz"
        assert files["cycle"][name] == files[label][name]
        assert len({files[other][name] for other in ("normal", "dilated", "hypertrophic")}) == 3, "the class matters"


def test_attributes_by_name_in_any_order(tmp_path):
    run = tiny.trained("cvae")
    words = ["lv_area=1500", "myo_area=1e3", "rv_area=2000", "wall_thickness=9.5", "septal_thickness=9", "orientation=-.5", "contrast=1"]
    draw(run, tmp_path / "a", "-n", 2, "--attributes", *words)
    draw(run, tmp_path / "b", "-n", 2, "--attributes", *reversed(words))
    draw(run, tmp_path / "c", "-n", 2)
    assert tiny.contents(tmp_path / "a") == tiny.contents(tmp_path / "b")
    assert tiny.contents(tmp_path / "a") != tiny.contents(tmp_path / "c")


def test_conditions_drawn_from_the_data_do_not_depend_on_n(tmp_path):
    run = tiny.trained("cvae")
    draw(run, tmp_path / "whole", "-n", 40, "--format", "npz")
    draw(run, tmp_path / "parts", "-n", 5, "--start", 35, "--format", "npz")
    draw(run, tmp_path / "parts", "-n", 40, "--format", "npz")
    assert tiny.contents(tmp_path / "parts") == tiny.contents(tmp_path / "whole")


FORMAT = ["--format", "npz"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seed", 1, *FORMAT], "another seed"),
        (["--format", "png"], "another format"),
        (["--label", "normal", *FORMAT], "another condition"),
        (["--seed", 1, "--format", "png"], "another seed, format"),
    ],
)
def test_a_folder_of_other_samples_is_refused_and_kept(tmp_path, words, said):
    run = tiny.trained("cvae")
    draw(run, tmp_path / "a", "-n", 2, "--label", "dilated", *FORMAT)
    before = tiny.contents(tmp_path / "a")
    words = words if "--label" in words else [*words, "--label", "dilated"]
    error = tiny.refused("sample", run, "-n", 5, "--out", tmp_path / "a", *words)
    assert error == f"{tmp_path / 'a'} holds samples with {said}; choose another --out, or delete it."
    assert tiny.contents(tmp_path / "a") == before


def test_so_is_one_of_other_weights(run, tmp_path):
    draw(run, tmp_path, "-n", 2)
    assert "another weights" in tiny.refused("sample", tiny.trained(seed=1), "-n", 2, "--out", tmp_path)


@pytest.mark.parametrize(
    ("family", "words", "said"),
    [
        ("vae", ["-n", 0], "`n` must be at least 1"),
        ("vae", ["-n", "many"], "argument -n: invalid int value: 'many'. See `medgen sample --help`."),
        ("vae", ["-n"], "argument -n: expected one argument"),
        ("vae", ["--start", -1], "`start` not negative"),
        ("vae", ["--seed", -1], "`seed` in [0, 2^64)"),
        ("vae", ["--seed", 2**64], "`seed` in [0, 2^64)"),
        ("vae", ["--format", "gif"], "invalid choice: 'gif'"),
        ("vae", ["--format", "csv"], "format 'csv' must be used with 0-D or 1-D samples"),
        ("vae", ["--label", "normal"], "--label is for models with the condition 'label'; this one has none"),
        ("vae", ["--label", ""], "this one has none"),
        ("vae", ["--attributes", "age=3"], "this one has none"),
        ("vae", ["--nmber", 3], "unknown option '--nmber'"),
        ("vae", ["another"], "unknown argument 'another'"),
        ("vae", ["--device", "cuda"], "--device cpu"),
        ("cvae", ["--label", "dilatd"], "no class 'dilatd'; did you mean 'dilated'"),
        ("cvae", ["--label", "7"], "no class '7'"),
        ("cvae", ["--attributes", "lv_area"], "name=number; got 'lv_area'"),
        ("cvae", ["--attributes", "lv_area=big"], "name=number; got 'lv_area=big'"),
        ("cvae", ["--attributes", "lv_area=1", "lv_area=2"], "'lv_area' is given twice"),
        ("cvae", ["--attributes", "lv_aera=1"], "no attribute 'lv_aera'; did you mean 'lv_area'"),
        ("cvae", ["--attributes", "lv_area=1"], "must give every attribute; missing"),
        ("ae", [], "family 'ae' does not draw samples"),
    ],
)
def test_mistakes_make_no_folder(tmp_path, family, words, said):
    if "cuda" in words and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    assert said in tiny.refused("sample", tiny.trained(family), "--out", tmp_path / "a", *words)
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written(run, tmp_path):
    (tmp_path / "file").write_text("x")
    for out in (tmp_path / "file", tmp_path / "file" / "more"):
        assert "cannot write" in tiny.refused("sample", run, "--out", out)
    assert tiny.contents(tmp_path) == {"file": b"x"}


def test_no_run(tmp_path):
    assert "is not a run folder" in tiny.refused("sample", tmp_path)
    assert "the following arguments are required: RUN" in tiny.refused("sample")
    run = tiny.copied(tmp_path)
    run.weights_file.unlink()
    assert f"medgen train --resume {run.path}" in tiny.refused("sample", run.path)
    assert sorted(tiny.contents(run.path)) == ["config.yaml", "data.json", "metrics.csv"]


def test_spoiled_weights_are_said(tmp_path):
    run = tiny.copied(tmp_path)
    data = bytearray(run.weights_file.read_bytes())
    data[-3] ^= 1
    run.weights_file.write_bytes(data)
    assert "was altered after it was saved" in tiny.refused("sample", run.path)
    assert not (run.path / "samples").exists()


@pytest.mark.slow
def test_killed_at_any_moment_the_same_command_ends_in_the_same_folder(run, tmp_path):
    """A real process, killed with SIGKILL while files appear, until one gets through."""
    whole, out = tmp_path / "whole", tmp_path / "killed"
    words = [sys.executable, "-m", "medgen", "sample", str(run), "-n", "900", "--format", "npz", "--device", "cpu", "--out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MEDGEN_OPS": "reference"}
    subprocess.run([*words, str(whole)], env=environment, check=True, timeout=300)
    kills = 0
    for attempt in range(8):
        process = subprocess.Popen([*words, str(out)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        goal = 100 + 170 * attempt  # files after which it dies
        while process.poll() is None and attempt < 4 and (not out.is_dir() or len(os.listdir(out)) < goal):
            time.sleep(0.002)
        if attempt < 4 and process.poll() is None:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
            continue
        _, error = process.communicate(timeout=300)
        assert process.returncode == 0, error
        break
    assert kills >= 2, "it ended before it could be killed"
    assert tiny.contents(out) == tiny.contents(whole)
    assert json.loads((out / "samples.json").read_text())["seed"] == 0


def test_the_manifest_names_the_weights(run, tmp_path):
    from medgen import weights

    draw(run, tmp_path, "-n", 1)
    assert json.loads((tmp_path / "samples.json").read_text())["weights"] == weights.read_meta(open_run(run).weights_file)["sha256"]
