"""Stored integers: masses, their bounds, the way back, and the published conversions to bits per dimension."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import medgen
from medgen.data import from_arrays, to_model, to_stored
from medgen.evaluation import evaluate_density
from medgen.interfaces import Noise
from medgen.nn.flow import Dequantise
from medgen.registry import ImageSpec, Intensity
from medgen.runs import score
from medgen.training import train

BYTES = Intensity(low=(0.0,), high=(255.0,), dtype="uint8")
FAMILIES = ("nice", "realnvp", "glow", "spline_flow")


def grey(shape=(4, 4), intensity=BYTES, channels=1):
    return ImageSpec(channels=channels, shape=shape, intensity=intensity)


def shaken(model, size=0.05):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(size * torch.randn(p.shape, generator=generator))
    return model


@pytest.mark.parametrize(
    ("nats", "spec", "levels_per_unit", "bits"),
    [
        (1980.50, grey((28, 28)), 256, 4.36),
        (5371.78, grey((32, 32), Intensity(high=(255.0,), range=(-1.0, 1.0), dtype="uint8"), 3), 128, 4.48),
    ],
    ids=["MNIST", "CIFAR-10"],
)
def test_published_conversions_of_nice(nats, spec, levels_per_unit, bits):
    """Row 71: a density in nats on [0, 1] or [-1, 1] becomes bits per dimension of the 256 levels."""
    model = medgen.create("nice", spec, width=4)
    per_unit = nats - spec.numel * math.log(levels_per_unit / 256)  # the model's own density is on [0, 1]
    model._log_density = lambda v, _: torch.full((len(v),), per_unit, dtype=torch.float64)
    mass = model.log_prob(torch.rand(16, *spec.size))
    assert float(model.bits_per_dim(mass)[0]) == pytest.approx(bits, abs=0.005)
    assert float(model.bits_per_dim(mass)[0]) == pytest.approx(math.log2(levels_per_unit) - nats / (spec.numel * math.log(2)), abs=1e-5)
    scores = evaluate_density(mass, spec, kind=model.log_prob_kind, measure=model.log_prob_measure)
    assert scores[1].name == "bits_per_dim"
    assert scores[1].value == pytest.approx(bits, abs=0.005)


@pytest.mark.parametrize("kind", ["uniform", "variational"])
def test_the_bound_is_below_the_mass_and_reaches_it(kind):
    """Two values of four levels: the true masses by integration over every cell."""
    spec = ImageSpec(channels=1, shape=(2,), intensity=Intensity(low=(0,), high=(3,), range=(-1, 1), dtype="uint8"))
    model = shaken(medgen.create("realnvp", spec, width=8, depth=1, couplings_per_mask=2, levels=1, dequantise=kind), 0.1).double()
    assert (model.log_prob_kind, model.log_prob_measure, model.output_range) == ("bound", "mass", (-1.0, 1.0))
    levels = torch.tensor([[a, b] for a in range(4) for b in range(4)], dtype=torch.float64)
    x = (levels / 3 * 2 - 1)[:, None]
    n = 60
    fine = (torch.arange(4 * n, dtype=torch.float64) + 0.5) / (4 * n)
    grid = torch.cartesian_prod(fine, fine)[:, None]
    with torch.no_grad():
        density = model._log_density(grid, None).exp().view(4, n, 4, n)
        mass = density.mean((1, 3)).flatten() / 16
        assert 0.1 < float(mass.sum()) < 1.001  # the rest lies beyond the limits, where sampling clamps

        def bounds(draws, k):
            noise = Noise(k, torch.arange(16 * draws))
            return model.log_prob(x.repeat(draws, 1, 1), noise=noise, importance_samples=k).view(draws, 16)

        one, eight = bounds(1000, 1), bounds(300, 8)
    error = one.exp().std(0) / 1000**0.5
    assert ((one.exp().mean(0) - mass).abs() < 5 * error + 1e-4 * mass).all()  # p(v) / q(v) is the mass on average
    assert (one.mean(0) < mass.log()).all()
    assert one.mean() + 0.01 < eight.mean() < mass.log().mean() + 0.01


@pytest.mark.parametrize("kind", ["uniform", "variational"])
def test_the_noise_has_the_density_that_it_says(kind):
    """E_q[f(u) / q(u)] = 1 for any density f on the cell: here Beta(5, 5), within the tails of q."""
    spec = grey((2,), Intensity(low=(0, 0), high=(3, 7), dtype="uint8"), 2)
    torch.manual_seed(0)
    dequantise = shaken(Dequantise(spec, kind, width=8), 0.2).double()
    x = torch.rand(1, 2, 2, dtype=torch.float64).expand(20000, -1, -1)
    with torch.no_grad():
        v, weight = dequantise(x, Noise(0, torch.arange(20000)))
    u = (v * dequantise.count) % 1
    f = (630 * (u * (1 - u)) ** 4).flatten(1).prod(1)
    assert float((f * (weight + dequantise.log_cells).exp()).mean()) == pytest.approx(1.0, rel=0.05)
    assert dequantise.log_cells == pytest.approx(2 * math.log(32))
    assert torch.equal(dequantise.inverse(v), dequantise.inverse(dequantise.centre(x)))
    assert float(v.std(0).min()) > 0.01


@pytest.mark.parametrize(
    "intensity",
    [
        BYTES,
        Intensity(low=(0,), high=(255,), range=(-1, 1), dtype="uint8"),
        Intensity(low=(-600,), high=(1400,), range=(-1, 1), dtype="int16"),
        Intensity(low=(0.7,), high=(93.2,), dtype="uint8"),
        Intensity(low=(0, -5), high=(1, 9), dtype="int32"),
    ],
    ids=["bytes", "symmetric", "lung", "between-levels", "per-channel"],
)
def test_every_level_comes_back(intensity):
    channels = len(intensity.low)
    spec = ImageSpec(channels=channels, shape=(1,), intensity=intensity)
    low, high = math.ceil(min(intensity.low)), math.floor(max(intensity.high))
    stored = np.arange(low, high + 1).reshape(-1, 1, 1).repeat(channels, 1)
    stored = np.clip(stored, np.ceil(np.array(intensity.low))[:, None], np.floor(np.array(intensity.high))[:, None])
    x = to_model(torch.from_numpy(stored.astype(intensity.dtype)), spec)
    dequantise = Dequantise(spec)
    noise = Noise(0, torch.arange(len(x)))
    v, _ = dequantise(x, noise)
    assert v.min() >= 0
    assert v.max() <= 1
    assert (to_stored(dequantise.inverse(v), spec) == stored).all()
    torch.testing.assert_close(dequantise.inverse(dequantise.centre(x), rounded=False), x, atol=2e-6, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_samples_are_levels_and_codes_are_exact(family):
    model = shaken(medgen.create(family, grey((6, 6)), width=8))
    x = model.sample(20, noise=0)
    levels = x * 255
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
    assert x.min() >= 0
    assert x.max() <= 1
    torch.testing.assert_close(model.reconstruct(x), x, atol=1e-5, rtol=0)
    z = model.encode(x).mean.detach().requires_grad_()
    model.decode(z).sum().backward()
    assert z.grad.abs().sum() > 0


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("alpha", [0.0, 0.05])
def test_the_way_back_saturates(family, alpha):
    model = shaken(medgen.create(family, grey((4, 4)), width=8, logit_alpha=alpha), 0.3)
    for size in (1e1, 1e4):
        x = model.decode(size * torch.randn(50, 1, 4, 4))
        assert x.isfinite().all()
        assert x.min() >= 0
        assert x.max() <= 1


def test_what_has_no_levels_is_a_density_or_refused():
    floats = grey((4,), Intensity())
    model = medgen.create("glow", floats, width=4, steps=1)
    assert (model.log_prob_kind, model.log_prob_measure, model.output_range) == ("exact", "density", None)
    low, high = medgen.create("realnvp", floats, width=4, logit_alpha=0.05).output_range
    assert (low, high) == pytest.approx((-0.05 / 0.9, 1 + 0.05 / 0.9)), "the logit maps the line to little more than [0, 1]"
    assert medgen.create("glow", grey(), width=4, steps=1, dequantise="none").log_prob_kind == "exact"
    table = ImageSpec(channels=2, shape=(), content="features", intensity=Intensity(clip=False, dtype="int64"))
    assert medgen.create("realnvp", table, width=4).log_prob_measure == "density"
    for spec in (floats, table):
        with pytest.raises(medgen.MedgenError, match="needs stored integers in a window"):
            medgen.create("glow", spec, width=4, dequantise="uniform")


def test_a_trained_run_is_scored_in_bits_of_its_levels(tmp_path):
    """Independent pixels of 16 equally likely levels have 4 bits each: no model is below, and the flow comes near."""
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 16, (256, 4, 4), dtype=np.uint8)
    data = from_arrays(noise, window=(0, 15), content="intensity")
    run = train("glow", data, tmp_path / "noise", model={"width": 8, "steps": 2, "depth": 1}, steps=60, batch_size=64, lr=1e-3, show=False)
    scores = score(run)
    assert scores.kind == "bound"
    assert "bits/dim, n" in str(scores)
    assert 3.98 < float(scores.bits_per_dim.mean()) < 4.6


@pytest.mark.slow
def test_glow_never_overflows(tmp_path):
    """1e5 samples at temperature 1 after a short training: all finite, and inside before any clamp by a wide margin."""
    generator = np.random.default_rng(0)
    centres = generator.uniform(2, 6, (2000, 2, 1, 1))
    grid = np.mgrid[:8, :8]
    images = (255 * np.exp(-((grid - centres) ** 2).sum(1) / 4)).astype(np.uint8)
    data = from_arrays(images)
    options = {"width": 16, "steps": 4, "depth": 1}
    run = train("glow", data, tmp_path / "glow", model=options, steps=300, batch_size=64, lr=2e-3, show=False)
    model, most = run.model, 0.0
    with torch.no_grad():
        for start in range(0, 100_000, 2000):
            v = model.transform.inverse(Noise(1, torch.arange(start, start + 2000)).normal(1, 8, 8))[0]
            assert v.isfinite().all()
            most = max(most, float(v.abs().max()))
    assert most < 1e4
    assert float(score(run).bits_per_dim.mean()) < 6
