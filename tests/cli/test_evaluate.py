"""`medgen evaluate`: a table, a file, mistakes in one line."""

from __future__ import annotations

import pytest
import tiny

from medgen.evaluation.table import load_scores


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return tiny.copied(tmp_path_factory.mktemp("evaluate"))


def test_the_table_and_the_file(run):
    text = tiny.ok("evaluate", run.path, "--bootstrap", 5, "--device", "cpu")
    scores = load_scores(run.path / "evaluation.json")
    lines = text.splitlines()
    assert lines[0].split()[:2] == ["metric", "value"]
    assert [line.split()[0] for line in lines[1 : len(scores) + 1]] == [score.name for score in scores]
    assert lines[-1] == f"Every figure's recipe is in {run.path / 'evaluation.json'} (or add --recipes)."
    assert "extractor=" not in text
    assert "all: " in tiny.ok("evaluate", run.path, "--metrics", "mae", "mse", "--recipes", "--bootstrap", 0)


def test_options_reach_the_metrics(run):
    tiny.ok(
        "evaluate", run.path, "-n", 9, "--limit", 8, "--split", "train", "--metrics", "coverage", "--resize", 8, 8,
        "--extractor", "medgen-identity-v1", "--bootstrap", 0,
    )  # fmt: skip
    recipe = load_scores(run.path / "evaluation.json")[0].recipe
    assert (recipe["n_real"], recipe["n_fake"], recipe["extractor"]) == (8, 9, "medgen-identity-v1")
    assert recipe["resize"]["to"] == [8, 8]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--metrics", "covrage"], "unknown metric 'covrage'; did you mean 'coverage'"),
        (["--metrics"], "argument --metrics: expected at least one argument"),
        (["-n", 0], "must be at least 1"),
        (["-n", -5], "must be at least 1"),
        (["--limit", 0], "must be at least 1"),
        (["--bootstrap", -1], "`bootstrap` at least 0"),
        (["--importance_samples", 0], "must be at least 1"),
        (["--seed", -1], "`seed` must be in"),
        (["--split", "dev"], "invalid choice: 'dev'"),
        (["--extractor", "nowhere.pt"], "'nowhere.pt' does not exist"),
        (["--extractor", "nowhere"], "nowhere"),
        (["--resize", 8, 8, 8], "`resize` must give 2 sizes"),
        (["--metric", "mae"], "did you mean '--metrics'"),
    ],
)
def test_mistakes(tmp_path, words, said):
    run = tiny.copied(tmp_path)
    assert said in tiny.refused("evaluate", run.path, *words)
    assert not (run.path / "evaluation.json").exists()


def test_metrics_of_other_families():
    assert "metric 'kid' is for a Generator, which family 'ae' is not" in tiny.refused("evaluate", tiny.trained("ae"), "--metrics", "kid")
    assert "is for a DensityModel" in tiny.refused("evaluate", tiny.trained("ae"), "--metrics", "mae", "bits_per_dim")


def test_no_run(tmp_path):
    assert "is not a run folder" in tiny.refused("evaluate", tmp_path)
