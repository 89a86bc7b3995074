"""`ddpm`: its losses, and its training from start to file."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ddpm_models import LABEL, TINY, batch_of, random_model, step_of
from diffusion_oracles import exact

import medgen
from medgen.data import from_arrays, to_stored
from medgen.errors import ConfigError
from medgen.interfaces import Batch, Noise
from medgen.training import resume, train
from medgen.training.loop import Loop


@pytest.mark.parametrize("dim", [0, 2])
def test_the_hybrid_loss_leaves_the_mean_alone(dim):
    """Its part of the bound has no gradient in the mean's half of the last layer, beside that of the squared error."""
    model, bound_only = (random_model(dim, variance="learned", loss=loss).train() for loss in ("hybrid", "vlb"))
    batch, step = batch_of(model, 8), step_of(8)
    losses = model._loss(batch, step)
    losses["loss"].backward()
    last = model.network.net.last.weight
    half = len(last) // 2
    hybrid = last.grad.clone()
    mean = squared(model, batch, step)
    (of_mean,) = torch.autograd.grad(mean, last)
    torch.testing.assert_close(hybrid[:half], of_mean[:half])
    assert hybrid[half:].abs().min() > 0
    assert losses["loss"].item() == pytest.approx(losses["mse"].item() + 1e-3 * losses["bits_per_dim"].item(), rel=1e-5)
    bound_only._loss(batch, step)["loss"].backward()
    assert not torch.allclose(bound_only.network.net.last.weight.grad[:half], of_mean[:half])


def squared(model, batch, step):
    """The simple loss, anew."""
    chain, x0 = model.chain, model.scaling(batch.x)
    t = step.noise.integers(len(chain), stream=0)
    eps = step.noise.normal(*x0.shape[1:], stream=1)
    at = chain.alpha_bar[t].float().view(-1, *[1] * (x0.dim() - 1))
    x = at.sqrt() * x0 + (1 - at).sqrt() * eps
    output, _ = model.network.net(x, t, model.network.embedding(batch.condition, len(x0))).chunk(2, 1)
    return (output - (at.sqrt() * eps - (1 - at).sqrt() * x0)).square().mean()


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_the_exact_denoiser_has_the_least_loss(prediction):
    """E ||target - output||^2 of N(m, s^2) data: known for the exact denoiser, and more for one that is off."""
    model = exact(steps=50, schedule="linear", prediction=prediction).train()
    n = 20_000
    x = 0.3 + 0.5 * Noise.of(1, range(n)).normal(2, dtype=torch.float64)
    right = model._loss(Batch(x), step_of(n))["loss"]
    at = model.chain.alpha_bar
    left = 0.25 * (1 - at) / (at * 0.25 + 1 - at)  # Var[x_0 | x_t]
    scale = {"eps": at / (1 - at), "x0": torch.ones_like(at), "v": 1 / (1 - at)}[prediction]
    assert right.item() == pytest.approx((left * scale).mean().item(), rel=0.05)
    for mean, sd in ((0.5, 0.5), (0.3, 0.7)):
        other = exact(steps=50, schedule="linear", prediction=prediction, mean=mean, sd=sd).train()
        assert other._loss(Batch(x), step_of(n))["loss"] > right


def test_checkpointing_changes_no_gradient_in_3d():
    found = []
    for checkpointing in (False, True):
        model = random_model(3, [LABEL], checkpointing=checkpointing, dropout=0.2).train()
        torch.manual_seed(3)
        model._loss(batch_of(model, 4), step_of(4))["loss"].backward()
        found.append([p.grad for p in model.parameters()])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("loss", ["auto", "vlb"])
def test_the_loss_compiles(loss):
    model = random_model(2, [LABEL], variance="learned", loss=loss, time_sampling="importance").train()
    batch, step = batch_of(model, 4), step_of(4)
    torch._dynamo.reset()
    compiled = torch.compile(model._loss, backend="eager", fullgraph=True)(batch, step)
    torch._dynamo.reset()
    for name, value in model._loss(batch, step).items():
        torch.testing.assert_close(compiled[name], value)
    model.times.learn()
    assert int(model.times.seen.sum()) == 8  # of both calls


