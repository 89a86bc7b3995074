"""How a configuration becomes options: help from its fields, values from words, laid over a file."""

from __future__ import annotations

import argparse
import subprocess
import sys
from typing import Annotated, Literal, Optional

import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from medgen.cli.options import add_config, overlaid, parse
from medgen.cli.options import given as given_options
from medgen.data import DataConfig
from medgen.errors import ConfigError
from medgen.factory import config_class
from medgen.registry import find_family
from medgen.registry.config import Config
from medgen.runs import TrainConfig


@pytest.mark.parametrize("family", ["ae", "vae", "beta_vae", "cvae"])
def test_help_lists_every_field_with_its_default(family):
    text = " ".join(tiny.ok("train", family, "--help").split())
    configs = {"model.": config_class(find_family(family)), "": DataConfig}
    for prefix, config in [*configs.items(), ("", TrainConfig)]:
        for row in config.rows():
            assert f"--{prefix}{row.name} " in text
            assert " ".join(f"{row.description} (default {row.default}".split()) in text, row.name
    assert "medgen train vae --help" in text, "examples"


def test_help_without_a_family_teaches():
    for words in (("--help",), ("-h",), ("--help", "--quiet")):
        text = tiny.ok("train", *words)
        assert "examples:" in text
        assert "Name a family to see every option" in text


@pytest.mark.parametrize("name", ["train", "sample", "score", "reconstruct", "evaluate", "report", "demo"])
def test_help_loads_no_torch(name):
    code = f"import sys; from medgen.cli.main import main; main([{name!r}, '--help']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "examples:" in done.stdout
    assert f"medgen {name}" in done.stdout


class Net(Config):
    """Nested."""

    width: int = Field(8, ge=1, description="Features.")
    act: Literal["relu", "silu"] = Field("silu", description="Activation.")


class Many(Config):
    """One field of every kind."""

    count: int = Field(3, description="A number.")
    rate: float = Field(1e-3, description="Another.")
    name: str = Field("auto", description="Text, of which none is one.")
    maybe: str | None = Field(None, description="Text or none.")
    old: Optional[str] = Field(None, description="The same, as it was written before 3.10.")  # noqa: UP045
    flag: bool = Field(False, description="A flag.")
    tri: bool | None = Field(None, description="A flag or none.")
    kind: Literal["a", "b"] = Field("a", description="A choice.")
    level: Literal[1, 2] = Field(1, description="A choice of numbers.")
    pair: tuple[float, float] | None = Field(None, description="Two numbers or none.")
    widths: tuple[Annotated[int, Field(ge=1)], ...] = Field((8,), description="Any number of numbers.")
    names: tuple[str, ...] = Field((), description="Any number of words.")
    items: list[int] = Field([], description="A list.")
    mixed: float | Literal["auto"] = Field("auto", description="A number or a word: 5 %.")
    net: Net = Field(Net(), description="Nested.")


def read(*words):
    parser = argparse.ArgumentParser(prog="medgen x", allow_abbrev=False)
    add_config(parser, Many, "many", prefix="model.")
    options = parse(parser, list(words))
    names = [name.removeprefix("model.") for name in vars(options)]
    return Many.parse(overlaid({}, given_options(options, "model.", names)))


@pytest.mark.parametrize(
    ("words", "field", "value"),
    [
        ("--model.count 5", "count", 5),
        ("--model.count=-5", "count", -5),
        ("--model.count -5", "count", -5),
        ("--model.count 1e3", "count", 1000),
        ("--model.rate .5", "rate", 0.5),
        ("--model.rate 5.", "rate", 5.0),
        ("--model.rate -1e-3", "rate", -1e-3),
        ("--model.rate 3", "rate", 3.0),
        ("--model.name none", "name", "none"),
        ("--model.name 5", "name", "5"),
        ("--model.name true", "name", "true"),
        ("--model.maybe none", "maybe", None),
        ("--model.maybe 5", "maybe", "5"),
        ("--model.old 5", "old", "5"),
        ("--model.old None", "old", None),
        ("--model.flag", "flag", True),
        ("--model.flag false", "flag", False),
        ("--model.tri", "tri", True),
        ("--model.tri none", "tri", None),
        ("--model.kind b", "kind", "b"),
        ("--model.level 2", "level", 2),
        ("--model.pair -600 1400", "pair", (-600.0, 1400.0)),
        ("--model.pair -6e2 1.4e3", "pair", (-600.0, 1400.0)),
        ("--model.pair [-600,1400]", "pair", (-600.0, 1400.0)),
        ("--model.pair none", "pair", None),
        ("--model.widths 8 8", "widths", (8, 8)),
        ("--model.widths [8,8]", "widths", (8, 8)),
        ("--model.widths 8", "widths", (8,)),
        ("--model.widths []", "widths", ()),
        ("--model.widths", "widths", ()),
        ("--model.names a 5 none", "names", ("a", "5", "none")),
        ("--model.items 1 2", "items", [1, 2]),
        ("--model.mixed auto", "mixed", "auto"),
        ("--model.mixed 5", "mixed", 5.0),
        ("--model.net.width 16", "net", Net(width=16)),
        ("--model.net.width 16 --model.net.act relu", "net", Net(width=16, act="relu")),
        ("--model.net.act=relu", "net", Net(act="relu")),
    ],
)
def test_words_become_values(words, field, value):
    found = read(*words.split())
    assert getattr(found, field) == value
    assert found == Many(**{field: value}), "and nothing else changes"


def test_help_of_nested_fields():
    parser = argparse.ArgumentParser(prog="x")
    add_config(parser, Many, "many", prefix="model.")
    text = " ".join(parser.format_help().split())
    assert "--model.net.width WIDTH Features. (default 8; >= 1)" in text
    assert "A number or a word: 5 %. (default auto" in text


@given(
    st.dictionaries(
        st.sampled_from("abc"), st.none() | st.integers() | st.dictionaries(st.sampled_from("abc"), st.none() | st.integers(), max_size=3)
    )
)
def test_laying_nothing_over_changes_nothing_and_a_path_is_found_again(base):
    assert overlaid(base, {}) == base
    out = overlaid(base, {"a.b.c": 7})
    assert out["a"]["b"]["c"] == 7
    assert {k: v for k, v in out.items() if k != "a"} == {k: v for k, v in base.items() if k != "a"}


def test_an_option_is_not_abbreviated():
    with pytest.raises(ConfigError, match=r"unknown option '--model\.coun'; did you mean '--model\.count'"):
        read("--model.coun", "5")
