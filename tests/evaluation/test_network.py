"""Users' extractors: files and callables, with the input they expect."""

from __future__ import annotations

import sys
import types
import warnings

import pytest
import torch
from torch import nn

from medgen.errors import ConfigError, DataError, PluginError
from medgen.evaluation import evaluate_sets, load_extractor
from medgen.evaluation.features import Identity, RandomConv
from medgen.evaluation.network import Network


class Means(nn.Module):
    """[B, C, H, W] -> [B, C]."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


@pytest.fixture
def script(tmp_path):
    path = tmp_path / "means.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(Means()), str(path))
    return path


@pytest.fixture
def module(monkeypatch):
    found = types.ModuleType("user_nets")
    monkeypatch.setitem(sys.modules, "user_nets", found)
    return found


REAL = torch.linspace(0, 1, 6 * 64).view(6, 1, 8, 8)


def test_a_torchscript_file_sees_its_range_channels_and_size(script):
    net = load_extractor(f"{script}?channels=3&range=-1,1&size=4,4", REAL)
    assert net.dim == 3
    assert torch.allclose(net(REAL, (0.0, 1.0)), (2 * REAL - 1).mean((2, 3)).expand(-1, 3), atol=1e-6)
    assert net.name == "means.pt"
    assert {k: net.recipe[k] for k in ("input range", "input channels", "input size")} == {
        "input range": [-1.0, 1.0],
        "input channels": 3,
        "input size": [4, 4],
    }
    assert len(net.recipe["sha256"]) == 16


def test_an_exported_program(tmp_path):
    batch = torch.export.Dim("batch")
    program = torch.export.export(Means(), (torch.zeros(2, 1, 8, 8),), dynamic_shapes={"x": {0: batch}})
    torch.export.save(program, tmp_path / "means.pt2")
    net = load_extractor(str(tmp_path / "means.pt2"), REAL)
    assert torch.allclose(net(REAL, (0.0, 1.0)), REAL.mean((2, 3)))


def test_the_recipe_of_a_score_names_the_file_and_its_hash(script):
    score = evaluate_sets(REAL, REAL, value_range=(0, 1), metrics=["kid"], extractor=f"{script}?range=0,255", bootstrap=0)[0]
    assert score.recipe["extractor"] == "means.pt"
    assert score.recipe["input range"] == [0.0, 255.0]
    assert "sha256" in score.recipe


def test_a_callable_with_its_own_attributes(module):
    def embed(x):
        return x.flatten(1).mean(1, keepdim=True)

    embed.range, embed.channels = (0, 255), 3
    module.embed = embed
    net = load_extractor("user_nets:embed", REAL)
    assert torch.allclose(net(REAL, (0.0, 1.0)), 255 * REAL.mean((1, 2, 3))[:, None])
    assert torch.allclose(load_extractor("user_nets:embed?range=0,1", REAL)(REAL, (0.0, 1.0)), REAL.mean((1, 2, 3))[:, None])


def test_a_class_that_is_an_extractor_is_used_as_it_is(module):
    class Mine:
        name, dim, recipe = "mine-v1", 1, {"layer": 3}

        def __call__(self, x, value_range):
            return x.flatten(1)[:, :1]

    module.Mine = Mine
    net = load_extractor("user_nets:Mine", REAL)
    assert isinstance(net, Mine)


def test_the_shipped_ones():
    assert isinstance(load_extractor("medgen-random-conv-v1", REAL), RandomConv)
    assert isinstance(load_extractor("medgen-random-conv-v1", torch.zeros(4, 3)), Identity)
    assert isinstance(load_extractor("medgen-identity-v1", REAL), Identity)


def test_a_state_dict_is_refused_with_the_way_out(tmp_path):
    torch.save({"weight": torch.zeros(2)}, tmp_path / "weights.pth")
    with pytest.raises(ConfigError, match=r"state dict has no network.*torch\.export"):
        load_extractor(str(tmp_path / "weights.pth"), REAL)


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("nowhere.pt", ConfigError, "does not exist"),
        ("inception", ConfigError, "medgen-random-conv-v1"),
        ("medgen-random-conv-v1?size=3", ConfigError, "takes no options"),
        ("no_such_package:net", PluginError, "cannot be imported"),
        ("user_nets:embed?chanels=3", ConfigError, "did you mean 'channels'"),
        ("user_nets:embed?range=a,b", ConfigError, "numbers separated by commas"),
        ("user_nets:embed?range=1", ConfigError, "two numbers"),
        ("user_nets:wrong", DataError, r"must return a tensor \[2, ...\]; got tuple"),
        ("user_nets:broken", DataError, "failed on input of shape .*boom"),
    ],
)
def test_what_cannot_be_had_is_refused(module, text, error, words):
    module.embed = lambda x: x.flatten(1)
    module.wrong = lambda x: (x, x)

    def broken(x):
        raise RuntimeError("boom")

    module.broken = broken
    with pytest.raises(error, match=words):
        load_extractor(text, REAL)


def test_channels_are_repeated_from_one_only():
    with pytest.raises(DataError, match="takes 3 channels; got 2"):
        Network("n", lambda x: x.flatten(1), torch.zeros(1, 2, 4), {"channels": "3"})
