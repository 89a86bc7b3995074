from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import medgen
from medgen.cli.main import main
from medgen.data import from_arrays


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data = from_arrays(np.random.Generator(np.random.Philox(0)).random((24, 8, 8), np.float32))
    out = tmp_path_factory.mktemp("runs") / "run"
    medgen.train("vae", data, out, model={"latent_dim": 2, "channels": [4], "blocks": 0}, steps=2, batch_size=8, show=False)
    return out


def test_it_prints_where_the_report_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(folder), "--samples", "2", "--seed", "5", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out.strip()
    assert printed == str(folder / "report.html")
    assert "Samples 0 to 1 of seed 5" in Path(printed).read_text(encoding="utf-8")
    assert (folder / "card.md").is_file()


def test_open_shows_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    assert main(["report", str(folder), "--samples", "2", "--quiet", "--open"]) == 0
    assert opened == [(folder / "report.html").resolve().as_uri()]


@pytest.mark.parametrize(
    ("words", "said"),
    [(["--samples", "0"], "--samples must be at least 1"), (["--seed", "-1"], "not negative"), (["--sample", "3"], "--samples")],
)
def test_mistakes_are_one_line(folder: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(folder), *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


def test_a_folder_that_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--help"]) == 0
    assert "medgen report runs/heart" in capsys.readouterr().out
