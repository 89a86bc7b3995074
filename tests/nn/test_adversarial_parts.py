"""Remedies against their formulas, discriminators of every shape, the game and its alarm."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from medgen.errors import ConfigError
from medgen.interfaces import Noise
from medgen.nn.adversarial import (
    Discriminator,
    ImagePool,
    InstanceNoise,
    MinibatchDiscrimination,
    MultiScaleDiscriminator,
    VirtualBatchNorm,
    diversity,
    feature_matching,
)

SHAPES = {0: (), 1: (13,), 2: (9, 12), 3: (5, 6, 7)}


def test_minibatch_discrimination_against_a_loop():
    layer = MinibatchDiscrimination(4, kernels=3, width=2)
    f = torch.randn(5, 4)
    t = layer.weight.view(4, 3, 2)
    wanted = torch.zeros(5, 3)
    for i in range(5):
        for k in range(3):
            for j in range(5):
                if i != j:
                    wanted[i, k] += torch.exp(-(f[i] @ t[:, k] - f[j] @ t[:, k]).abs().sum())
    layer.bias.data = torch.tensor([0.1, 0.2, 0.3])
    torch.testing.assert_close(layer(f), torch.cat((f, wanted + layer.bias), 1))


def test_a_collapsed_batch_has_larger_statistics():
    layer = MinibatchDiscrimination(4, kernels=6)
    diverse, collapsed = torch.randn(8, 4), torch.randn(1, 4).expand(8, 4)
    assert (layer(collapsed)[:, 4:] > layer(diverse)[:, 4:]).all()
    torch.testing.assert_close(layer(collapsed)[:, 4:], torch.full((8, 6), 7.0))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=str)
def test_virtual_batch_norm_against_its_formula(shape):
    r, layer = 3, VirtualBatchNorm(2, reference=3)
    layer.weight.data, layer.bias.data = torch.tensor([2.0, -1.0]), torch.tensor([0.5, 0.0])
    x = torch.randn(7, 2, *shape) * 3 + 1
    got = layer(x)
    for i in range(7):
        for c in range(2):
            ref, own = x[:r, c].flatten(), x[i, c].flatten()
            mean, square = ref.mean(), ref.square().mean()
            if i >= r:
                mean, square = (r * mean + own.mean()) / (r + 1), (r * square + own.square().mean()) / (r + 1)
            wanted = (x[i, c] - mean) / (square - mean**2 + 1e-5).sqrt() * layer.weight[c] + layer.bias[c]
            torch.testing.assert_close(got[i, c], wanted, atol=1e-5, rtol=1e-4)


def test_virtual_batch_norm_does_not_see_the_rest_of_the_batch():
    layer, reference, x = VirtualBatchNorm(3, reference=4), torch.randn(4, 3, 5), torch.randn(6, 3, 5)
    whole = layer(torch.cat((reference, x)))[4:]
    for i in range(6):
        torch.testing.assert_close(layer(torch.cat((reference, x[i : i + 1])))[4:], whole[i : i + 1])


def test_feature_matching():
    real = [torch.randn(6, 3), torch.randn(6, 2, 4)]
    assert all(feature_matching(real, real, d) == 0 for d in ("squared", "absolute", "paired"))
    assert feature_matching(real, [f.flip(0) for f in real]).item() == pytest.approx(0.0, abs=1e-10), "means, not pairs"
    fake = [torch.randn(4, 3, requires_grad=True), torch.randn(4, 2, 4)]
    gaps = [(a.mean(0) - b.mean(0)).flatten() for a, b in zip(real, fake, strict=True)]
    torch.testing.assert_close(feature_matching(real, fake), sum(g.square().sum() for g in gaps) / 2)
    torch.testing.assert_close(feature_matching(real, fake, "absolute"), sum(g.abs().mean() for g in gaps) / 2)
    assert torch.autograd.grad(feature_matching(real, fake), fake[0])[0].abs().sum() > 0


@given(sigma=st.floats(0.01, 3), until=st.floats(0.05, 1), t=st.floats(0, 1))
@settings(max_examples=50)
def test_instance_noise_falls_to_zero(sigma, until, t):
    noise = InstanceNoise(sigma, until)
    assert noise.at(0.0) == sigma
    assert noise.at(1.0) == 0.0
    assert 0 <= noise.at(t) <= sigma
    assert (noise.at(t) == 0) == (t >= until)


def test_instance_noise_has_its_sd_and_is_a_function_of_the_sample():
    noise, x = InstanceNoise(0.5), torch.ones(4000, 2)
    own = Noise(3, torch.arange(4000))
    got = noise.add(x, 0.5, own, 1)
    assert (got - x).std().item() == pytest.approx(0.25, rel=0.03)
    assert torch.equal(noise.add(x[5:6], 0.5, own[5], 1), got[5:6])
    assert noise.add(x, 1.0, own, 1) is x


def test_diversity():
    x = torch.randn(500, 3)
    assert diversity(0.5 * x, x).item() == pytest.approx(0.5)
    assert diversity(x, torch.ones(4, 3)).item() == 1.0


def test_diversity_within_classes():
    """One sample repeated within each class: all alike, however far apart the classes are."""
    classes = torch.tensor([0, 1, 0, 1, 0, -1])
    real = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)) + 10.0 * classes[:, None]
    collapsed = (10.0 * classes[:, None]).expand(6, 3)
    assert diversity(collapsed, real).item() > 0.9
    assert diversity(collapsed, real, classes).item() == 0.0
    middle = torch.stack([real[classes == k].mean(0) for k in classes])
    assert diversity(middle + 0.5 * (real - middle), real, classes).item() == pytest.approx(0.5)
    moved = torch.randperm(6, generator=torch.Generator().manual_seed(1))
    assert diversity(real[moved], real, classes[moved], classes).item() == pytest.approx(1.0)
    assert diversity(collapsed, real, torch.arange(6)).item() == 1.0, "one sample of each class says nothing"


@pytest.mark.parametrize("shape", SHAPES.values(), ids=str)
@pytest.mark.parametrize("norm", ["none", "batch", "instance", "group"])
@pytest.mark.parametrize("kind", ["image", "patch"])
def test_discriminators_of_every_shape(shape, norm, kind):
    torch.manual_seed(0)  # vectors in groups of two are normalised to signs, and some weights then say the same of every sample
    made = Discriminator(2, shape, [4, 6, 8], kind=kind, embedding=3, norm=norm, spectral=True)
    x, e = torch.randn(4, 2, *shape), torch.randn(4, 3)
    said = made(x, e)
    assert said.score.shape == (4,)
    assert len(said.features) == 3
    assert said.logits[0].shape[:2] == (4, 1)
    assert (said.logits[0].dim() == 2 + len(shape)) == (kind == "patch" or not shape)
    assert (made(x, e + 1).score != said.score).all(), "it sees its condition"
    said.score.sum().backward()
    assert all(p.grad is not None for p in made.parameters())


def test_a_patch_is_70_wide():
    made = Discriminator(1, (160, 160), [4, 4, 4, 4], kind="patch")
    for p in made.parameters():
        nn.init.constant_(p, 0.1)
    x = torch.zeros(1, 1, 160, 160, requires_grad=True)
    logits = made(x).logits[0]
    logits[0, 0, logits.shape[2] // 2, logits.shape[3] // 2].backward()
    seen = x.grad[0, 0] != 0
    assert (int(seen.any(0).sum()), int(seen.any(1).sum())) == (70, 70)


@pytest.mark.parametrize("shape", [(16,), (16, 12), (8, 8, 4)], ids=str)
def test_several_scales(shape):
    made = MultiScaleDiscriminator(2, 1, shape, [4, 4], kind="patch", norm="instance")
    said = made(torch.randn(3, 1, *shape))
    assert len(said.logits) == 2
    assert len(said.features) == 4
    wanted = torch.stack([t.flatten(1).mean(1) for t in said.logits]).mean(0)
    torch.testing.assert_close(said.score, wanted)
    with pytest.raises(ConfigError, match="vectors have one scale"):
        MultiScaleDiscriminator(2, 1, (), [4])


def test_k_plus_one_classes():
    """D = Z / (Z + 1) with Z = sum_k exp(l_k)."""
    said = Discriminator(2, (8,), [4], classes=3, joint=True)(torch.randn(5, 2, 8))
    z = said.classes.exp().sum(1)
    torch.testing.assert_close(torch.sigmoid(said.logits[0][:, 0]), z / (z + 1))
    said = Discriminator(2, (8,), [4], classes=3)(torch.randn(5, 2, 8))
    assert (said.logits[0].shape, said.classes.shape) == ((5, 1), (5, 3))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"channels": []}, "at least one number of `channels`"),
        ({"channels": [4], "kind": "patch", "classes": 2}, "neither classes nor"),
        ({"channels": [4], "joint": True}, "needs `classes`"),
    ],
)
def test_discriminators_that_cannot_be(options, sentence):
    with pytest.raises(ConfigError, match=sentence):
        Discriminator(1, (8,), **options)


def test_a_pool_fills_then_swaps_half():
    pool = ImagePool(8, (1,))
    shown, inside = [], []
    for k in range(400):
        x = torch.arange(4.0).view(4, 1) + 4 * k
        got = pool(x, Noise(0, torch.arange(4) + 4 * k))
        if k < 2:
            assert torch.equal(got, x)
            continue
        new = got == x
        shown.append(float(new.float().mean()))
        assert got.unique().numel() == 4  # every row takes another place
        assert (got[~new] < 4 * k).all()
        inside.append(sorted(pool.images.flatten().tolist()))
        assert set(x[~new].tolist()) <= set(inside[-1])
        assert not set(got[~new].tolist()) & set(inside[-1])  # what is given back is stored no longer
    assert abs(sum(shown) / len(shown) - 0.5) < 0.04  # 4 standard errors of 1592 coins are 0.05
    # a stored sample is swapped out with probability 1/16 per row, so that it stays for 16 rows: 4 batches
    ages = [1600 - 1 - v for v in inside[-1]]
    every = [4 * (k + 2) + 3 - v for k, held in enumerate(inside[50:], 50) for v in held]
    assert max(ages) < 200
    assert abs(sum(every) / len(every) / 4 - 4) < 0.8


def test_a_pool_is_its_state_and_its_noise():
    x = torch.randn(40, 5, 2)
    noise = [Noise(3, torch.arange(5) + 5 * k) for k in range(40)]
    pool = ImagePool(7, (2,))
    whole = [pool(a, n) for a, n in zip(x, noise, strict=True)]
    first, second = ImagePool(7, (2,)), ImagePool(7, (2,))
    parts = [first(a, n) for a, n in zip(x[:21], noise[:21], strict=True)]
    second.load_state_dict(first.state_dict())
    parts += [second(a, n) for a, n in zip(x[21:], noise[21:], strict=True)]
    assert all(torch.equal(a, b) for a, b in zip(whole, parts, strict=True))
    assert torch.equal(second.images, pool.images)


def test_pools_smaller_than_a_batch_and_none():
    x = torch.randn(5, 3, requires_grad=True)
    none = ImagePool(0, (3,))(x, Noise(0, torch.arange(5)))
    assert torch.equal(none, x)
    assert not none.requires_grad
    pool = ImagePool(2, (3,))
    assert torch.equal(pool(x, Noise(0, torch.arange(5))), x)
    assert torch.equal(pool.images, x[:2])
    assert int(pool.count) == 2
    later = [pool(torch.randn(5, 3), Noise(1, torch.arange(5) + 5 * k)) for k in range(20)]
    assert any((pool.images != x[:2]).any() for _ in later)
