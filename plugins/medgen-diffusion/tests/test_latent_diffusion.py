"""`latent_diffusion`: the first stage within it, the scale of the latents, conditions, files that stand alone, training."""

from __future__ import annotations

import shutil

import latent_stages
import numpy as np
import pytest
import torch

import medgen
from medgen.data import from_arrays, to_stored
from medgen.errors import ConfigError, MedgenError, WeightsError
from medgen.interfaces import Batch, Condition, Noise, Step
from medgen.nn import PeakMemory
from medgen.registry import ConditionSpec, Intensity
from medgen.testing.subject import perturb
from medgen.training import resume, train
from medgen.training.loop import Loop

IMAGE = medgen.ImageSpec(channels=1, shape=(8, 8))
LABEL = ConditionSpec(name="label", kind="label", names=("a", "b"))
MASK = ConditionSpec(name="mask", kind="image", image=medgen.ImageSpec(channels=1, shape=(8, 8)))
VAE = {"family": "vae", "config": {"latent_dim": 3, "channels": [8, 8]}}
BLOCKS = {"family": "blocks"}
TINY = {"width": 8, "multipliers": [1, 2], "steps": 6}


def model_of(stage=VAE, spec=IMAGE, conditions=(), **config):
    return medgen.create("latent_diffusion", spec, conditions, first_stage=stage, **{**TINY, **config}).eval()


def saved(path, family="vae", spec=IMAGE, conditions=(), **config):
    stage = medgen.create(family, spec, conditions, seed=3, **config)
    perturb(stage)
    medgen.save(stage, path, data={"source": "x.npz", "fingerprint": "abc"}, training={"steps": 7})
    return stage


def batches(x, condition=None, size=16):
    return lambda: (Batch(x[k : k + size], (condition or Condition())[k : k + size]) for k in range(0, len(x), size))


# ----------------------------------------------------------------------------------------------- the first stage


def test_the_first_stage_comes_from_its_file_and_stays_as_it_is(tmp_path):
    stage = saved(tmp_path / "vae.safetensors", latent_dim=3, channels=[8, 8])
    model = model_of(str(tmp_path / "vae.safetensors"), condition_dropout=0.5)
    x = torch.rand(16, 1, 8, 8)
    assert torch.equal(model.first_stage.reconstruct(x), stage.reconstruct(x))
    (phase,) = model.phases()
    own = {id(p) for p in phase.parameters}
    assert not any(id(p) in own or p.requires_grad for p in model.first_stage.parameters())
    assert own == {id(p) for p in model.prior.parameters()}
    model.train()
    loss = phase.loss(Batch(x), Step(0, 10, Noise.of(0, range(16))))["loss"]
    loss.backward()
    assert all(p.grad is None for p in model.first_stage.parameters())
    assert all(module.training for module in model.modules())  # what was borrowed comes back
    description = model.config.first_stage
    assert (description["family"], description["distribution"]) == ("vae", "medgen-autoencoders")
    assert description["data"] == {"source": "x.npz", "fingerprint": "abc"}
    assert description["training"] == {"steps": 7}


@pytest.mark.parametrize("given", ["folder", "file"])
def test_its_own_file_needs_no_other(tmp_path, given):
    """The first stage's run is gone when the model is loaded, elsewhere."""
    table = np.random.default_rng(0).random((48, 8, 8), dtype=np.float32)
    data = from_arrays(table)
    how = {"steps": 4, "batch_size": 16, "show": False}
    first = train("vae", data, tmp_path / "vae", model={"latent_dim": 3, "channels": [8, 8]}, **how)
    path = tmp_path / "vae" if given == "folder" else tmp_path / "vae" / "model.safetensors"
    run = train("latent_diffusion", data, tmp_path / "run", model={"first_stage": str(path), **TINY}, **how)
    wanted, state = run.model.sample(4, noise=3), first.model.state_dict()
    shutil.rmtree(tmp_path / "vae")
    model = medgen.load(shutil.move(tmp_path / "run" / "model.safetensors", tmp_path / "alone.safetensors"))
    assert torch.equal(model.sample(4, noise=3), wanted)
    for name, value in model.first_stage.state_dict().items():
        assert torch.equal(value, state[name])
    assert str(tmp_path) not in str(model.config.to_json())
    medgen.save(model, tmp_path / "again.safetensors")
    again = medgen.load(tmp_path / "again.safetensors", sampler="ddim", sampling_steps=2)
    assert again.config.first_stage == model.config.first_stage
    assert not torch.equal(again.sample(4, noise=3), wanted)  # what is sampled how can be given anew
    with pytest.raises(ConfigError, match="fixed by training"):
        medgen.load(tmp_path / "again.safetensors", first_stage="elsewhere")


