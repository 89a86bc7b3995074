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


CYCLE = {"width": 4, "multipliers": [1, 2], "discriminator_channels": [4, 4], "pool": 4}


@pytest.fixture(scope="module")
def unpaired(tmp_path_factory):
    """Sources of three subjects, targets of two, and the pairs of all."""
    folder = tmp_path_factory.mktemp("unpaired")
    x = np.random.Generator(np.random.Philox(0)).integers(0, 256, (10, 24, 24)).astype(np.uint8)
    subjects = np.array(list("aaabbbccdd"))
    np.savez(folder / "mr.npz", images=x[:8], patient=subjects[:8])
    np.savez(folder / "ct.npz", images=255 - x[4:], patient=subjects[4:])
    np.savez(folder / "pairs.npz", ct=255 - x, mr=x, patient=subjects, brain=np.ones_like(x))
    data = {"source": str(folder / "mr.npz"), "pairing": "unpaired", "subjects": "patient", "split": (0.5, 0.5, 0.0)}
    return medgen.train("cyclegan", folder / "ct.npz", folder / "r", model=CYCLE, steps=3, batch_size=2, device="cpu", show=False, **data)


def residual(model, x):
    stored = torch.from_numpy(x.astype(np.float32))
    return (255 * model.cycle(stored / 255) - stored).abs().double()


def test_a_run_without_pairs_is_judged_by_what_comes_back(unpaired):
    scores = {s.name: s for s in evaluate(unpaired, split="val")}
    assert set(scores) == {"cycle"}
    table = load_subjects(unpaired.path / "evaluation.json")
    assert table.columns == ("cycle", "shift")
    data = unpaired.dataset
    rows = data.splits["val"]
    owners = data.samples.source_subjects[rows]
    each = residual(unpaired.model, data.samples.images["source"].gather(rows)).flatten(1).mean(1).numpy()
    for name, value in zip(table.subjects, table.values[:, 0], strict=True):
        assert value == pytest.approx(each[owners == name].mean(), rel=1e-4)
    assert scores["cycle"].value == pytest.approx(table.values[:, 0].mean())
    page = write_report(unpaired).read_text()
    assert "there and back" in page
    assert "Mean cycle residual" in page
    with pytest.raises(RunError, match=r"is not paired.*--data TARGETS"):
        evaluate(unpaired, split="val", metrics=["mae"])
    assert "cycle" in ok("evaluate", unpaired.path, "--per_subject")


def test_a_run_without_pairs_is_judged_on_pairs(unpaired):
    pairs = unpaired.path.parent / "pairs.npz"
    run = unpaired.on(pairs, key="ct", source=("mr",), subjects="patient", regions=("brain",))
    scores = {s.name: s for s in evaluate(run, split="test")}
    assert {"mae", "psnr", "cycle"} <= set(scores)
    assert scores["mae"].recipe["data"] == str(pairs)
    table = load_subjects(unpaired.path / "evaluation.json")
    assert table.subjects == tuple("abcd")
    with np.load(pairs) as held:
        x, y, owners = held["mr"][:, None], held["ct"][:, None], held["patient"]
    made = 255 * unpaired.model.translate(torch.from_numpy(x.astype(np.float32) / 255)).double().numpy()
    for name, line in zip(table.subjects, table.values, strict=True):
        rows = owners == name
        figures = dict(zip(table.columns, line, strict=True))
        assert figures["mae"] == pytest.approx(np.abs(np.rint(made) - y)[rows].mean(), abs=0.01)
        assert figures["cycle"] == pytest.approx(float(residual(unpaired.model, x)[rows].mean()), abs=0.5)
    shown = ok(
        "evaluate", unpaired.path, "--data", pairs, "--key", "ct", "--source", "mr", "--subjects", "patient", "--test_subjects", "c", "d",
        "--per_subject",
    )  # fmt: skip
    assert load_subjects(unpaired.path / "evaluation.json").subjects == ("c", "d")
    assert "cycle" in shown
    assert "give --data too" in refused("evaluate", unpaired.path, "--key", "ct")
    small = unpaired.path.parent / "small.npz"
    np.savez(small, ct=np.zeros((3, 2, 24, 24), np.uint8), mr=np.zeros((3, 24, 24), np.uint8))
    with pytest.raises(RunError, match=r"samples must be intensity of shape \(1, 24, 24\)"):
        unpaired.on(small, key="ct", source=("mr",))


def test_a_phantom_without_pairs_says_so(tmp_path):
    data = "mr_ct_phantom?n=4&size=24&paired=false"
    run = medgen.train(
        "regression", data, tmp_path / "r", model={"width": 4, "multipliers": [1]}, split=(0.5, 0.5, 0.0), steps=1, device="cpu", show=False
    )
    with pytest.raises(RunError, match="is not paired"):
        evaluate(run)


def test_an_open_dataset_is_judged_too(tmp_path):
    x = torch.rand(8, 1, 12, 12, generator=torch.Generator().manual_seed(0)).numpy()
    data = from_arrays(x, source_images=1 - x, split=(0.5, 0.5, 0.0))
    run = medgen.train("regression", data, tmp_path / "r", model={"width": 4, "multipliers": [1]}, steps=2, device="cpu", show=False)
    assert isinstance(run, Run)
    assert {s.name for s in evaluate(run)} >= {"mae", "psnr", "ssim"}
