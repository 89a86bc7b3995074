from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from medgen.data import Dataset
from medgen.report import model_card
from medgen.report.blocks import Bullets, Code, Links, Section, Table, Text, to_markdown
from medgen.report.card import NOT_FOR_DIAGNOSIS
from medgen.runs import Run
from medgen.weights import read_meta

Trained = Callable[..., tuple[Run, Dataset]]


def test_the_card_says_what_a_stranger_must_know(trained: Trained) -> None:
    run, data = trained("2d", "cvae")
    card = model_card(run)
    assert NOT_FOR_DIAGNOSIS in card
    for title in ("Intended use", "Model", "Training data", "Training", "Metrics", "Limitations", "Licence", "Weights"):
        assert f"\n## {title}\n" in card
    assert read_meta(run.weights_file)["sha256"] in card
    assert data.fingerprint in card
    assert "Learning Structured Output Representation" in card
    assert "medgen evaluate" in card
    assert "No privacy audit" in card


def test_the_code_of_the_card_runs(trained: Trained, tmp_path: Path) -> None:
    run, _ = trained("2d")
    card = model_card(run)
    code = "\n".join(line[4:] for line in card[card.index("    import medgen") :].splitlines())
    shutil.copy(run.weights_file, tmp_path)
    scope: dict[str, object] = {}
    path = repr(str(tmp_path / "model.safetensors"))
    exec(compile(code.replace('"model.safetensors"', path), "card", "exec"), scope)
    assert tuple(scope["stored"].shape) == (16, 1, 8, 10)  # type: ignore[attr-defined]


def test_only_the_interfaces_of_the_family_are_spoken_of(trained: Trained) -> None:
    card = model_card(trained("2d", "ae")[0])
    assert "model.reconstruct" in card
    assert "model.sample" not in card
    assert "model.log_prob" not in card


def test_no_folder_of_this_machine_is_in_the_card(trained: Trained) -> None:
    run, _ = trained("2d")
    (run.path / "evaluation.json").unlink(missing_ok=True)
    lines = [line for line in model_card(run).splitlines() if not line.startswith("    medgen ")]
    assert str(run.path.parent) not in "\n".join(lines)


@given(st.text(max_size=60))
def test_any_text_stays_one_cell_of_a_table(text: str) -> None:
    card = to_markdown(text, [Section("s", text, [Table(("a", "b"), [(text, "x")]), Text(text), Bullets([text])])])
    rows = [line for line in card.split("\n") if line.startswith("|")]
    assert len(rows) == 3
    assert all(sum(c == "|" and (k == 0 or line[k - 1] != "\\") for k, c in enumerate(line)) == 3 for line in rows)
    assert "<" not in card.replace("&lt;", "")


def test_addresses_that_are_no_web_pages_are_dropped() -> None:
    card = to_markdown("t", [Section("s", "s", [Links([("a", "javascript:alert(1)"), ("b", "https://arxiv.org/abs/1")]), Code("x\ny")])])
    assert "javascript" not in card
    assert "<https://arxiv.org/abs/1>" in card
    assert "    x\n    y" in card
