"""`medgen train`: options from configurations, YAML in and out, one line for every mistake, nothing left behind."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from typing import Annotated, Literal, Optional

import numpy as np
import pytest
import tiny
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

import medgen
from medgen.cli import train as command
from medgen.cli.options import add_config, overlaid, parse
from medgen.cli.options import given as given_options
from medgen.data import DataConfig
from medgen.errors import ConfigError
from medgen.factory import config_class
from medgen.registry import find_family
from medgen.registry.config import Config
from medgen.runs import TrainConfig, open_run
from medgen.training.loop import Loop

HERE = ("train", "vae", "--data", tiny.PHANTOM, *tiny.TRAIN)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def weights(path):
    return (path / "model.safetensors").read_bytes()


# runs -----------------------------------------------------------------------------------------------------------------------------------


def test_a_run_and_what_to_do_next(tmp_path):
    lines = tiny.ok(*HERE, "--out", "a/b").splitlines()
    assert lines[0] == "a/b: trained."
    assert [line.split()[:2] for line in lines[1:]] == [
        ["medgen", verb] for verb in ("sample", "reconstruct", "score", "evaluate", "report")
    ]
    assert tiny.ok("score", "a/b", "--device", "cpu").startswith("log p = ")
    offered = tiny.ok("train", "ae", "--data", tiny.PHANTOM, *tiny.TRAIN, "--out", "ae")
    assert "medgen sample" not in offered, "an ae cannot"
    assert "medgen reconstruct ae" in offered


def test_folders_are_numbered(tmp_path):
    np.savez("my scans.v2.npz", x=tiny.images(20))
    for number in ("", "-2", "-3"):
        assert tiny.ok(*HERE).startswith(f"runs/vae-cardiac_phantom{number}: trained.")
    assert tiny.ok("train", "medgen-autoencoders/vae", "--data", "my scans.v2.npz", *tiny.TRAIN).startswith("runs/vae-my-scans: trained.")
    assert tiny.ok("train", "vae", "--data", "./*.npz", *tiny.TRAIN).startswith("runs/vae-data: trained.")
    assert len(list((tmp_path / "runs").iterdir())) == 5


def test_the_config_of_a_run_repeats_it_to_the_bit(tmp_path):
    tiny.ok(*HERE, "--out", "a", "--lr", "3e-3", "--window", "0", "0.9", "--seed", 5, "--ema", ".9")
    tiny.ok("train", "--config", "a/config.yaml", "--out", "b", "--quiet")
    assert weights(tmp_path / "b") == weights(tmp_path / "a")
    assert (tmp_path / "b" / "config.yaml").read_bytes() == (tmp_path / "a" / "config.yaml").read_bytes()
    tiny.ok("train", "--config", "b/config.yaml", "--out", "c", "--quiet", "--seed", 6)
    assert weights(tmp_path / "c") != weights(tmp_path / "a")


def test_options_override_the_file_and_leave_the_rest(tmp_path):
    (tmp_path / "c.yaml").write_text(
        f"family: vae\ndata: {tiny.PHANTOM}\nmodel: {{latent_dim: 3, channels: [4], noise_sd: 0.5}}\n"
        "lr: 2e-3\nsteps: 1\nbatch_size: 8\nwindow: [0, 1]\n"
    )
    tiny.ok(
        "train",
        "--config",
        "c.yaml",
        "--out",
        "a",
        "--quiet",
        "--model.latent_dim",
        2,
        "--model.noise_sd",
        "none",
        "--window",
        "none",
        "--lr",
        ".5",
    )
    config = open_run("a").config
    assert config.model == {"latent_dim": 2, "channels": [4], "noise_sd": None}
    assert (config.train.lr, config.train.steps, config.data_options) == (0.5, 1, {"window": None})


def test_the_family_named_here_wins_over_the_files(tmp_path):
    (tmp_path / "c.yaml").write_text(f"family: vae\ndata: {tiny.PHANTOM}\nsteps: 1\nbatch_size: 8\n")
    tiny.ok("train", "ae", "--config", "c.yaml", "--out", "a", "--quiet")
    assert open_run("a").config.family == "ae"


def test_what_show_prints_as_yaml_trains(tmp_path):
    (tmp_path / "vae.yaml").write_text(tiny.ok("show", "vae", "--yaml"))
    tiny.ok("train", "--config", "vae.yaml", "--data", tiny.PHANTOM, "--steps", 1, "--batch_size", 8, "--out", "a", "--quiet")
    assert medgen.load("a").config == config_class(find_family("vae"))()


def test_the_same_in_python(tmp_path):
    tiny.ok(*HERE, "--out", "a")
    medgen.train("vae", tiny.PHANTOM, "b", model=tiny.MODEL, steps=2, batch_size=8, device="cpu", show=False)
    assert weights(tmp_path / "a") == weights(tmp_path / "b")


@pytest.mark.parametrize("flag", [["--tensorboard"], ["--tensorboard", "true"], ["--tensorboard=True"]])
def test_flags(tmp_path, flag):
    tiny.ok(*HERE, *flag, "--out", "a")
    assert list((tmp_path / "a" / "tensorboard").iterdir())


def test_a_flag_that_is_off(tmp_path):
    tiny.ok(*HERE, "--tensorboard", "false", "--out", "a")
    assert not (tmp_path / "a" / "tensorboard").exists()


def test_dry_run_describes_and_writes_nothing(tmp_path):
    for word in ("--dry_run", "--dry-run"):
        text = tiny.ok(*HERE, word)
        assert "parameters" in text
        assert "[16, 16]" in text
        assert "medgen sample" not in text
    assert list(tmp_path.iterdir()) == []
    assert "can only produce" in tiny.refused(*HERE, "--dry_run", "--model.likelihood", "bernoulli", "--range", -1, 1)


def test_resume_goes_on_and_takes_nothing_else(tmp_path, monkeypatch):
    tiny.ok(*HERE, "--steps", 6, "--out", "whole")
    step = Loop._step

    def cut(self, batches):
        if self.position.step == 4:
            raise KeyboardInterrupt
        return step(self, batches)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_step", cut)
        answer = tiny.cli(*HERE, "--steps", 6, "--checkpoint_every", 2, "--out", "a")
    assert (answer.code, answer.err.count("Traceback")) == (130, 0)
    assert "medgen train --resume RUN" in answer.err
    for more in (("--lr", 1), ("--out", "b"), ("--data", "x"), ("--dry_run",), ("vae",), ("--config", "a/config.yaml")):
        assert tiny.refused("train", "--resume", "a", *more) == "--resume takes every option from the run; give it alone."
    assert tiny.refused("train", "vae", "--resume", "a").startswith("--resume takes every option")
    assert tiny.ok("train", "--resume", "a", "--quiet").startswith("a: trained.")
    assert weights(tmp_path / "a") == weights(tmp_path / "whole")
    assert tiny.ok("train", "--resume", "a").startswith("a: trained."), "once more changes nothing"


# mistakes -------------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path):
    np.savez("good.npz", x=tiny.images(20))
    x = tiny.images(20)
    x[3, 2, 1] = np.nan
    np.savez("nan.npz", x=x)
    whole = (tmp_path / "good.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "junk.npz").write_bytes(b"no archive" * 20)
    (tmp_path / "text").write_text("hello")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    return tiny.contents(tmp_path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train"], "which family?"),
        (["train", "vae"], "train on what?"),
        (["train", "vea", "--data", "good.npz"], "unknown family 'vea'; did you mean 'vae'"),
        (["train", "vae", "--data", "nowhere.npz"], "no file, folder or registered dataset 'nowhere.npz'"),
        (["train", "vae", "--data", "cardiac_fantom"], "did you mean 'cardiac_phantom'"),
        (["train", "vae", "--data", "cardiac_phantom?sise=3"], "no option 'sise'; did you mean 'size'"),
        (["train", "vae", "--data", "nan.npz"], "nan.npz x[3]: values must be finite; got 1 NaN"),
        (["train", "vae", "--data", "cut.npz"], "cut.npz"),
        (["train", "vae", "--data", "junk.npz"], "junk.npz"),
        (["train", "vae", "--data", "text"], "text"),
        (["train", "vae", "--data", "full"], "full: holds no file that medgen reads"),
        (["train", "vae", "--data", "good.npz", "--out", "full"], "full is not empty"),
        (["train", "vae", "--data", "good.npz", "--out", "text"], "text is not empty"),
        (["train", "vae", "--data", "good.npz", "--out", "text/run"], "cannot write text/run"),
        (["train", "vae", "--data", "good.npz", "--epoch", "3"], "unknown option '--epoch'; did you mean '--epochs'"),
        (["train", "vae", "--data", "good.npz", "--model.latent_dims", "3"], "did you mean '--model.latent_dim'"),
        (["train", "vae", "--data", "good.npz", "more.npz"], "unknown argument 'more.npz'"),
        (["train", "vae", "--data"], "--data: expected one argument. See `medgen train --help`."),
        (["train", "vae", "--data", "good.npz", "--lr"], "--lr: expected one argument. See `medgen train vae --help`."),
        (["train", "vae", "--data", "good.npz", "--lr", "fast"], "`lr` of TrainConfig: input should be a valid number; got 'fast'"),
        (["train", "vae", "--data", "good.npz", "--lr", "-1"], "greater than 0; got -1"),
        (["train", "vae", "--data", "good.npz", "--lr", "nan"], "finite"),
        (["train", "vae", "--data", "good.npz", "--steps", "1.5"], "`steps` of TrainConfig"),
        (["train", "vae", "--data", "good.npz", "--optimizer", "adma"], "'adam', 'adamw', 'rmsprop' or 'sgd'; got 'adma'"),
        (["train", "vae", "--data", "good.npz", "--precision", "float16", "--device", "cpu"], "bfloat16"),
        (["train", "vae", "--data", "good.npz", "--device", "tpu"], "'auto', 'cpu' or 'cuda'"),
        (["train", "vae", "--data", "good.npz", "--model.latent_dim", "0"], "`latent_dim` of VaeConfig"),
        (["train", "vae", "--data", "good.npz", "--model.channels", "8", "many"], "`channels.1` of VaeConfig"),
        (["train", "vae", "--data", "good.npz", "--window", "5", "1"], "`window` of DataConfig: must increase"),
        (["train", "vae", "--data", "good.npz", "--window", "5"], "`window.1` of DataConfig"),
        (["train", "vae", "--data", "good.npz", "--key", "y"], "no array 'y'"),
        (["train", "vae", "--data", "good.npz", "--model.likelihood", "bernoulli", "--range", "-1", "1"], "can only produce [0, 1]"),
        (["train", "cvae", "--data", "good.npz", "--labels", "y"], "no array 'y'"),
        (["train", "--resume", "nowhere"], "nowhere is not a run folder"),
        (["train", "--resume", "full"], "full is not a run folder"),
        (["train", "--config", "nowhere.yaml"], "cannot read nowhere.yaml: No such file"),
        (["train", "--config", "full"], "cannot read full: Is a directory"),
        (["train", "--config", "good.npz"], "good.npz is not YAML"),
        (["train", "--config", "text"], "text must hold a mapping"),
    ],
)  # fmt: skip
def test_every_mistake_is_one_line_and_leaves_nothing_behind(files, tmp_path, words, said):
    assert said in tiny.refused(*words)
    assert tiny.contents(tmp_path) == files
    assert {p.name for p in tmp_path.iterdir()} == {name.partition("/")[0] for name in files}, "no empty folders either"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("family: vae\ndata: x\nstep: 3", "unknown key 'step'; did you mean 'steps'"),
        ("family: vae\ndata: good.npz\nmodel: {latent: 3}", "VaeConfig has no key 'latent' (got 3); did you mean 'latent_dim'"),
        ("family: vae\ndata: good.npz\nmodel: 3", "`model` in c.yaml must be a mapping"),
        ("family: 3\ndata: good.npz", "which family?"),
        ("family: vae\ndata: 3", "`data` of RunConfig"),
        ("1: 2\nfamily: vae\ndata: x", "unknown key 1"),
        ("family: vae\ndata: good.npz\nseed: 2020-01-01", "TrainConfig takes plain values"),
        ("family: vae\ndata: good.npz\nlr: [1]", "`lr` of TrainConfig"),
        ("\tfamily: vae", "c.yaml is not YAML"),
    ],
)
def test_mistakes_in_yaml(files, tmp_path, text, said):
    (tmp_path / "c.yaml").write_text(text)
    assert said in tiny.refused("train", "--config", "c.yaml", "--out", "a")
    assert not (tmp_path / "a").exists()


def test_a_taken_folder_says_how_to_go_on():
    tiny.ok(*HERE, "--out", "a")
    assert tiny.refused(*HERE, "--out", "a") == "a already holds a run. Go on with it: medgen train --resume a; or choose another --out."


def test_debug_shows_the_traceback():
    answer = tiny.cli("--debug", "train", "vae", "--data", "nowhere.npz")
    assert answer.code == 2
    assert answer.err.startswith("Traceback")
    assert answer.err.splitlines()[-1].startswith("medgen: error: there is no file")


# help -----------------------------------------------------------------------------------------------------------------------------------


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


# how a configuration becomes options ----------------------------------------------------------------------------------------------------


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


def test_other_ranks_find_the_folder_that_the_first_made(tmp_path, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert str(command._free_folder("vae", "x.npz")) == "runs/vae-x"
    for age, name in enumerate(["vae-x", "vae-x-3", "vae-x-2"]):
        (tmp_path / "runs" / name).mkdir(parents=True)
        os.utime(tmp_path / "runs" / name, (age, age))
    assert str(command._free_folder("vae", "x.npz")) == "runs/vae-x-2"


def test_yaml_of_a_run_is_for_people(tmp_path):
    tiny.ok(*HERE, "--out", "a")
    values = yaml.safe_load((tmp_path / "a" / "config.yaml").read_text())
    assert list(values)[:3] == ["family", "data", "model"]
    assert values["model"]["channels"] == [4, 8]
