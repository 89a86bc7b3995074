"""Sampling in bfloat16: near float32, a choice that no sample has a part in, and nothing that training or a density notices."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from torch import nn

import medgen
from medgen.data import from_arrays
from medgen.errors import ConfigError, RunError
from medgen.interfaces import Batch, Condition, Noise
from medgen.nn import inference
from medgen.registry import ConditionSpec
from medgen.runs import Run, sample_to_folder
from medgen.training import train

LABEL = ConditionSpec(name="label", kind="label", names=("a", "b"))
SPEC = medgen.ImageSpec(channels=1, shape=(12, 12))


def unet(conditions=(), seed=0, **config):
    """Large enough for auto, and not all zeros."""
    torch.manual_seed(seed)
    model = medgen.create("ddpm", SPEC, conditions, **{"width": 16, "multipliers": [1, 2], "sampling_steps": 4, **config}).eval()
    nn.init.normal_(model.network.net.last.weight, std=0.1)
    return model


@pytest.fixture
def fast(monkeypatch):
    """A processor that has bfloat16, whatever this one has."""
    monkeypatch.setattr(inference, "fast_bfloat16", lambda device: True)


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpm_solver"])
@pytest.mark.usefixtures("fast")
def test_auto_is_near_float32(sampler):
    plain, auto = unet(precision="float32", sampler=sampler), unet(sampler=sampler)
    assert (plain.arithmetic(), auto.arithmetic()) == ("float32", "bfloat16")
    exact, found = plain.sample(4), auto.sample(4)
    assert found.dtype == torch.float32
    assert not torch.equal(found, exact)
    torch.testing.assert_close(found, exact, rtol=0, atol=0.02)


def test_float32_is_what_it_was(monkeypatch):
    plain = unet(precision="float32").sample(3)
    monkeypatch.setattr(inference, "fast_bfloat16", lambda device: False)
    assert torch.equal(unet().sample(3), plain)
    model = unet(precision="float32")
    like = torch.zeros(3, 1, 12, 12)
    direct = model._draw(model.network.given(Condition(), like), Noise.of(0, range(3)), None)
    assert torch.equal(model._finished(direct), plain)


@pytest.mark.usefixtures("fast")
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_no_sample_has_a_part_in_the_choice(guidance):
    """Alone, in a batch, first or last, with any seed: the same arithmetic, and the same sample to its rounding."""
    first = unet([LABEL], guidance=guidance)
    condition = Condition({"label": torch.arange(6) % 2})
    noise = Noise.of(3, range(6))
    every = first.sample(6, condition=condition, noise=noise)
    for rows in ([5], [2, 0], [4, 4, 1]):
        other = unet([LABEL], guidance=guidance)  # whose first sample this is
        found = other.sample(len(rows), condition=condition[torch.tensor(rows)], noise=noise[rows])
        assert other.arithmetic() == "bfloat16"
        torch.testing.assert_close(found, every[rows], rtol=0, atol=0.02)
    probes = [tuple(model.network.probe()) for model in (first, unet([LABEL], seed=1))]
    assert all(torch.equal(a, b) for one, two in zip(*probes, strict=True) for a, b in zip(one, two, strict=True))


@pytest.mark.usefixtures("fast")
def test_a_network_that_bfloat16_ruins_stays_in_float32():
    """Features of a thousand, of which the last layer takes differences of one."""
    model = unet()
    assert model.arithmetic() == "bfloat16"
    with torch.no_grad():
        model.network.net.norm.bias.fill_(1000.0)
        weight = model.network.net.last.weight
        weight -= weight.mean(1, keepdim=True)
    assert model.arithmetic() == "float32"
    plain = unet(precision="float32")
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model.sample(2), plain.sample(2))


class Oracle(nn.Module):
    """The exact v of data from N(0, 0.5^2), as weights that can be rounded."""

    def __init__(self, alpha_bar):
        super().__init__()
        a, s = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
        self.gain = nn.Parameter((a * s * (1 - 0.25) / (alpha_bar * 0.25 + 1 - alpha_bar)).float())

    def forward(self, x, t, embedding=None):
        return self.gain[t][:, None] * x


@pytest.mark.parametrize(("sampler", "steps", "sd"), [("ancestral", 250, 0.494), ("ddim", 100, 0.494), ("dpm_solver", 20, 0.51)])
def test_the_distribution_stays(sampler, steps, sd):
    spec = medgen.ImageSpec(channels=2, shape=(), content="features")
    found = {}
    for precision in ("float32", "bfloat16"):
        model = medgen.create("ddpm", spec, width=8, multipliers=[1], precision=precision, sampler=sampler, sampling_steps=steps)
        model.network.net = Oracle(model.chain.alpha_bar)
        assert model.arithmetic() == precision
        found[precision] = model.sample(8000, noise=1, micro_batch=8000)
    assert not torch.equal(found["bfloat16"], found["float32"])
    for x in found.values():
        assert x.mean().item() == pytest.approx(0.0, abs=0.02)
        assert x.std().item() == pytest.approx(sd, abs=0.015)
    assert found["bfloat16"].std().item() == pytest.approx(found["float32"].std().item(), rel=0.005)


@pytest.mark.usefixtures("fast")
def test_densities_and_training_do_not_notice():
    models = {precision: unet(precision=precision) for precision in ("float32", "bfloat16", "auto")}
    x = Noise.of(2, range(3)).uniform(1, 12, 12)
    found = {}
    for precision, model in models.items():
        model.sample(2)  # makes the copy
        model.train()
        torch.manual_seed(0)
        loss = model._loss(model.select(Batch(x, Condition(), torch.arange(3))), step_of(3))["loss"]
        (model.log_prob(x).sum() + loss).backward()
        assert all(p.dtype == torch.float32 for p in model.parameters())
        found[precision] = [model.log_prob(x).detach(), *(p.grad for p in model.parameters())]
        assert set(model.state_dict()) == set(models["float32"].state_dict())
    for a, b, c in zip(*found.values(), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def step_of(n):
    return medgen.interfaces.Step(0, 100, Noise.of(100, range(n)))


def test_filling_in():
    x, mask = torch.full((5, 1, 12, 12), 0.25), torch.zeros(5, 1, 12, 12, dtype=torch.bool)
    mask[..., :6] = True
    found, plain = (unet(precision=precision).inpaint(x, mask) for precision in ("bfloat16", "float32"))
    assert bool((found[mask] == 0.25).all())
    assert not torch.equal(found, plain)
    torch.testing.assert_close(found, plain, rtol=0, atol=0.02)


def test_the_memory_budget_knows():
    """In bfloat16 more samples fit."""
    half, full = (unet(precision=precision, sampling_memory=0.002) for precision in ("bfloat16", "float32"))
    fitting = [model._fitting(1000, Condition(), Noise.of(0, [0])) for model in (half, full)]
    assert 1.4 * fitting[1] < fitting[0] < 1000


def test_a_folder_of_samples_says_how_they_were_computed(tmp_path):
    generator = np.random.default_rng(0)
    pictures = generator.random((32, 8, 8), dtype=np.float32)
    train("ddpm", from_arrays(pictures), tmp_path / "run", model={"width": 8, "steps": 30}, steps=2, batch_size=16, show=False)
    for precision in ("float32", "bfloat16"):
        run = Run.open(tmp_path / "run", precision=precision, sampling_steps=2)
        sample_to_folder(run, tmp_path / precision, 2)
        assert json.loads((tmp_path / precision / "samples.json").read_text())["arithmetic"] == precision
    manifest = tmp_path / "bfloat16" / "samples.json"
    manifest.write_text(manifest.read_text().replace('"arithmetic": "bfloat16"', '"arithmetic": "float32"'))
    with pytest.raises(RunError, match=r"another arithmetic \(float32, not bfloat16\)"):
        sample_to_folder(run, tmp_path / "bfloat16", 3)


def test_what_there_is_not():
    with pytest.raises(ConfigError, match="float16"):
        unet(precision="float16")
