"""`open_part`: models within models, and what files with parts keep when plugins change."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch

import medgen
from medgen import factory, parts, weights
from medgen.errors import ConfigError, UnknownNameError, WeightsError
from medgen.parts import open_part
from medgen.registry import ConditionSpec, ImageSpec

SPEC = ImageSpec(channels=1, shape=(8, 8))
LABEL = ConditionSpec(name="label", kind="label", names=("a", "b"))
SIZE = {"latent_dim": 2, "channels": [4]}
NET = {"width": 8, "multipliers": [1], "steps": 4}
RENAMES = {
    1: lambda config, tensors: ({k: v for k, v in config.items() if k != "old"}, {k.replace("old.", ""): v for k, v in tensors.items()})
}


@pytest.fixture
def saved(tmp_path):
    model = medgen.create("cvae", SPEC, [LABEL], seed=4, **SIZE)
    medgen.save(model, tmp_path / "model.safetensors", training={"steps": 3})
    return tmp_path, model


@pytest.mark.parametrize("what", ["folder", "file"])
def test_from_a_file_with_its_weights(saved, what):
    folder, model = saved
    part, description = open_part(folder if what == "folder" else folder / "model.safetensors", ImageSpec(channels=3, shape=()))
    assert part.image_spec == SPEC
    assert part.conditions == (LABEL,)
    for name, value in model.state_dict().items():
        assert torch.equal(part.state_dict()[name], value)
    assert not part.training
    assert not any(p.requires_grad for p in part.parameters())
    assert description["training"] == {"steps": 3}
    again, same = open_part(description, ImageSpec(channels=3, shape=()))
    assert same == description
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in part.state_dict().items()}


def test_mistakes(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere"):
        open_part(tmp_path / "nowhere", SPEC)
    with pytest.raises(ConfigError, match="described by its `family`"):
        open_part({"config": {}}, SPEC)
    with pytest.raises(UnknownNameError, match="did you mean"):
        open_part({"family": "va"}, SPEC)
    with pytest.raises(ConfigError, match="latent_dims"):
        open_part({"family": "vae", "config": {"latent_dims": 2}}, SPEC)


@pytest.fixture
def whole(tmp_path):
    stage = {"family": "vae", "config": SIZE}
    model = medgen.create("latent_diffusion", SPEC, first_stage=stage, seed=1, **NET).eval()
    medgen.save(model, tmp_path / "whole.safetensors")
    return tmp_path / "whole.safetensors", model


def test_a_part_is_lifted_with_the_whole(whole, monkeypatch):
    """The part's family renames its parameters: `weights_version` rises, and files of which it is part still load."""
    path, model = whole
    meta, tensors = weights.read(path)
    part = meta["config"]["first_stage"]
    part["config"]["old"] = True
    weights.write(path, {k.replace("first_stage.", "first_stage.old."): v for k, v in tensors.items()}, meta)
    with pytest.raises(WeightsError, match="does not fit"):
        medgen.load(path)
    find, declared = factory.find_family, factory.find_family("vae")
    sys.modules.setdefault("medgen_test_part_renames", type(sys)("medgen_test_part_renames")).RENAMES = RENAMES
    newer = replace(declared, version="9", spec=replace(declared.spec, weights_version=2, migrations="medgen_test_part_renames:RENAMES"))
    for module in (factory, parts):
        monkeypatch.setattr(module, "find_family", lambda name: newer if name.endswith("vae") else find(name))
    again = medgen.load(path)
    assert torch.equal(again.sample(3), model.sample(3))
    assert (again.config.first_stage["weights_version"], again.config.first_stage["version"]) == (2, "9")
    medgen.save(again, path)
    assert torch.equal(medgen.load(path).sample(3), model.sample(3))


def test_a_part_whose_plugin_is_gone(whole, monkeypatch):
    path, _ = whole
    find = factory.find_family

    def gone(name):
        if name.endswith("vae"):
            raise UnknownNameError("no family 'vae'.")
        return find(name)

    monkeypatch.setattr(factory, "find_family", gone)
    with pytest.raises(WeightsError, match="pip install 'medgen-autoencoders=="):
        medgen.load(path)
