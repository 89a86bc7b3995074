"""Configs: what is rejected and how; what survives JSON; what the tables show."""

from __future__ import annotations

import json
import math
from typing import Literal

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field

from medgen.errors import ConfigError
from medgen.registry.config import Config, FieldRow, runtime_field


class Net(Config):
    width: int = Field(32, ge=1, le=4096, description="Features of the first level.")
    act: Literal["relu", "silu"] = Field("silu", description="Activation.")


class Sample(Config):
    latent_dim: int = Field(ge=1, le=512, description="Size of the latent vector.")
    beta: float = Field(1.0, gt=0, lt=100, description="Weight of the KL term.")
    learn_sd: bool = Field(False, description="Learn the noise.")
    title: str = Field("", max_length=40, description="Free text.")
    likelihood: Literal["gaussian", "bernoulli"] = Field("gaussian", description="p(x|z).")
    channels: tuple[int, ...] = Field((32, 64), min_length=1, description="Features at each level.")
    window: tuple[float, float] = Field((0.0, 1.0), description="Interval.")
    noise_sd: float | None = Field(None, gt=0, description="None learns it.")
    net: Net = Field(Net(), description="The network.")
    heads: tuple[Net, ...] = Field((), description="More networks.")


NETS = st.builds(Net, width=st.integers(1, 4096), act=st.sampled_from(["relu", "silu"]))
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SAMPLES = st.builds(
    Sample,
    latent_dim=st.integers(1, 512),
    beta=st.floats(0, 100, exclude_min=True, exclude_max=True),
    learn_sd=st.booleans(),
    title=st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    likelihood=st.sampled_from(["gaussian", "bernoulli"]),
    channels=st.lists(st.integers(), min_size=1, max_size=4).map(tuple),
    window=st.tuples(FLOATS, FLOATS),
    noise_sd=st.none() | st.floats(0, exclude_min=True, allow_infinity=False),
    net=NETS,
    heads=st.lists(NETS, max_size=2).map(tuple),
)


@given(SAMPLES)
def test_json_round_trip(config):
    assert Sample.parse(config.to_json()) == config
    assert Sample.parse(json.loads(json.dumps(config.to_json()))) == config


@pytest.mark.parametrize(
    ("values", "parts"),
    [
        ({"latent_dims": 3}, ["Sample has no key 'latent_dims' (got 3)", "did you mean 'latent_dim'?"]),
        ({"net": {"widht": 8}}, ["Sample has no key 'net.widht' (got 8)", "did you mean 'width'?"]),
        ({"heads": [{}, {"atc": "relu"}]}, ["Sample has no key 'heads.1.atc' (got 'relu')", "did you mean 'act'?"]),
        ({"latent_dim": "16"}, ["`latent_dim` of Sample", "valid integer", "got '16'"]),
        ({"latent_dim": 1.5}, ["`latent_dim` of Sample", "got 1.5"]),
        ({"latent_dim": True}, ["`latent_dim` of Sample", "valid integer", "got True"]),
        ({"latent_dim": None}, ["`latent_dim` of Sample", "got None"]),
        ({"latent_dim": 0}, ["`latent_dim` of Sample", "greater than or equal to 1", "got 0"]),
        ({"latent_dim": 513}, ["less than or equal to 512", "got 513"]),
        ({"beta": 0}, ["`beta` of Sample", "greater than 0", "got 0"]),
        ({"beta": math.nan}, ["`beta` of Sample", "finite", "got nan"]),
        ({"beta": math.inf}, ["`beta` of Sample", "finite", "got inf"]),
        ({"window": [0, -math.inf]}, ["`window.1` of Sample", "finite", "got -inf"]),
        ({"beta": "1e-3"}, ["`beta` of Sample", "valid number", "got '1e-3'"]),
        ({"learn_sd": 1}, ["`learn_sd` of Sample", "valid boolean", "got 1"]),
        ({"learn_sd": "yes"}, ["`learn_sd` of Sample", "got 'yes'"]),
        ({"title": 3}, ["`title` of Sample", "valid string", "got 3"]),
        ({"likelihood": "gausian"}, ["`likelihood` of Sample", "'gaussian' or 'bernoulli'", "got 'gausian'"]),
        ({"channels": []}, ["`channels` of Sample", "at least 1 item", "got []"]),
        ({"channels": [8, "16"]}, ["`channels.1` of Sample", "got '16'"]),
        ({"channels": 8}, ["`channels` of Sample", "got 8"]),
        ({"window": [0.0]}, ["`window.1` of Sample", "required"]),
        ({"net": {"width": 0}}, ["`net.width` of Sample", "greater than or equal to 1", "got 0"]),
        ({"net": 3}, ["`net` of Sample", "got 3"]),
        ({"title": {1, 2}}, ["plain values", "got"]),
    ],
)
def test_rejected_with_key_value_and_hint(values, parts):
    with pytest.raises(ConfigError) as error:
        Sample.parse({"latent_dim": 4, **values})
    for part in parts:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_every_mistake_is_named_at_once():
    with pytest.raises(ConfigError, match=r"`latent_dim` of Sample: field required.*`beta` of Sample.*no key 'x'"):
        Sample.parse({"beta": -1.0, "x": 1})


