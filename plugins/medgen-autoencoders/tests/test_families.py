"""What every family of this distribution keeps, for every number of axes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import medgen
from medgen.data import from_arrays
from medgen.interfaces import Batch, Condition, Noise, Step
from medgen.nn import level_shapes
from medgen.registry import ConditionSpec, ImageSpec, find_family
from medgen.training import train

FAMILIES = ("ae", "vae", "beta_vae", "cvae")
SHAPES = ((), (13,), (9, 12), (5, 6, 7))
LABEL = ConditionSpec(name="label", kind="label", names=("a", "b"))


def build(family, shape, channels=2, **config):
    spec = ImageSpec(channels=channels, shape=shape, content="intensity" if shape else "features")
    return medgen.create(family, spec, (LABEL,) if family == "cvae" else (), **{**find_family(family).spec.tiny, **config})


def label(model, n):
    return Condition({"label": torch.arange(n) % 2}) if model.conditions else None


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
class TestEvery:
    def test_shapes_and_gradients(self, family, shape):
        model = build(family, shape)
        x = torch.rand(6, *model.image_spec.size)
        phase = model.phases()[0]
        loss = phase.loss(Batch(x, label(model, 6) or Condition()), Step(0, 10, Noise(0, torch.arange(6))))["loss"]
        assert loss.shape == ()
        with torch.no_grad():
            for p in model.parameters():  # zero-initialised layers pass no gradient back at the very start
                p.add_(0.01 * torch.sin(torch.arange(p.numel(), dtype=p.dtype)).reshape(p.shape))
        phase.loss(Batch(x, label(model, 6) or Condition()), Step(0, 10, Noise(0, torch.arange(6))))["loss"].backward()
        silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        allowed = ["embedding.missing.label"] if family == "cvae" else []
        assert silent == allowed
        assert model.encode(x, condition=label(model, 6)).mean.shape == (6, 2)
        assert model.decode(torch.zeros(3, 2), condition=label(model, 3)).shape == (3, *model.image_spec.size)
        assert model.reconstruct(x, condition=label(model, 6)).shape == x.shape

    def test_a_sample_does_not_depend_on_its_batch(self, family, shape):
        model = build(family, shape)
        if not isinstance(model, medgen.Generator):
            pytest.skip("this family draws no samples")
        torch.manual_seed(0)
        before = torch.random.get_rng_state()
        index = torch.arange(64)
        condition = label(model, 64)
        every = model.sample(64, condition=condition, noise=Noise(5, index), micro_batch=64)
        for rows in (slice(0, 1), slice(7, 14), slice(1, 64, 2)):
            part = model.sample(
                len(index[rows]), condition=condition[rows] if condition else None, noise=Noise(5, index[rows]), micro_batch=7
            )
            torch.testing.assert_close(part, every[rows], atol=1e-5, rtol=0)
        assert torch.equal(every, model.sample(64, condition=condition, noise=Noise(5, index), micro_batch=64))
        assert torch.equal(before, torch.random.get_rng_state())

    def test_log_prob_is_per_sample(self, family, shape):
        model = build(family, shape).double()
        if not isinstance(model, medgen.DensityModel):
            pytest.skip("this family has no density")
        x = torch.rand(5, *model.image_spec.size, dtype=torch.float64)
        noise, order = Noise(0, torch.arange(5)), torch.tensor([3, 0, 4, 1, 2])
        condition = label(model, 5)
        whole = model.log_prob(x, condition=condition, noise=noise, importance_samples=3)
        assert whole.shape == (5,)
        shuffled = model.log_prob(x[order], condition=condition[order] if condition else None, noise=noise[order], importance_samples=3)
        torch.testing.assert_close(shuffled, whole[order], atol=1e-9, rtol=0)

    def test_save_and_load(self, family, shape, tmp_path):
        model = build(family, shape)
        x = torch.rand(3, *model.image_spec.size)
        medgen.save(model, tmp_path / "m.safetensors")
        again = medgen.load(tmp_path / "m.safetensors")
        assert torch.equal(model.reconstruct(x, condition=label(model, 3)), again.reconstruct(x, condition=label(model, 3)))
        assert again.config == model.config
        assert again.image_spec == model.image_spec


@given(shape=st.lists(st.integers(1, 17), min_size=1, max_size=3), levels=st.integers(1, 4), channels=st.integers(1, 3))
@settings(max_examples=25)
def test_any_size(shape, levels, channels):
    model = medgen.create("vae", ImageSpec(channels=channels, shape=tuple(shape)), latent_dim=2, channels=[4] * levels)
    assert model.sample(2).shape == (2, channels, *shape)
    assert level_shapes(shape, levels)[0] == tuple(shape)


def test_interpolation_ends_equal_the_reconstructions():
    model = build("vae", (9, 12))
    x = torch.rand(2, 2, 9, 12)
    z = model.encode(x).mean
    line = torch.stack([(1 - t) * z[0] + t * z[1] for t in (0.0, 0.5, 1.0)])
    with torch.no_grad():
        decoded = model.eval().decode(line)
    torch.testing.assert_close(decoded[[0, 2]], model.reconstruct(x), atol=1e-6, rtol=0)


def test_a_wider_latent_reconstructs_better(tmp_path):
    """Row 1: the error falls from a 2-D to a 5-D latent, on images with five factors."""
    generator = torch.Generator().manual_seed(0)
    factors, basis = torch.randn(160, 5, generator=generator), torch.randn(5, 64, generator=generator)
    data = from_arrays((factors @ basis).reshape(160, 8, 8).numpy())
    errors = {}
    for width in (2, 5):
        run = train(
            "ae",
            data,
            tmp_path / str(width),
            model={"latent_dim": width, "channels": [16], "blocks": 0},
            steps=200,
            lr=2e-2,
            batch_size=32,
            show=False,
        )
        x = data.fetch(data.splits["val"]).x
        errors[width] = (run.model.reconstruct(x) - x).square().mean().item()
    assert errors[5] < 0.5 * errors[2]


def test_what_does_not_fit_is_refused():
    with pytest.raises(medgen.MedgenError, match=r"`latent_dim` of VaeConfig.*got 0"):
        build("vae", (8, 8), latent_dim=0)
    with pytest.raises(medgen.MedgenError, match="takes the conditions"):
        medgen.create("vae", ImageSpec(channels=1, shape=(8, 8)), (LABEL,))