def test_resume_is_bit_equal(tmp_path, monkeypatch):
    data = from_arrays(np.random.default_rng(0).random((48, 8, 8), dtype=np.float32))
    saved(tmp_path / "vae.safetensors", spec=data.image_spec, latent_dim=3, channels=[8, 8])
    options = {"model": {"first_stage": str(tmp_path / "vae.safetensors"), **TINY}, "steps": 6, "batch_size": 16, "show": False, "ema": 0.9}
    whole, step = train("latent_diffusion", data, tmp_path / "whole", **options), Loop._step

    def interrupted(self, batches):
        if self.position.step == 5:
            raise OSError("power cut")
        return step(self, batches)

    monkeypatch.setattr(Loop, "_step", interrupted)
    with pytest.raises(OSError, match="power cut"):
        train("latent_diffusion", data, tmp_path / "cut", checkpoint_every=4, **options)
    monkeypatch.setattr(Loop, "_step", step)
    again = resume(tmp_path / "cut", data=data, show=False).model.state_dict()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(again[name], value), name


def test_first_stages_that_do_not_fit_are_refused(tmp_path):
    path = str(tmp_path / "stage.safetensors")
    with pytest.raises(WeightsError, match="stage"):
        model_of(path)
    with pytest.raises(MedgenError, match=r"model\.safetensors"):
        model_of(str(tmp_path))
    for description, words in [({"family": "ddpm", "config": TINY}, "must be a model with latents"), ({}, "described by its `family`")]:
        with pytest.raises(ConfigError, match=words):
            model_of(description)
    ct = Intensity(low=(-600.0,), high=(1400.0,))
    for spec, words in [
        (medgen.ImageSpec(channels=1, shape=(8, 6)), r"shape \(1, 8, 6\), here \(1, 8, 8\)"),
        (medgen.ImageSpec(channels=1, shape=(8, 8), intensity=ct), "windows .*-600 to 1400.*, here .*0 to 1"),
    ]:
        saved(path, spec=spec, channels=[8])
        with pytest.raises(ConfigError, match=words):
            model_of(path)
    saved(path, "cvae", conditions=[LABEL], channels=[8])
    with pytest.raises(ConfigError, match=r"conditions \['label'\]"):
        model_of(path)
    with pytest.raises(ConfigError, match="needs data with a range"):
        model_of(threshold="static")


# --------------------------------------------------------------------------------------------------- the latents