def test_values_that_yaml_and_the_command_line_give():
    config = Sample.parse({"latent_dim": 4}, channels=[8, 16], beta=2, net={"act": "relu"}, noise_sd=None)
    assert (config.channels, config.beta, config.net) == ((8, 16), 2.0, Net(act="relu"))
    assert isinstance(config.beta, float)


def test_a_config_without_fields_says_so():
    class Empty(Config):
        pass

    assert Empty.parse() == Empty()
    assert list(Empty.rows()) == []
    with pytest.raises(ConfigError, match=r"Empty has no key 'x' \(got 1\); it has no keys"):
        Empty.parse(x=1)


def test_frozen():
    with pytest.raises(pydantic.ValidationError, match="frozen"):
        Net().width = 3


def test_python_construction_is_as_strict():
    for bad in ({"width": "8"}, {"width": 0}, {"wdith": 8}):
        with pytest.raises(pydantic.ValidationError):
            Net(**bad)
    with pytest.raises(pydantic.ValidationError, match="finite"):
        Sample(latent_dim=1, beta=math.nan)


@pytest.mark.parametrize("description", [None, "", "two\nlines"])
def test_each_field_has_a_description_of_one_line(description):
    with pytest.raises(TypeError, match="field 'x' of Bad must have a one-line description"):
        type("Bad", (Config,), {"__annotations__": {"x": int}, "__module__": __name__, "x": Field(1, description=description)})


def test_a_wrong_default_is_an_error():
    class Wrong(Config):
        x: int = Field(0, ge=1, description="Positive.")

    with pytest.raises(ConfigError, match="`x` of Wrong"):
        Wrong.parse()


def test_json_schema():
    schema = Sample.json_schema()
    assert schema["additionalProperties"] is False
    assert schema["required"] == ["latent_dim"]
    assert schema["properties"]["latent_dim"] == {
        "description": "Size of the latent vector.",
        "maximum": 512,
        "minimum": 1,
        "title": "Latent Dim",
        "type": "integer",
    }
    json.dumps(schema)


def test_rows():
    rows = {row.name: row for row in Sample.rows()}
    assert rows["latent_dim"] == FieldRow("latent_dim", "int", "required", ">= 1, <= 512", "Size of the latent vector.")
    assert rows["beta"] == FieldRow("beta", "float", "1.0", "> 0, < 100", "Weight of the KL term.")
    assert rows["likelihood"].type == "'gaussian' | 'bernoulli'"
    assert (rows["channels"].type, rows["channels"].limits) == ("tuple[int, ...]", "length >= 1")
    assert (rows["noise_sd"].type, rows["noise_sd"].limits) == ("float | None", "> 0")
    assert rows["net.width"] == FieldRow("net.width", "int", "32", ">= 1, <= 4096", "Features of the first level.")
    assert "net" not in rows


# what can be given anew after training --------------------------------------------------------------------------------------------------


class Solver(Config):
    steps: int = runtime_field(10, ge=1, description="Steps.")
    order: int = Field(2, ge=1, description="Order that the network was trained for.")


class Runtime(Config):
    width: int = Field(8, description="Features.")
    warmth: float = runtime_field(1.0, gt=0, le=2, description="Factor on the noise.")
    solver: Solver = Field(Solver(), description="The solver.")
    final: Solver = runtime_field(Solver(), description="Another, whose every field may change.")
    weights: dict[str, float] = runtime_field({}, description="By name.")


def test_runtime_fields_are_told_apart():
    runtime = {row.name for row in Runtime.rows() if row.runtime}
    assert runtime == {"warmth", "solver.steps", "final.steps", "final.order", "weights"}
    assert Runtime(warmth=0.5).runtime_values() == {"warmth": 0.5, "solver.steps": 10, "final.steps": 10, "final.order": 2, "weights": {}}
    assert Sample(latent_dim=1).runtime_values() == {}


@pytest.mark.parametrize("values", [{"solver": {"steps": 3}, "final": {"order": 1}}, {"solver.steps": 3, "final.order": 1}])
def test_overrides_reach_nested_fields_and_leave_the_rest(values):
    trained = Runtime(width=3, warmth=0.5, solver=Solver(order=4))
    assert trained.overridden({**values, "weights": {"a": 1.0}}) == Runtime(
        width=3, warmth=0.5, solver=Solver(order=4, steps=3), final=Solver(order=1), weights={"a": 1.0}
    )
    assert trained.overridden({}) == trained


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"width": 9}, "`width` of Runtime was fixed by training; what can be overridden: warmth, solver.steps, final.steps"),
        ({"solver": {"order": 1}}, r"`solver\.order` of Runtime was fixed by training"),
        ({"warmht": 1.0}, r"Runtime has no key 'warmht' \(got 1\.0\); did you mean 'warmth'"),
        ({"solver": {"stpes": 1}}, r"no key 'solver\.stpes'"),
        ({"solver": 3}, "no key 'solver'"),
        ({"warmth": 3}, "`warmth` of Runtime: .*less than or equal to 2; got 3"),
        ({"warmth": "hot"}, "`warmth` of Runtime: .*got 'hot'"),
    ],
)
def test_overrides_that_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        Runtime().overridden(values)


def test_a_config_without_runtime_fields_says_so():
    with pytest.raises(ConfigError, match="`width` of Net was fixed by training; what can be overridden: nothing"):
        Net().overridden({"width": 3})
