"""`medgen demo`: the whole path."""

from __future__ import annotations

import pytest
import tiny

import medgen
from medgen.evaluation.table import load_scores


@pytest.mark.slow
def test_tiny(tmp_path):
    out = tmp_path / "demo"
    text = tiny.ok("demo", "--tiny", "--out", out)
    assert [line[:3] for line in text.splitlines() if line[1:3] == "/5"] == ["1/5", "2/5", "3/5", "4/5", "5/5"]
    report = (out / "report.html").resolve()
    assert text.splitlines()[-1].endswith(f"Open {report}")
    assert "<html" in report.read_text(encoding="utf-8")[:200]
    assert len(list((out / "samples").glob("sample_*.png"))) == 16
    assert {"frechet_distance", "mae", "bits_per_dim"} <= {score.name for score in load_scores(out / "evaluation.json")}
    assert medgen.load(out).sample(1).shape == (1, 1, 32, 32)
    assert "already holds a run" in tiny.cli("demo", "--tiny", "--out", out).err, "a second one does not spoil the first"


@pytest.mark.parametrize(
    ("words", "said"), [(["--tinny"], "did you mean '--tiny'"), (["--out"], "expected one argument"), (["x"], "unknown argument 'x'")]
)
def test_mistakes(words, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert said in tiny.refused("demo", *words)
    assert list(tmp_path.iterdir()) == []