@pytest.mark.parametrize("shape", [(8,), (8, 12), (4, 8, 4)])
def test_latents_on_a_grid(shape, monkeypatch):
    """A U-Net on [C 2^n, *S / 2], whose channels are measured; images follow."""
    latent_stages.install(monkeypatch)
    latent_stages.check_inverse()
    spec = medgen.ImageSpec(channels=2, shape=shape)
    mask = ConditionSpec(name="mask", kind="image", image=medgen.ImageSpec(channels=1, shape=shape))
    model = model_of(BLOCKS, spec, [LABEL, mask])
    x = torch.rand(64, 2, *shape) * torch.linspace(0.2, 1, 2).view(2, *[1] * len(shape))
    model.prepare(batches(x))
    assert model.prior.image_spec.shape == tuple(side // 2 for side in shape)
    z = model.first_stage.encode(x).mean
    axes = [0, *range(2, z.dim())]
    torch.testing.assert_close(model.prior.scaling.mean.flatten(), z.mean(axes))
    torch.testing.assert_close(model.prior.scaling.sd.flatten(), z.std(axes, correction=0))
    perturb(model.prior)
    condition = Condition({"label": torch.tensor([0, 1, 1]), "mask": (torch.rand(3, 1, *shape) > 0.5).float()})
    found = model.sample(3, condition=condition)
    assert found.shape == (3, 2, *shape)
    other = Condition({**condition.values, "mask": 1 - condition.values["mask"]})
    assert not torch.equal(model.sample(3, condition=other), found)
    within = model._of_prior(condition).values["mask"]
    assert within.mean().item() == pytest.approx(condition.values["mask"].mean().item(), abs=1e-6)


def test_draws_of_the_posterior_are_measured_and_trained_on():
    """Where q(z|x) is Gaussian, its width counts; where not, the mean does."""
    x = torch.rand(400, 1, 8, 8)
    model = model_of()
    perturb(model.first_stage)
    model.prepare(batches(x))
    q = model.first_stage.encode(x)
    wanted = (q.mean.var(0, correction=0) + q.variance.mean(0)).sqrt()
    torch.testing.assert_close(model.prior.scaling.sd, wanted, rtol=0.12, atol=0)
    one, two = (model._encoded(Batch(x), Noise.of(seed, range(400))).x for seed in (0, 1))
    assert not torch.equal(one, two)
    torch.testing.assert_close(one[5:6], model._encoded(Batch(x[5:6]), Noise.of(0, [5])).x, rtol=1e-4, atol=1e-5)
    plain = model_of({"family": "ae", "config": {"latent_dim": 3, "channels": [8, 8]}})
    assert torch.equal(plain._encoded(Batch(x), Noise.of(0, range(400))).x, plain.first_stage.encode(x).mean)


def test_samples_decode_what_the_chain_draws():
    model = model_of()
    perturb(model)
    assert torch.equal(model.sample(3, noise=5), model.first_stage.decode(model.prior.sample(3, noise=5)))
    labels = model_of(spec=medgen.ImageSpec(channels=3, shape=(5, 4), content="labels"))
    perturb(labels)
    found = labels.sample(4)
    assert bool(((found == 0) | (found == 1)).all())
    assert bool((found.sum(1) == 1).all())


def test_image_conditions_of_vectors_are_embedded_and_guidance_acts():
    given = Condition({"label": torch.tensor([0, 1]), "mask": torch.rand(2, 1, 8, 8)})
    drawn = {}
    for scale in (0.0, 1.0, 3.0):
        model = model_of(conditions=[LABEL, MASK], guidance=scale, sampling_steps=1, condition_dropout=0.3)
        perturb(model)
        drawn[scale] = model.prior.sample(2, condition=model._of_prior(given), noise=1)
    torch.testing.assert_close(drawn[3.0], drawn[0.0] + 3 * (drawn[1.0] - drawn[0.0]), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(drawn[1.0], drawn[0.0])


def test_a_conditional_first_stage_gets_its_conditions(tmp_path):
    path = tmp_path / "cvae.safetensors"
    stage = saved(path, "cvae", conditions=[LABEL], latent_dim=3, channels=[8], prior="learned")
    model = model_of(str(path), conditions=[LABEL, MASK])
    assert model.required_conditions == ("label",)  # the first stage cannot do without
    x, given = torch.rand(6, 1, 8, 8), Condition({"label": torch.arange(6) % 2, "mask": torch.rand(6, 1, 8, 8)})
    q = stage.encode(x, condition=Condition({"label": given.values["label"]}))
    noise = Noise.of(0, range(6))
    torch.testing.assert_close(model._encoded(Batch(x, given), noise).x, q.mean + q.stddev * noise.normal(3, stream=3))
    with pytest.raises(MedgenError, match="label"):
        model.sample(2)


def test_a_memory_budget_holds_for_the_decoder_too():
    spec = medgen.ImageSpec(channels=1, shape=(32, 32))
    stage = {"family": "vae", "config": {"latent_dim": 4, "channels": [32, 32]}}
    free = model_of(stage, spec)
    perturb(free)
    with PeakMemory() as memory:
        wanted = free.sample(16, noise=1)
    budget = memory.peak / 3
    bound = model_of(stage, spec, sampling_memory=budget / 2**30)
    bound.load_state_dict(free.state_dict())
    with PeakMemory() as memory:
        found = bound.sample(16, noise=1)
    assert memory.peak <= budget
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    with pytest.raises(ConfigError, match="too little"):
        model_of(stage, spec, sampling_memory=1e-6).sample(2)


def test_the_loss_compiles():
    model = model_of(variance="learned").train()
    (phase,) = model.phases()
    batch, step = Batch(torch.rand(4, 1, 8, 8)), Step(0, 10, Noise.of(0, range(4)))
    torch._dynamo.reset()
    compiled = torch.compile(phase.loss, backend="eager", fullgraph=True)(batch, step)
    torch._dynamo.reset()
    for name, value in phase.loss(batch, step).items():
        torch.testing.assert_close(compiled[name], value)


@pytest.mark.slow
def test_two_modes_through_an_autoencoder(tmp_path):
    """Two classes of weights 0.3 and 0.7 on a plane in six dimensions; asked for one, it gives that one."""
    generator = np.random.default_rng(0)
    first = generator.random(4000) < 0.3
    centres = np.array([[-2.0, 1.0], [2.0, -1.0]])
    plane = centres[np.where(first, 0, 1)] + 0.3 * generator.standard_normal((4000, 2))
    table = (plane @ np.linalg.qr(generator.standard_normal((6, 2)))[0].T).astype(np.float32)
    data = from_arrays(table, labels=np.where(first, "left", "right"))
    how = {"batch_size": 256, "show": False}
    train("ae", data, tmp_path / "ae", model={"latent_dim": 2, "channels": []}, steps=600, lr=2e-2, **how)
    net = {"width": 64, "multipliers": [1], "blocks": 3, "steps": 200, "condition_dropout": 0.4, "first_stage": str(tmp_path / "ae")}
    model = train("latent_diffusion", data, tmp_path / "run", model=net, steps=1500, lr=2e-3, ema=0.99, **how).model
    means = [table[first].mean(0), table[~first].mean(0)]

    def stored(condition=None):
        return to_stored(model.sample(3000, condition=condition, micro_batch=3000), model.image_spec)

    def is_first(x):
        return np.square(x - means[0]).sum(1) < np.square(x - means[1]).sum(1)

    found = stored()
    assert is_first(found).mean() == pytest.approx(0.3, abs=0.06)
    for mask, mean in ((is_first(found), means[0]), (~is_first(found), means[1])):
        assert found[mask].mean(0) == pytest.approx(mean, abs=0.12)
        assert np.sqrt(found[mask].var(0).sum()) == pytest.approx(np.sqrt(2) * 0.3, abs=0.12)
    for label, share in ((0, 1.0), (1, 0.0)):
        given = Condition({"label": torch.full((3000,), label)})
        assert is_first(stored(given)).mean() == pytest.approx(share, abs=0.02)
