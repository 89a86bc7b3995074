"""`TrainConfig`, `RunConfig` and YAML: out and in again, and mistakes that name the nearest right key."""

from __future__ import annotations

import subprocess
import sys

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from medgen.data import DataConfig
from medgen.errors import ConfigError, DataError
from medgen.runs import Run, RunConfig, TrainConfig
from medgen.runs.config import read_yaml

FIELDS = set(DataConfig.model_fields)

trains = st.builds(
    dict,
    steps=st.none() | st.integers(1, 10**6),
    epochs=st.integers(1, 1000),
    batch_size=st.integers(1, 512),
    lr=st.floats(1e-12, 10.0, exclude_min=True),
    betas=st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)).map(list),
    optimizer=st.sampled_from(["adam", "adamw", "rmsprop", "sgd"]),
    clip=st.floats(0, 1e6),
    ema=st.floats(0, 0.99999),
    seed=st.integers(0, 2**63 - 1),
    tensorboard=st.booleans(),
    patience=st.integers(0, 9),
)
datas = st.fixed_dictionaries(
    {},
    optional={
        "window": st.tuples(st.floats(-2000, 0), st.floats(1, 3000)).map(list),
        "axis": st.integers(0, 2),
        "labels": st.sampled_from(["auto", "none", "disease", "1e5", "yes"]),
        "attributes": st.lists(st.text("abc: -#", min_size=1, max_size=4), max_size=2),
        "size": st.lists(st.integers(1, 99), min_size=1, max_size=3),
        "split_seed": st.integers(0, 10),
    },
)
models = st.dictionaries(
    st.sampled_from(["latent_dim", "channels", "noise_sd", "likelihood"]), st.none() | st.integers() | st.text(max_size=5)
)


@given(trains, datas, models, st.text("abz/.?=&* é'\"", min_size=1, max_size=12))
def test_flat_and_yaml_invert(train, data, model, source):
    flat = {"family": "vae", "data": source, "model": model, **data, **train}
    config = RunConfig.from_flat(flat, FIELDS)
    assert config.data_options == data
    assert {k: v for k, v in config.train.to_json().items() if k in train} == train
    assert RunConfig.from_flat(config.to_flat(), FIELDS) == config
    text = yaml.safe_dump(config.to_flat(), sort_keys=False)
    assert RunConfig.from_flat(yaml.safe_load(text), FIELDS) == config


@given(trains)
def test_yaml_files_read_what_was_written(tmp_path_factory, train):
    path = tmp_path_factory.mktemp("yaml") / "config.yaml"
    config = RunConfig.from_flat({"family": "vae", "data": "x", **train}, FIELDS)
    path.write_text(yaml.safe_dump(config.to_flat()))
    assert RunConfig.from_flat(read_yaml(path), FIELDS) == config


@pytest.mark.parametrize(
    ("text", "value"), [("1e-4", 1e-4), ("3E-4", 3e-4), ("-1e3", -1000.0), ("1.0e-4", 1e-4), ("5", 5), ("'1e-4'", "1e-4"), ("1e", "1e")]
)
def test_numbers_without_a_point_are_numbers(tmp_path, text, value):
    (tmp_path / "a.yaml").write_text(f"lr: {text}\n")
    found = read_yaml(tmp_path / "a.yaml")["lr"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("key", "right"),
    [("step", "steps"), ("batchsize", "batch_size"), ("windows", "window"), ("modell", "model"), ("optimiser", "optimizer")],
)
def test_an_unknown_key_is_named_with_the_nearest_right_one(key, right):
    with pytest.raises(ConfigError, match=f"unknown key '{key}'; did you mean.* '{right}'"):
        RunConfig.from_flat({"family": "vae", "data": "x", key: 1}, FIELDS)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"lr": 0}, "`lr` of TrainConfig.*greater than 0; got 0"),
        ({"lr": "fast"}, "`lr` of TrainConfig.*valid number; got 'fast'"),
        ({"steps": 2.5}, "`steps` of TrainConfig"),
        ({"betas": [0.9]}, "`betas.1` of TrainConfig.*required"),
        ({"betas": [0.9, 1.0]}, "`betas` must lie in"),
        ({"batch_size": 10, "devices": 2, "accumulate": 3}, "divisible by devices \\* accumulate = 6"),
        ({"data": 3}, "`data` of RunConfig"),
        ({1: 2}, "unknown key 1"),
        ({"seed": 2**63}, "less than 9223372036854775808"),
        ({"lr": float("nan")}, "`lr` of TrainConfig.*finite"),
    ],
)
def test_wrong_values_are_named(value, message):
    with pytest.raises(ConfigError, match=message):
        RunConfig.from_flat({"family": "vae", "data": "x", **value}, FIELDS)


def test_family_and_data_are_required():
    with pytest.raises(ConfigError, match="`data` of RunConfig: field required"):
        RunConfig.from_flat({"family": "vae"}, FIELDS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- a", "must hold a mapping"),
        (b"", "must hold a mapping"),
        (b"a: [1", "is not YAML"),
        (b"\x96\x00\xff", "is not YAML"),
        (b"a: !!python/object/apply:os.getcwd []", "is not YAML"),
        (None, "No such file"),
    ],
)
def test_other_files_are_refused_by_name(tmp_path, content, message):
    path = tmp_path / "some.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=f"some.yaml.*{message}|{message}.*some.yaml") as caught:
        read_yaml(path)
    assert "\n" not in str(caught.value)


def test_every_field_has_its_own_name():
    """Training and data options stand side by side in YAML and on the command line."""
    assert not FIELDS & set(TrainConfig.model_fields)
    assert not (FIELDS | set(TrainConfig.model_fields)) & {"family", "data", "model", "out", "config", "resume", "quiet", "dry_run"}


def test_the_config_of_a_family_needs_no_torch():
    code = "import sys, medgen_autoencoders.config as c; c.VaeConfig(); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0


def test_a_run_of_another_version_still_opens(tmp_path):
    run = Run.begin(tmp_path / "a", RunConfig(family="vae", data="x"))
    run.config_file.write_text(run.config_file.read_text() + "gone_since: 3\n")
    assert Run.open(run.path).config.family == "vae"
