"""`create`, `save`, `load`, and the Python verbs of the README."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

import medgen
from medgen.errors import ConditionError, ConfigError, PluginError, UnknownNameError, WeightsError
from medgen.factory import config_class, select_conditions
from medgen.registry import ConditionSpec, ImageSpec, find_family

SPEC = ImageSpec(channels=1, shape=(8, 8))
LABEL = ConditionSpec(name="label", kind="label", names=("a", "b"))
AGE = ConditionSpec(name="attributes", kind="attributes", names=("age",))
SOURCE = ConditionSpec(name="source", kind="image", image=SPEC)


def bits(model):
    return {name: value.tolist() for name, value in model.state_dict().items()}


@given(st.integers(0, 2**63 - 1))
def test_the_seed_alone_decides_the_initial_weights(seed):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = medgen.create("vae", SPEC, seed=seed, **tiny.MODEL)
    assert torch.equal(torch.random.get_rng_state(), before), "the global RNG is left alone"
    torch.manual_seed(6)
    assert bits(first) == bits(medgen.create("vae", SPEC, seed=seed, **tiny.MODEL))
    assert bits(first) != bits(medgen.create("vae", SPEC, seed=seed ^ 1, **tiny.MODEL))


def test_the_configuration_may_come_as_object_mapping_or_keywords():
    config = config_class(find_family("vae")).parse(tiny.MODEL)
    models = [
        medgen.create("vae", SPEC, config=config),
        medgen.create("vae", SPEC, config=tiny.MODEL),
        medgen.create("vae", SPEC, **tiny.MODEL),
    ]
    assert all(m.config == config for m in models)
    assert bits(models[0]) == bits(models[1]) == bits(models[2])
    assert medgen.create("vae", SPEC, config=config, latent_dim=3).config.latent_dim == 3, "keywords win"
    assert models[0].family == "medgen-autoencoders/vae"


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (("vea", SPEC), {}, UnknownNameError, "did you mean 'vae'"),
        (("vae", SPEC), {"latent_dims": 3}, ConfigError, "did you mean 'latent_dim'"),
        (("vae", SPEC), {"latent_dim": "3"}, ConfigError, "`latent_dim` of VaeConfig"),
        (("vae", SPEC, [LABEL]), {}, ConditionError, r"takes the conditions none; got 'label' \(label\)"),
        (("cvae", SPEC, [SOURCE]), {}, ConditionError, r"got 'source' \(image\)"),
    ],
)
def test_mistakes(arguments, options, error, message):
    with pytest.raises(error, match=message):
        medgen.create(*arguments, **options)


def test_conditions_of_the_data_that_the_family_takes():
    assert select_conditions("vae", [LABEL, AGE]) == ()
    assert select_conditions("cvae", [SOURCE, AGE, LABEL]) == (AGE, LABEL)
    assert select_conditions("cvae", []) == ()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_model_comes_back_bit_equal_in_its_own_precision(tmp_path, dtype):
    model = medgen.create("cvae", SPEC, [LABEL], seed=3, **tiny.MODEL).to(dtype)
    medgen.save(model, tmp_path / "m.safetensors")
    again = medgen.load(tmp_path / "m.safetensors")
    assert again.dtype == dtype
    assert bits(again) == bits(model)
    assert not again.training
    assert (again.config, again.image_spec, again.conditions, again.family) == (model.config, SPEC, (LABEL,), model.family)


def test_a_model_that_nobody_created_is_not_saved(tmp_path):
    model = medgen.create("vae", SPEC, **tiny.MODEL)
    model.family = ""
    with pytest.raises(PluginError, match=r"build it with medgen\.create"):
        medgen.save(model, tmp_path / "m.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_run_folder_loads_and_another_does_not(tmp_path):
    model = medgen.load(tiny.trained())
    assert bits(model) == bits(medgen.load(tiny.trained() / "model.safetensors"))
    with pytest.raises(WeightsError, match="there is no weights file at"):
        medgen.load(tmp_path)


def test_runtime_fields_can_be_given_anew(tmp_path):
    """The same weights, other samples; the file stays as it is, and a copy that is saved remembers."""
    before = tiny.contents(tiny.trained())
    trained, noisy = medgen.load(tiny.trained()), medgen.load(tiny.trained(), sample_noise=True)
    assert bits(noisy) == bits(trained)
    assert noisy.config == trained.config.overridden({"sample_noise": True})
    assert not torch.equal(noisy.sample(4), trained.sample(4))
    assert torch.equal(medgen.open_run(tiny.trained(), sample_noise=True).model.sample(4), noisy.sample(4))
    medgen.save(noisy, tmp_path / "m.safetensors")
    assert medgen.load(tmp_path / "m.safetensors").config.sample_noise
    assert tiny.contents(tiny.trained()) == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"latent_dim": 3}, "`latent_dim` of VaeConfig was fixed by training; what can be overridden: sample_noise"),
        ({"sample_nose": True}, "VaeConfig has no key 'sample_nose'.*did you mean 'sample_noise'"),
        ({"sample_noise": 3}, "`sample_noise` of VaeConfig.*got 3"),
    ],
)
def test_other_fields_are_fixed(overrides, message):
    with pytest.raises(ConfigError, match=message):
        medgen.load(tiny.trained(), **overrides)
    with pytest.raises(ConfigError, match=message):
        _ = medgen.open_run(tiny.trained(), **overrides).model


def test_a_model_trained_in_float64_samples_alike_after_loading(tmp_path):
    run = medgen.train(
        "vae", tiny.PHANTOM, tmp_path / "a", model=tiny.MODEL, steps=2, batch_size=8, precision="float64", device="cpu", show=False
    )
    assert run.model.dtype == torch.float64
    assert run.model.sample(2).dtype == torch.float64


def test_the_python_verbs_of_the_readme(tmp_path, monkeypatch):
    """Word for word what the README shows, with smaller numbers; and each line does what its comment says."""
    readme = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    example = next((block for block in re.findall(r"```python\n(.*?)```", readme, re.DOTALL) if "medgen.train" in block), None)
    assert example is not None, "the README shows the verbs in Python"
    small = example
    quick = {r"\bn=\d+": "n=80", r"\bsize=\d+": "size=16", r"\bsteps=\d+": "steps=2", r"evaluate\(run\)": "evaluate(run, bootstrap=0)"}
    for shown, instead in quick.items():
        small, count = re.subn(shown, instead, small)
        assert count == 1, shown
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(textwrap.dedent(small), "README.md", "exec"), names)
    images, scores, model = names["images"], names["scores"], names["model"]
    assert images.shape == (16, 1, 16, 16)
    assert {s.name for s in scores} >= {"frechet_distance", "mae", "bits_per_dim"}
    assert torch.equal(model.sample(16, noise=0), images), "the loaded model is the trained one"
    assert torch.equal(medgen.open_run("runs/heart").model.sample(16, noise=0), images)
    assert (tmp_path / "runs" / "heart" / "evaluation.json").is_file()
