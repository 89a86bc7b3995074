"""`medgen score`: the number in words, a row per image, mistakes in one line."""

from __future__ import annotations

import csv
import re

import numpy as np
import pytest
import tiny

from medgen.runs import open_run, score


@pytest.fixture(scope="module")
def run():
    return tiny.trained()


def test_the_mean_over_the_validation_split(run):
    text = tiny.ok("score", run, "--device", "cpu")
    assert text == f"{score(open_run(run))}\n"
    number = r"-?\d+\.\d+"
    assert re.fullmatch(
        rf"log p = {number} \+- {number} nats \(lower bound\), {number} \+- {number} bits/dim in model units, n = 6\n", text
    )


def test_a_file_with_a_row_per_image(run, tmp_path):
    np.savez(tmp_path / "new.npz", x=tiny.images(5))
    out = tiny.ok("score", run, tmp_path / "new.npz", "--out", tmp_path / "scores.csv", "--importance_samples", 3, "--device", "cpu")
    assert "n = 5, 3 importance samples" in out
    assert out.endswith(f"{tmp_path / 'scores.csv'}\n")
    with (tmp_path / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["sample"] for row in rows] == [f"new.npz x[{i}]" for i in range(5)]
    expected = score(open_run(run), str(tmp_path / "new.npz"), importance_samples=3)
    assert [float(row["log_prob_nats"]) for row in rows] == expected.log_prob.tolist()


def test_options(run):
    text = tiny.ok("score", run, "--split", "train", "--limit", 4, "--seed", 9, "--device", "cpu")
    assert text == f"{score(open_run(run), split='train', limit=4, seed=9)}\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere.npz"], "no file, folder or registered dataset 'nowhere.npz'"),
        (["bad.npz"], "bad.npz x[1]: values must be finite"),
        (["junk.npz"], "junk.npz"),
        (["wide.npz", "--importance_samples", 0], "`importance_samples` must be at least 1; got 0"),
        (["--importance_samples", "few"], "invalid int value: 'few'. See `medgen score --help`."),
        (["--limit", 0], "`limit` must be at least 1; got 0"),
        (["--limit", -1], "`limit` must be at least 1"),
        (["--seed", -1], "`seed` must be in [0, 2^64)"),
        (["--split", "dev"], "invalid choice: 'dev'"),
        (["--splt", "val"], "unknown option '--splt'; did you mean '--split'"),
        (["a", "b"], "unknown argument 'b'"),
        (["wide.npz", "--out", "wide.npz"], "--out wide.npz is the input itself"),
        (["wide.npz", "--out", "./folder/../wide.npz"], "is the input itself"),
        (["--out", "folder"], "cannot write"),
        (["--out", "junk.npz/scores.csv"], "cannot write"),
    ],
)
def test_mistakes(run, tmp_path, monkeypatch, words, said):
    monkeypatch.chdir(tmp_path)
    x = tiny.images(3)
    np.savez("wide.npz", x=tiny.images(3, 20))
    x[1, 0, 0] = np.inf
    np.savez("bad.npz", x=x)
    (tmp_path / "junk.npz").write_bytes(b"junk")
    (tmp_path / "folder").mkdir()
    before = tiny.contents(tmp_path)
    answer = tiny.cli("score", run, *words, "--device", "cpu")
    assert (answer.code, answer.err.count("\n")) == (2, 1), answer
    assert said in answer.err
    assert tiny.contents(tmp_path) == before


def test_runs_that_cannot(tmp_path):
    assert "family 'ae' has no log-density" in tiny.refused("score", tiny.trained("ae"))
    assert "is not a run folder" in tiny.refused("score", tmp_path)
    np.savez(tmp_path / "bare.npz", x=tiny.images(3))
    assert "needs the conditions ['attributes', 'label']" in tiny.refused("score", tiny.trained("cvae"), tmp_path / "bare.npz")