def pictures(n=64, size=8):
    return np.random.default_rng(0).random((n, size, size), dtype=np.float32)


def test_trains_and_comes_back(tmp_path):
    config = {"width": 8, "multipliers": [1, 2], "steps": 30, "variance": "learned", "time_sampling": "importance"}
    run = train("ddpm", from_arrays(pictures()), tmp_path / "run", model=config, steps=12, batch_size=16, ema=0.9, show=False)
    names = {row["name"] for row in run.metrics()}
    assert names >= {"loss", "mse", "bits_per_dim"}
    model = medgen.load(tmp_path / "run", sampler="dpm_solver", sampling_steps=5)
    assert model.config.sampler == "dpm_solver"
    assert int(model.times.seen.sum()) == 12 * 16
    assert torch.equal(model.sample(2), medgen.load(tmp_path / "run", sampler="dpm_solver", sampling_steps=5).sample(2))
    with pytest.raises(ConfigError, match="fixed by training"):
        medgen.load(tmp_path / "run", schedule="linear")


def test_resume_with_importance_is_bit_equal(tmp_path, monkeypatch):
    """The losses that the times are drawn by come back with the rest."""
    config = {"width": 8, "multipliers": [1], "steps": 3, "time_sampling": "importance"}
    options = {"model": config, "steps": 12, "batch_size": 16, "accumulate": 2, "show": False}
    data, step = from_arrays(pictures()), Loop._step
    whole = train("ddpm", data, tmp_path / "whole", **options)

    def interrupted(self, batches):
        if self.position.step == 9:
            raise OSError("power cut")
        return step(self, batches)

    monkeypatch.setattr(Loop, "_step", interrupted)
    with pytest.raises(OSError, match="power cut"):
        train("ddpm", data, tmp_path / "cut", checkpoint_every=4, **options)
    monkeypatch.setattr(Loop, "_step", step)
    again = resume(tmp_path / "cut", data=data, show=False).model.state_dict()
    assert not torch.equal(again["times.losses"], torch.zeros_like(again["times.losses"]))
    for name, value in whole.model.state_dict().items():
        assert torch.equal(again[name], value), name


def test_half_precision(tmp_path):
    run = train("ddpm", from_arrays(pictures()), tmp_path / "run", model=TINY, steps=4, batch_size=16, precision="bfloat16", show=False)
    model = run.model
    full = model.sample(4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = model.sample(4)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, full, rtol=0.1, atol=0.1)


@pytest.mark.slow
def test_two_modes(tmp_path):
    """Two Gaussians of weights 0.3 and 0.7 in the plane."""
    generator = np.random.default_rng(0)
    first = generator.random(4000) < 0.3
    centres = np.where(first[:, None], [[-2.0, 1.0]], [[2.0, -1.0]])
    table = (centres + 0.3 * generator.standard_normal((4000, 2))).astype(np.float32)
    run = train(
        "ddpm",
        from_arrays(table),
        tmp_path / "run",
        model={"width": 64, "multipliers": [1], "blocks": 3, "steps": 200},
        steps=1500,
        batch_size=256,
        lr=2e-3,
        ema=0.99,
        show=False,
    )
    model = run.model
    for sampler in ("ancestral", "ddim", "dpm_solver"):
        found = medgen.load(tmp_path / "run", sampler=sampler).sample(4000, micro_batch=4000)
        stored = torch.from_numpy(to_stored(found, model.image_spec)).float()
        left = stored[:, 0] < 0
        assert left.float().mean().item() == pytest.approx(0.3, abs=0.05)
        for mask, centre in ((left, (-2.0, 1.0)), (~left, (2.0, -1.0))):
            assert stored[mask].mean(0).tolist() == pytest.approx(centre, abs=0.1)
            assert stored[mask].std(0).tolist() == pytest.approx((0.3, 0.3), abs=0.08)
    assert math.isfinite(model.log_prob(found[:100]).mean().item())
