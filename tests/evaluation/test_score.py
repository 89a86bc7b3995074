"""Scores as text, JSON and tables."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgen.errors import DataError
from medgen.evaluation import Score, load_scores, render, rich_table, save_scores

number = st.floats(allow_nan=False)
plain = st.recursive(
    st.integers(-9, 9) | st.text(max_size=5) | st.booleans(),
    lambda x: st.lists(x, max_size=2) | st.dictionaries(st.text(max_size=3), x, max_size=2),
)


def score(**changes):
    fields = {"name": "mae", "value": 0.5, "low": 0.4, "high": 0.6, "n": 8, "recipe": {"a": 1, "k": {"b": 2}}, "better": "lower"}
    return Score(**{**fields, **changes})


@given(number, number | st.none(), number | st.none(), st.dictionaries(st.text(max_size=3), plain, max_size=3))
def test_json_round_trip_of_any_value(value, low, high, recipe):
    original = score(value=value, low=low, high=high, recipe=recipe, details={"sd": value})
    assert Score.from_json(json.loads(json.dumps(original.to_json(), allow_nan=False))) == original


def test_infinite_and_undefined_values_survive_json():
    text = json.dumps(score(value=math.inf, details={"sd": math.nan}).to_json(), allow_nan=False)
    back = Score.from_json(json.loads(text))
    assert back.value == math.inf
    assert math.isnan(back.details["sd"])


def test_one_line():
    assert str(score()) == "mae 0.5000 [0.4000, 0.6000] (lower is better, n=8)"
    assert str(score(low=None, high=None, note="n < 10")) == "mae 0.5000 (lower is better, n=8) ! n < 10"
    assert str(score(value=math.inf, low=None, high=None)).startswith("mae inf (")
    assert score(value=-0.000123456, low=-1.0, high=0.0).figure == "-0.0001235"
    assert score(value=0.0, low=0.0, high=0.0).interval == "[0.000, 0.000]"


def test_table_shows_every_figure_note_and_recipe():
    scores = [score(), score(name="psnr", value=20.0, recipe={"a": 1, "k": {"b": 3}}, note="odd"), score(name="kid", note="odd")]
    text = render(scores)
    for words in ("0.5000", "20.00", "! psnr, kid: odd", "all: a=1", "psnr: k.b=3", "mae: k.b=2"):
        assert words in text
    assert render([]).startswith("metric")


def test_rich_table_has_the_same_cells():
    console = pytest.importorskip("rich.console").Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(rich_table([score(note="[odd] brackets")], title="Scores"))
    text = console.export_text()
    for words in ("Scores", "0.5000", "[0.4000, 0.6000]", "[odd] brackets", "k.b=2"):
        assert words in text


def test_files_round_trip_and_are_whole(tmp_path):
    path = tmp_path / "deep" / "scores.json"
    scores = [score(), score(name="psnr", value=math.inf, low=None, high=None)]
    save_scores(scores, path)
    assert load_scores(path) == scores
    assert [p.name for p in path.parent.iterdir()] == ["scores.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "scores.json"
    save_scores([score()], path)
    with pytest.raises(TypeError):
        save_scores([score(recipe={"bad": object()})], path)
    assert load_scores(path) == [score()]
    assert [p.name for p in tmp_path.iterdir()] == ["scores.json"]


@pytest.mark.parametrize("text", ["", "[1]", '{"schema": 1}', '{"schema": 1, "scores": [{"name": "x"}]}', '{"schema": 99, "scores": []}'])
def test_foreign_files_are_refused(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=r"x\.json"):
        load_scores(tmp_path / "x.json")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="FileNotFoundError"):
        load_scores(tmp_path / "none.json")
