"""`medgen show`: text, YAML that trains as it stands, JSON, schema."""

from __future__ import annotations

import json
import math

import fakes
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from medgen.cli.show import _scalar
from medgen.registry import get_host
from medgen.registry.config import Config
from medgen.registry.names import families
from medgen.registry.resolve import resolve

PLUGIN = """\
import medgen

@medgen.hookimpl
def medgen_families():
    can = medgen.Capabilities(
        spatial_dims=(1, 2), conditions=(medgen.ConditionSlot(name="label", kind="label", required=True),), value_range=(-1.0, 1.0)
    )
    paper = medgen.Reference(title="A paper", authors="A. Author", year=2020, url="https://example.org")
    yield medgen.FamilySpec(
        name="shown", interfaces=("generator",), model="fake_show.model:M", config="fake_show.deep:Deep", capabilities=can,
        summary="For the test: a colon, a # and 'quotes'.", references=(paper,), aliases=("alias",),
    )
    yield medgen.FamilySpec(name="broken", interfaces=("generator",), model="fake_show.model:M", config="fake_show.nowhere:Deep")
    yield medgen.FamilySpec(name="foreign", interfaces=("generator",), model="fake_show.model:M", config="math:pi")

@medgen.hookimpl
def medgen_datasets():
    yield medgen.DatasetSpec(name="fake_hearts", factory="a:b", summary="Phantoms.", options={"size": (64, "Pixels along each side.")})

@medgen.hookimpl
def medgen_metrics():
    yield medgen.MetricSpec(name="fake_psnr", function="a:b", kind="paired", better="higher", summary="Peak signal-to-noise ratio.")
"""

DEEP = """\
from typing import Literal
from pydantic import Field
import medgen

class Net(medgen.Config):
    width: int = Field(8, ge=1, description="Features.")

class Deep(medgen.Config):
    classes: int = Field(ge=2, description="Number of classes.")
    rate: float = Field(1e-05, gt=0, description="Step of the solver.")
    act: Literal["relu", "silu"] = Field("silu", description="Activation: see the paper.")
    channels: tuple[int, ...] = Field((8, 16), description="Features at each level.")
    sd: float | None = Field(None, description="None learns it.")
    warmth: float = medgen.runtime_field(1.0, gt=0, description="Factor on the noise.")
    net: Net = Field(Net(), description="The network.")
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return fakes.Site(tmp_path_factory.mktemp("site")).add("fake-show", PLUGIN, deep=DEEP)


@pytest.mark.parametrize("name", ["shown", "alias", "fake-show/shown"])
def test_family(site, name):
    done = site.medgen("show", name)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == "shown: family of fake-show 1.0"
    for line in (
        "spatial dims     1, 2",
        "conditions       label (label, required)",
        "value range      -1 to 1",
        "aliases          alias",
        "  A paper (A. Author, 2020) | https://example.org",
    ):
        assert line in lines
    fields = {line.split()[0]: line for line in lines[lines.index("Configuration (`medgen train shown --model.NAME VALUE`):") + 2 :]}
    assert list(fields) == ["classes", "rate", "act", "channels", "sd", "warmth", "net.width", "*"]
    assert fields["warmth"].split() == ["warmth", "float", "1.0", ">", "0", "Factor", "on", "the", "noise.", "*"]
    assert fields["classes"].split() == ["classes", "int", "required", ">=", "2", "Number", "of", "classes."]


def test_yaml_is_the_defaults(site):
    text = site.medgen("show", "shown", "--yaml").stdout
    assert yaml.safe_load(text)["family"] == "shown"
    values = yaml.safe_load(text)["model"]
    assert values == {"classes": None, "rate": 1e-05, "act": "silu", "channels": [8, 16], "sd": None, "warmth": 1.0, "net": {"width": 8}}
    assert "  # float, > 0, also after training" in text.splitlines()
    assert "  # Activation: see the paper." in text.splitlines()
    assert "  classes:  # required: fill in" in text.splitlines()
    assert text.startswith("# shown of fake-show 1.0: For the test")


def test_schema(site):
    schema = json.loads(site.medgen("show", "shown", "--schema").stdout)
    assert schema["required"] == ["classes"]
    assert schema["properties"]["rate"]["exclusiveMinimum"] == 0


def test_json(site):
    shown = json.loads(site.medgen("show", "shown", "--json").stdout)
    assert (shown["kind"], shown["distribution"], shown["references"][0]["year"]) == ("family", "fake-show", 2020)
    assert shown["config_fields"][-1] == {
        "name": "net.width",
        "type": "int",
        "default": "8",
        "limits": ">= 1",
        "description": "Features.",
        "runtime": False,
    }


def test_dataset(site):
    lines = site.medgen("show", "fake_hearts").stdout.splitlines()
    assert lines[:2] == ["fake_hearts: dataset of fake-show 1.0", "Phantoms."]
    assert "size  64       Pixels along each side." in lines
    assert json.loads(site.medgen("show", "fake_hearts", "--json").stdout)["kind"] == "dataset"


def test_metric(site):
    lines = site.medgen("show", "fake_psnr").stdout.splitlines()
    assert lines[0] == "fake_psnr: metric of fake-show 1.0"
    assert "compares  images with their references" in lines
    assert "better    higher" in lines


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["show"], 2, "the following arguments are required: name"),
        (["show", "shwon"], 2, "no family, dataset or metric is called 'shwon'; did you mean 'shown'?"),
        (["show", "fake_heart"], 2, "did you mean 'fake_hearts'"),
        (["show", "fake_psnr", "--yaml"], 2, "only families have a configuration; got the metric 'fake_psnr'."),
        (["show", "broken"], 3, "family 'broken' of fake-show 1.0 declares 'fake_show.nowhere:Deep', which cannot be imported"),
        (["show", "foreign"], 3, "must declare a sub-class of medgen.Config as `config`; got 3.14"),
    ],
)
def test_errors(site, words, code, message):
    done = site.medgen(*words)
    assert done.returncode == code
    assert message in done.stderr.splitlines()[-1]


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3),
    max_leaves=6,
)


@given(VALUES)
def test_every_value_survives_yaml(value):
    loaded = yaml.safe_load(_scalar(value))
    assert json.dumps(loaded) == json.dumps(value)
    if isinstance(value, float):
        assert isinstance(loaded, float)
        assert math.copysign(1, loaded) == math.copysign(1, value)


@pytest.mark.parametrize("item", families(), ids=lambda item: item.qualified)
def test_every_installed_family_can_be_shown(item, capsys):
    from medgen.cli.show import run

    config = resolve(item.spec.config, owner=item.owner)
    assert issubclass(config, Config)
    assert run([item.qualified, "--yaml"]) == 0
    values = yaml.safe_load(capsys.readouterr().out)["model"] or {}
    required = {name for name, field in config.model_fields.items() if field.is_required()}
    if not required:
        assert config.parse(values) == config.parse()
    assert run([item.qualified]) == 0
    text = capsys.readouterr().out
    assert all(row.description in text for row in config.rows())


@pytest.mark.parametrize("hook", ["medgen_datasets", "medgen_metrics"])
def test_every_installed_dataset_and_metric_can_be_shown(hook, capsys):
    from medgen.cli.show import run

    for item in get_host().items(hook):
        assert run([item.qualified]) == 0
        assert item.spec.summary in capsys.readouterr().out
