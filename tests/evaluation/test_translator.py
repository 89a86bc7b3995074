"""`medgen evaluate` and `medgen report` of translators."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from tiny import ok, refused

import medgen
from medgen.data import from_arrays
from medgen.errors import RunError
from medgen.evaluation import evaluate, load_subjects
from medgen.evaluation.translated import translated
from medgen.report import write_report
from medgen.runs import Run

MODEL = {"width": 4, "multipliers": [1], "loss": "l2", "uncertainty": True}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "flair"
    data = "lesion_phantom?n=12&size=32&lesions_min=6"
    return medgen.train("regression", data, out, model=MODEL, window=(0, 2), steps=2, batch_size=4, device="cpu", show=False)


def bright(x, regions):
    return (x > 0.8) & (regions != 0)


def test_figures_of_a_translator_are_of_its_target_in_stored_units(run):
    scores = {s.name: s for s in evaluate(run, split="train", draws=2, segmenter=bright)}
    found = translated(run, "train", 1000, draws=2)
    assert found.value_range == (0, 2)
    inside = found.regions != 0
    errors = [float((a - b).abs()[m].mean()) for a, b, m in zip(found.real, found.fake, inside, strict=True)]
    assert scores["mae"].value == pytest.approx(np.mean(errors), rel=1e-5)
    assert scores["psnr"].recipe["value_range"] == [0, 2]
    assert (scores["mae"].recipe["mask"], scores["mae"].recipe["draws"]) == ("lesion, NAWM", 2)
    table = load_subjects(run.path / "evaluation.json")
    assert {"mae", "psnr", "ssim", "shift", "sd", "within 2 sd", "mae lesion", "contrast", "lesion dice", "invented"} <= set(table.columns)
    truth = dict(zip(table.subjects, table.values[:, table.columns.index("mae")], strict=True))
    np.testing.assert_allclose(list(truth.values()), errors, rtol=1e-5)


def test_the_report_shows_translations_and_the_table(run):
    evaluate(run, split="train")
    page = write_report(run).read_text()
    assert "Translations by subject" in page
    assert "Targets, translations and their absolute differences" in page
    assert "Standard deviation of 8 draws" in page


def test_the_command_prints_the_table(run):
    out = ok("evaluate", run.path, "--split", "train", "--per_subject", "--metrics", "mae")
    assert "contrast translated" in out
    assert "\nmedian" in out
    assert len(json.loads((run.path / "evaluation.json").read_text())["scores"]) == 1
    assert "at least 1" in refused("evaluate", run.path, "--draws", 0)


def test_a_model_of_patches_is_judged_on_whole_samples(tmp_path):
    rng = np.random.Generator(np.random.Philox(0))
    x = rng.random((6, 24, 26)).astype(np.float32)
    np.savez(tmp_path / "d.npz", images=x, t1=1 - x, brain=np.ones(x.shape, np.uint8))
    data = {"key": "images", "source": "t1", "regions": ["brain"], "patch": (8, 8)}
    model = {"network": "fcn", "layers": 1, "width": 4}
    run = medgen.train("regression", tmp_path / "d.npz", tmp_path / "r", model=model, steps=60, lr=0.05, device="cpu", show=False, **data)
    found = translated(run, "train", 3)
    assert found.real.shape == (3, 1, 24, 26)
    assert float((found.real - found.fake).abs().mean()) < 0.1
    assert {s.name for s in evaluate(run, split="train", metrics=["mae", "ssim"])} == {"mae", "ssim"}


def test_what_has_no_truth_is_not_compared(tmp_path):
    pytest.importorskip("PIL")
    from PIL import Image

    for side in ("ct", "mr"):
        (tmp_path / side).mkdir()
        for k in range(4):
            Image.fromarray(np.full((8, 8), 40 * k + 40, np.uint8)).save(tmp_path / side / f"{k}.png")
    data = {"source": str(tmp_path / "mr"), "pairing": "unpaired"}
    run = medgen.train(
        "regression", tmp_path / "ct", tmp_path / "r", model={"width": 4, "multipliers": [1]}, steps=2, device="cpu", show=False, **data
    )
    with pytest.raises(RunError, match="is not paired"):
        evaluate(run, split="train")
    assert "the data has no targets for them" in write_report(run).read_text()


def test_an_open_dataset_is_judged_too(tmp_path):
    x = torch.rand(8, 1, 12, 12, generator=torch.Generator().manual_seed(0)).numpy()
    data = from_arrays(x, source_images=1 - x, split=(0.5, 0.5, 0.0))
    run = medgen.train("regression", data, tmp_path / "r", model={"width": 4, "multipliers": [1]}, steps=2, device="cpu", show=False)
    assert isinstance(run, Run)
    assert {s.name for s in evaluate(run)} >= {"mae", "psnr", "ssim"}
