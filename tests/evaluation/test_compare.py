"""`compare` and `medgen compare`: the same figures as `evaluate`, reuse of what is current, a plain word where runs do not compare."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from tiny import copied, ok, refused

import medgen
from medgen.errors import ConfigError
from medgen.evaluation import compare, evaluate, load_subjects
from medgen.report.comparison import samples_beside, translations_beside
from medgen.runs import open_run

DATA = "lesion_phantom?n=10&size=32&lesions_min=6"
MODEL = {"width": 4, "multipliers": [1]}


def trained(out, data=DATA, model=None, family="regression", **options):
    options = {"window": (0, 2), "split": (0.5, 0.0, 0.5), **options}
    return medgen.train(family, data, out, model={**MODEL, **(model or {})}, steps=2, batch_size=4, device="cpu", show=False, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("compare")
    trained(out / "l1")
    trained(out / "l2", model={"loss": "l2", "uncertainty": True})
    return out


@pytest.fixture
def runs(folder, tmp_path):
    return [open_run(shutil.copytree(folder / name, tmp_path / name)) for name in ("l1", "l2")]


def test_figures_are_means_over_subjects_of_evaluate(runs):
    found = compare(runs, split="test", draws=2)
    assert (found.warnings(), found.same_truth, [one.name for one in found.runs]) == ([], True, ["l1", "l2"])
    rows = {row[0]: row[1:] for row in found.rows()}
    for one, cell in zip(found.runs, rows["mae"], strict=True):
        evaluate(one.run, split="test", draws=2 if one.name == "l2" else 1)
        table = load_subjects(one.run.path / "evaluation.json")
        values = table.values[:, table.columns.index("mae")]
        assert cell == f"{values.mean():.4g} ({values.std(ddof=1):.2g})"
    assert rows["family"] == ("regression", "regression")
    assert rows["sd"][0] == "", "a model without draws has no deviation"
    assert rows["sd"][1]


def test_what_is_current_is_not_computed_again(runs, monkeypatch):
    compare(runs, split="test", bootstrap=0)
    done = []
    monkeypatch.setattr("medgen.evaluation.comparison.evaluate", lambda run, **asked: done.append(run.path.name) or evaluate(run, **asked))
    first = compare(runs, split="test", bootstrap=0)
    assert done == []
    assert compare(runs, split="train", bootstrap=0).rows() != first.rows()
    assert done == ["l1", "l2"]
    compare(runs, split="train", bootstrap=0, segmenter=lambda x, regions: x > 0.5)
    assert done == ["l1", "l2"] * 2
    shutil.copy(runs[1].weights_file, runs[0].weights_file)
    compare([open_run(run.path) for run in runs], split="train", bootstrap=0)
    assert done == ["l1", "l2"] * 3, "others were asked for, and one run has other weights"


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"data": DATA + "&seed=1"}, "NOT COMPARABLE: judged on different samples or regions: l1; other"),
        ({"window": (0, 4)}, "value_range: l1 [0.0, 2.0]; other [0.0, 4.0]"),
    ],
)
def test_runs_that_are_not_comparable_are_told_apart(runs, tmp_path, other, said):
    found = compare([runs[0], trained(tmp_path / "other", **other)], split="test", bootstrap=0)
    assert said in str(found)
    if not found.same_truth:
        with pytest.raises(ConfigError, match="judged on the same samples"):
            translations_beside(found)


def test_other_sources_and_patches_of_the_same_targets_are_comparable(tmp_path):
    rng = np.random.Generator(np.random.Philox(0))
    x = rng.random((6, 12, 12)).astype(np.float32)
    np.savez(tmp_path / "d.npz", ct=x, t1=1 - x, t2=x / 2)
    more = {"key": "ct", "window": (0, 1), "data": tmp_path / "d.npz"}
    one, two = trained(tmp_path / "one", source="t1", **more), trained(tmp_path / "two", source=["t1", "t2"], patch=(8, 8), **more)
    found = compare([one, two], split="test", bootstrap=0)
    assert found.warnings() == []
    assert translations_beside(found).get_figwidth() == pytest.approx(1.55 * 5 + 0.9)  # two sources, target, two translations


def test_the_command_writes_table_and_picture(runs, tmp_path):
    out = tmp_path / "side"
    said = ok("compare", *(run.path for run in runs), "--split", "test", "--out", out, "--device", "cpu", "--bootstrap", 0)
    assert said.splitlines()[0].split() == ["mean", "(sd)", "over", "subjects", "l1", "l2"]
    written = json.loads((out / "comparison.json").read_text())
    assert [one["name"] for one in written["runs"]] == ["l1", "l2"]
    assert (written["warnings"], written["asked"]["split"]) == ([], "test")
    assert (out / "comparison.png").read_bytes()[:4] == b"\x89PNG"


def test_generators_are_compared_by_their_scores(tmp_path):
    one, two = copied(tmp_path / "a"), copied(tmp_path / "b")
    said = ok("compare", one.path, two.path, "--metrics", "coverage", "bits_per_dim", "--out", tmp_path / "c", "--device", "cpu")
    names = [line.split("  ")[0] for line in said.splitlines()]
    assert names[:4] == ["value [95 % interval]", "family", "coverage", "bits_per_dim"]
    assert said.splitlines()[0].split()[-2:] == ["a/vae", "b/vae"]
    assert (tmp_path / "c" / "comparison.png").read_bytes()[:4] == b"\x89PNG"


def test_samples_of_classes_stand_below_real_ones_of_the_same_class(tmp_path, monkeypatch):
    rng = np.random.Generator(np.random.Philox(0))
    labels = np.arange(40) % 3
    images = (rng.random((40, 8, 8)) * 20 + 60 * labels[:, None, None]).astype(np.uint8)
    np.savez(tmp_path / "d.npz", images=images, labels=labels)
    more = {"data": tmp_path / "d.npz", "steps": 2, "batch_size": 4, "device": "cpu", "show": False, "split": (0.5, 0.0, 0.5)}
    model = {"latent_dim": 2, "channels": [4, 4]}
    runs = [medgen.train(family, out=tmp_path / family, model=model, **more) for family in ("vae", "cvae", "gan")]
    found = compare(runs, split="test", metrics=["coverage"], bootstrap=0)
    assert found.warnings() == [], "a GAN works in [-1, 1], the others in [0, 1]: features do not"
    drawn = []
    monkeypatch.setattr("medgen.report.comparison.tile_rows", lambda rows, *_, **named: drawn.append((rows, named)))
    samples_beside(found)
    rows, named = drawn[0]
    assert named["row_names"] == ["real", "vae", "cvae", "gan"]
    assert [len(row) for row in rows] == [12] * 4
    assert [int(tile.x.mean() // 60) for tile in rows[0]] == [0, 1, 2] * 4


def test_translators_without_pairs_are_compared_without_a_picture(tmp_path):
    image = pytest.importorskip("PIL.Image")
    rng = np.random.Generator(np.random.Philox(0))
    for side in ("ct", "mr"):
        (tmp_path / side).mkdir()
        for k in range(6):
            image.fromarray(rng.integers(0, 255, (32, 32)).astype(np.uint8)).save(tmp_path / side / f"{k}.png")
    data = {"data": tmp_path / "ct", "source": str(tmp_path / "mr"), "pairing": "unpaired", "window": (0, 255)}
    small = {"discriminator_channels": [4, 4], "pool": 4}
    one, two = (
        trained(tmp_path / name, model={**small, "cycle_weight": w}, family="cyclegan", **data) for name, w in (("a", 1), ("b", 10))
    )
    said = ok("compare", one.path, two.path, "--split", "test", "--out", tmp_path / "c", "--device", "cpu")
    assert any(line.startswith("cycle") for line in said.splitlines())
    assert not (tmp_path / "c" / "comparison.png").exists()


def test_mistakes(runs, tmp_path):
    path = runs[0].path
    assert "two or more different runs" in refused("compare", path)
    assert "two or more different runs" in refused("compare", path, path)
    assert "is not a run folder" in refused("compare", path, tmp_path / "none")
    assert "is a file" in refused("compare", path, runs[1].path, "--out", path / "config.yaml")
    with pytest.raises(ConfigError, match="takes the options of `evaluate`; got splt"):
        compare(runs, splt="test")
