"""The laws of every family, and what they do not cover."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import medgen
from medgen.data import from_arrays
from medgen.nn import level_shapes
from medgen.registry import ConditionSpec, ImageSpec, find_family
from medgen.testing import FamilySuite
from medgen.training import train

GOLDEN = Path(__file__).parent / "golden"
LABEL = ConditionSpec(name="label", kind="label", names=("a", "b"))


class TestAe(FamilySuite):
    family = "ae"
    golden = GOLDEN


class TestVae(FamilySuite):
    family = "vae"
    golden = GOLDEN


class TestBetaVae(FamilySuite):
    family = "beta_vae"
    golden = GOLDEN


class TestCvae(FamilySuite):
    family = "cvae"
    golden = GOLDEN


def build(family, shape, channels=2, **config):
    spec = ImageSpec(channels=channels, shape=shape, content="intensity" if shape else "features")
    return medgen.create(family, spec, **{**find_family(family).spec.tiny, **config})


@pytest.mark.parametrize("shape", [(), (13,), (9, 12), (5, 6, 7)], ids=str)
@pytest.mark.parametrize("family", ["ae", "vae", "beta_vae"])
def test_reconstruct_is_the_decoded_mean(family, shape):
    model = build(family, shape)
    x = torch.rand(6, *model.image_spec.size)
    z = model.encode(x).mean
    assert z.shape == (6, 2)
    assert torch.equal(model.reconstruct(x), model.decode(z))


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
