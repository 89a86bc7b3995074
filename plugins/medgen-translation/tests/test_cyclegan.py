"""`cyclegan`: the cycle term on linear generators, the pool over a resumed training, a known map learned without pairs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import medgen
from medgen.data import from_arrays
from medgen.errors import ConfigError
from medgen.interfaces import Batch, Condition, Cycles, Noise, Step
from medgen.training import resume
from medgen.weights import load_tensors
from medgen_translation.cyclegan import CycleGan, cycle_loss
from medgen_translation.networks import ResNet

TINY = {"width": 4, "multipliers": [1, 2], "discriminator_channels": [4, 8], "pool": 6}


def slot(channels, *shape, bounds=(0.0, 1.0)):
    image = medgen.ImageSpec(channels=channels, shape=shape, intensity=medgen.Intensity(range=bounds))
    return medgen.ConditionSpec(name="source", kind="image", image=image)


def test_the_cycle_term_of_linear_generators():
    x, y = torch.randn(5, 2, 7, dtype=torch.float64), torch.randn(5, 2, 7, dtype=torch.float64)
    a, b = torch.randn(2, 2, dtype=torch.float64), torch.randn(2, 2, dtype=torch.float64)

    def by(matrix):
        return lambda z: torch.einsum("oc,bcs->bos", matrix, z)

    terms = cycle_loss(by(a), by(b), x, y, identity=True)
    eye = torch.eye(2, dtype=torch.float64)
    torch.testing.assert_close(terms.cycle, by(b @ a - eye)(x).abs().mean() + by(a @ b - eye)(y).abs().mean())
    torch.testing.assert_close(terms.identity, by(a - eye)(y).abs().mean() + by(b - eye)(x).abs().mean())
    inverse = cycle_loss(by(a), by(torch.linalg.inv(a)), x, y, identity=False)
    assert inverse.cycle < 1e-12
    assert inverse.identity is None
    torch.testing.assert_close(inverse.to_target, by(a)(x))


def test_the_loss_is_the_sum_of_its_terms():
    model = medgen.create("cyclegan", medgen.ImageSpec(channels=1, shape=(8, 8)), [slot(1, 8, 8)], identity=0.5, **TINY).train()
    batch = Batch(torch.rand(4, 1, 8, 8), Condition({"source": torch.rand(4, 1, 8, 8)}), torch.arange(4))
    step = Step(0, 10, Noise(0, torch.arange(4)))
    judges, makers = model.phases()
    values = makers.loss(batch, step)
    with torch.no_grad():
        x, y = (2 * z - 1 for z in (batch.condition.values["source"], batch.x))
        game = 0.0
        for judge, fake in ((model.judge_target, model._to_target(x)), (model.judge_source, model._to_source(y))):
            game = game + (judge(fake).logits[0] - 1).square().mean()  # weight 2 of 1/2 (D - 1)^2
    wanted = game + 10 * values["cycle"] + 0.5 * 10 * values["identity"]
    torch.testing.assert_close(values["loss"].detach(), wanted)
    owned = {id(p) for p in judges.parameters} | {id(p) for p in makers.parameters}
    assert owned == {id(p) for p in model.parameters()}


def test_the_verbs_there_and_back():
    model = medgen.create("cyclegan", medgen.ImageSpec(channels=1, shape=(9, 7)), [slot(3, 9, 7, bounds=(-2.0, 6.0))], **TINY)
    assert isinstance(model, Cycles)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn_like(p))
    x = torch.rand(2, 3, 9, 7) * 8 - 2
    y = model.translate(x)
    assert y.shape == (2, 1, 9, 7)
    assert 0 <= float(y.min()) <= float(y.max()) <= 1
    back = model.cycle(x)
    assert torch.equal(back, model.translate_back(y))
    assert back.shape == x.shape
    assert float(back.min()) < 0  # in units of the source
    with pytest.raises(medgen.errors.DataError, match="`x` must have shape"):
        model.translate_back(x)


def test_identity_needs_equal_channels():
    with pytest.raises(ConfigError, match="as many channels in the source as in the target; got 3 and 1"):
        medgen.create("cyclegan", medgen.ImageSpec(channels=1, shape=(8, 8)), [slot(3, 8, 8)], identity=0.5, **TINY)
    with pytest.raises(ConfigError, match="share of `cycle_weight`"):
        medgen.create("cyclegan", medgen.ImageSpec(channels=1, shape=(8, 8)), [slot(1, 8, 8)], identity=0.5, cycle_weight=0.0, **TINY)
    with pytest.raises(ConfigError, match="from the game alone"):
        medgen.create("cyclegan", medgen.ImageSpec(channels=1, shape=(8, 8)), [slot(1, 8, 8)], adversarial=0.0, **TINY)


@pytest.mark.parametrize("shape", [(5,), (1, 6), (9, 7), (4, 5, 6), (1, 1)], ids=str)
def test_the_resnet_takes_any_size(shape):
    net = ResNet(2, 3, shape, (4, 8), 2)
    out = net(torch.randn(2, 2, *shape))
    assert out.shape == (2, 3, *shape)
    out.square().sum().backward()
    assert all(p.grad is not None for p in net.parameters())


def shuffled(n=24, size=8):
    """Smooth images x, and y = 1 - x of others."""
    rng = np.random.Generator(np.random.Philox(3))
    x = rng.random((n, size, size)).astype(np.float32)
    for axis in (1, 2):
        x = (x + np.roll(x, 1, axis)) / 2
    return from_arrays(1 - x[: n // 2], source_images=x[n // 2 :], window=(0, 1), source_window=(0, 1), split=(1.0, 0.0, 0.0), dim=2)


def test_a_resumed_training_has_the_same_pools(tmp_path, monkeypatch):
    """Weights and pools to the bit, after the pools are full and swap."""
    data, options = shuffled(), {"batch_size": 4, "device": "cpu", "show": False, "seed": 1}
    whole = medgen.train("cyclegan", data, tmp_path / "whole", model=TINY, steps=8, **options)
    wanted = load_tensors(whole.weights_file)
    assert int(wanted["target_pool.count"]) == 6
    learn = CycleGan._discriminate

    def killed(self, batch, step):
        if step.number == 5:
            raise RuntimeError("killed")
        return learn(self, batch, step)

    monkeypatch.setattr(CycleGan, "_discriminate", killed)
    with pytest.raises(RuntimeError, match="killed"):
        medgen.train("cyclegan", data, tmp_path / "part", model=TINY, steps=8, checkpoint_every=4, **options)
    monkeypatch.undo()
    found = load_tensors(resume(tmp_path / "part", data=data, show=False).weights_file)
    assert set(found) == set(wanted)
    for name, value in wanted.items():
        assert torch.equal(found[name], value), name
    other = medgen.train("cyclegan", data, tmp_path / "other", model=TINY, steps=8, **{**options, "seed": 2})
    assert not torch.equal(load_tensors(other.weights_file)["target_pool.images"], wanted["target_pool.images"])


@pytest.mark.slow
def test_a_known_map_is_learned_without_pairs(tmp_path):
    """y = 1 - x of other blobs: what G makes of x that it has not seen is near to the truth; so is the way back."""
    x = blobs(256, 16)
    data = from_arrays(1 - x[:128], source_images=x[128:], window=(0, 1), source_window=(0, 1), split=(1.0, 0.0, 0.0), dim=2)
    model = {
        "network": "resnet", "width": 12, "multipliers": [1, 2], "residual_blocks": 2, "discriminator_channels": [12, 24],
        "generator_lr": 1e-3, "discriminator_lr": 1e-3,
    }  # fmt: skip
    options = {"steps": 400, "batch_size": 8, "schedule": "constant_linear", "warmup": 0, "device": "cpu", "show": False}
    run = medgen.train("cyclegan", data, tmp_path / "r", model=model, **options)
    held = torch.from_numpy(blobs(32, 16, seed=9))[:, None]
    truth = 1 - held
    error = float((run.model.translate(held) - truth).abs().mean())
    back = float((run.model.translate_back(truth) - held).abs().mean())
    assert error < 0.06
    assert back < 0.06


def blobs(n, size, seed=0):
    """A bright disc and a grey one on a dark ground, blurred."""
    rng = np.random.Generator(np.random.Philox(seed))
    grid = np.stack(np.meshgrid(np.arange(size), np.arange(size), indexing="ij"))
    x = np.full((n, size, size), 0.1, np.float32)
    for level in (0.5, 0.9):
        centre, radius = rng.uniform(4, size - 4, (n, 2, 1, 1)), rng.uniform(2, 4, (n, 1, 1))
        inside = 1 / (1 + np.exp(2 * (np.sqrt(((grid - centre) ** 2).sum(1)) - radius)))
        x = x + (level - x) * inside
    return x.astype(np.float32)
