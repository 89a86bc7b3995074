"""What the coupling families keep: exact Jacobians, exact inverses with nothing dropped, conditions that matter, toys that are learned."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

import medgen
from medgen.data import from_arrays
from medgen.interfaces import Batch, Condition, Noise, Step
from medgen.registry import ConditionSpec, ImageSpec, find_family
from medgen.training import train

FAMILIES = ("nice", "realnvp", "glow", "spline_flow")
SHAPES = ((), (6,), (4, 4), (3, 5), (2, 4, 2))
LABEL = ConditionSpec(name="label", kind="label", names=("a", "b"))
AGE = ConditionSpec(name="attributes", kind="attributes", names=("age",))
MASK = ConditionSpec(name="mask", kind="image", image=ImageSpec(channels=1, shape=(6,)))


def shaken(model: medgen.Model, size: float = 0.1) -> medgen.Model:
    """Zero-initialised layers would make every coupling the identity."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(size * torch.randn(p.shape, generator=generator))
    return model


def build(family: str, shape: tuple[int, ...], channels: int = 2, conditions=(), intensity=None, **config) -> medgen.Model:
    spec = ImageSpec(
        channels=channels, shape=shape, content="intensity" if shape else "features", intensity=intensity or medgen.Intensity()
    )
    return medgen.create(family, spec, conditions, **{**find_family(family).spec.tiny, **config})


def step(n: int) -> Step:
    return Step(0, 10, Noise(0, torch.arange(n)))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_log_prob_is_the_base_density_and_the_jacobian_of_encode(family, shape, channels):
    model = shaken(build(family, shape, channels)).double()
    x = 0.1 + 0.8 * torch.rand(2, *model.image_spec.size, dtype=torch.float64)
    for row in range(2):
        square = torch.autograd.functional.jacobian(lambda v: model.encode(v).mean.flatten(), x[row : row + 1]).reshape(x[0].numel(), -1)
        z = model.encode(x[row : row + 1]).mean
        expected = -0.5 * (z.square() + math.log(2 * math.pi)).sum() + torch.linalg.slogdet(square).logabsdet
        torch.testing.assert_close(model.log_prob(x[row : row + 1])[0], expected, atol=1e-8, rtol=1e-8)
    assert model.log_prob_kind == "exact"


@pytest.mark.parametrize("shape", [*SHAPES, (9, 12), (28, 28), (5, 6, 7)], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_is_dropped(family, shape):
    model = shaken(build(family, shape), 0.03).double()  # of 1568 float32 values two are the same by chance
    x = torch.rand(4, *model.image_spec.size, dtype=torch.float64)
    z = model.encode(x).mean
    assert z.shape == x.shape
    assert len(z[0].unique()) == z[0].numel()
    torch.testing.assert_close(model.decode(z), x, atol=1e-4, rtol=0)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_parameter_learns(family):
    for shape in ((), (4, 4)):
        model = shaken(build(family, shape, 4, (LABEL, AGE)))
        x = torch.rand(6, *model.image_spec.size)
        condition = Condition({"label": torch.arange(6) % 2, "attributes": torch.randn(6, 1)})
        model.phases()[0].loss(Batch(x, condition), step(6))["loss"].backward()
        silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert silent == []


@pytest.mark.parametrize("slot", ["label", "attributes", "mask"])
@pytest.mark.parametrize("family", FAMILIES)
def test_conditions_matter_and_can_be_declined(family, slot):
    spec, values = {
        "label": (LABEL, torch.tensor([0, 1])),
        "attributes": (AGE, torch.tensor([[0.0], [2.0]])),
        "mask": (MASK, torch.stack([torch.zeros(1, 6), torch.ones(1, 6)])),
    }[slot]
    model = shaken(build(family, (6,), conditions=(spec,)))
    x = torch.rand(1, *model.image_spec.size).expand(2, -1, -1)
    condition = Condition({slot: values})
    scores = model.log_prob(x, condition=condition)
    assert (scores[0] - scores[1]).abs() > 1e-4
    z = model.encode(x, condition=condition).mean
    torch.testing.assert_close(model.decode(z, condition=condition), x, atol=1e-4, rtol=0)
    with pytest.raises(medgen.MedgenError, match="needs the conditions"):
        model.log_prob(x)
    assert build(family, (6,), conditions=(spec,), conditional=False).conditions == ()
    assert build(family, (6,), conditions=(spec,), condition_dropout=0.5).log_prob(x).shape == (2,)


@pytest.mark.parametrize("family", ["realnvp", "glow", "spline_flow"])
def test_prepare_normalises_the_noise(family):
    model = build(family, (), 4)
    x = 1e3 + 50 * torch.randn(300, 4)
    model.prepare(lambda: iter([Batch(x[:100]), Batch(x[100:200]), Batch(x[200:])]))
    z = model.encode(x).mean
    assert z.mean(0).abs().max() < 0.1
    assert (z.std(0) - 1).abs().max() < 0.1


@pytest.mark.parametrize("family", FAMILIES)
def test_temperature_scales_the_noise(family):
    cold, warm = (shaken(build(family, (4, 4), temperature=t, logit_alpha=0.0)) for t in (0.5, 1.0))
    z = [model.encode(model.sample(5, noise=3)).mean for model in (cold, warm)]
    torch.testing.assert_close(z[0], 0.5 * z[1], atol=1e-3, rtol=0)


def ring(n: int, seed: int) -> Tensor:
    """(r cos a, r sin a), r ~ N(1, 0.1^2), a uniform; the entropy of (r, a) plus E ln r."""
    generator = torch.Generator().manual_seed(seed)
    r, a = 1 + 0.1 * torch.randn(n, generator=generator), 2 * math.pi * torch.rand(n, generator=generator)
    return torch.stack([r * a.cos(), r * a.sin()], 1)


def banana(n: int, seed: int) -> Tensor:
    """(u1, u2 - u1^2 - 1), which keeps volumes: the entropy of two standard normals."""
    u = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    return torch.stack([u[:, 0], u[:, 1] - u[:, 0].square() - 1], 1)


RING = 0.5 * math.log(2 * math.pi * math.e * 0.01) + math.log(2 * math.pi) - 0.005


@pytest.mark.parametrize(
    ("family", "options", "toy", "entropy"),
    [
        ("nice", {"width": 64, "prior": "gaussian"}, banana, math.log(2 * math.pi * math.e)),
        ("spline_flow", {"steps": 3}, ring, RING),
        pytest.param("realnvp", {}, ring, RING, marks=pytest.mark.slow),
        pytest.param("glow", {"steps": 12}, ring, RING, marks=pytest.mark.slow),
    ],
    ids=["nice", "spline_flow", "realnvp", "glow"],
)
def test_a_toy_is_learned_to_near_its_entropy(family, options, toy, entropy, tmp_path):
    data = from_arrays(toy(4000, 0).numpy())
    run = train(family, data, tmp_path / "run", model=options, steps=400, batch_size=256, lr=3e-3, ema=0, show=False)
    held = toy(2000, 1)
    x = run.model.image_spec.intensity
    scale = torch.tensor([x.scale(c) for c in range(2)])
    offset = torch.tensor([x.offset(c) for c in range(2)])
    with torch.no_grad():
        nats = run.model.log_prob(held * scale + offset).mean().item() + scale.log().sum().item()
    assert entropy - 0.02 < -nats < entropy + 0.25, nats


@pytest.mark.parametrize("shape", [(), (4, 4)], ids=str)
@pytest.mark.parametrize("family", ["realnvp", "glow", "spline_flow"])
def test_reversible_training_has_the_same_gradients(family, shape):
    plain, reversible = (shaken(build(family, shape, reversible=r).double()) for r in (False, True))
    x = torch.rand(3, *plain.image_spec.size, dtype=torch.float64)
    for model in (plain, reversible):
        model.log_prob(x).sum().backward()
    for (name, p), q in zip(plain.named_parameters(), reversible.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, atol=1e-7, rtol=1e-7, msg=lambda m, name=name: f"{name}: {m}")
