"""Networks of an array and a time: any size, every input heard, and the published network's size."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from medgen.errors import ConfigError
from medgen.nn import FilmBlock, ResidualMLP, SelfAttention, UNet, sinusoids, time_net

SHAPES = [(), (13,), (9, 12), (5, 6, 7)]


def perturbed(net, seed=0):
    """With no layer at zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            fan_in = p[0].numel() if p.dim() > 1 else 4
            p.add_(torch.randn(p.shape, generator=generator) * (0.5 / fan_in**0.5))
    return net.eval()


def small(shape, **options):
    torch.manual_seed(0)
    return time_net(2, 3, shape, [8, 16], blocks=1, **options)


def given_input(shape, n=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n, 2, *shape, generator=generator, dtype=dtype), torch.arange(n) * 100


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_new_network_gives_zero(shape):
    attention = {"attention": [0, 1]} if shape else {}
    assert small(shape, **attention)(*given_input(shape)).abs().max() == 0


@given(shape=st.lists(st.integers(1, 17), max_size=3), levels=st.integers(1, 4), wide=st.integers(1, 5))
@settings(max_examples=40)
def test_any_size(shape, levels, wide):
    net = time_net(1, 2, shape, [wide * 2**level for level in range(levels)], blocks=1, attention=[-1], head_channels=4)
    x = torch.rand(2, 1, *shape)
    assert perturbed(net)(x, torch.tensor([0, 5])).shape == (2, 2, *shape)


def test_a_network_works_on_another_size_than_that_it_was_built_for():
    net = perturbed(small((12, 12), attention=[1]))
    assert net(*given_input((9, 21))).shape == (3, 3, 9, 21)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_everything_is_heard(shape):
    """Each input channel, the time and each feature of the embedding move every value of every output."""
    net = perturbed(small(shape, embedding=4, attention=[1] if shape else [])).double()
    x, t = given_input(shape, dtype=torch.float64)
    e = torch.randn(3, 4, dtype=torch.float64)
    first = net(x, t, e)
    assert bool((net(x, t + 1, e) != first).all())
    for feature in range(4):
        assert bool((net(x, t, e + torch.eye(4)[feature]) != first).all())
    for channel in range(2):
        other = x.clone()
        other[:, channel] += 1.0
        assert bool((net(other, t, e) != first).all())
    assert bool((net(x, t) != first).any())  # without an embedding


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_sample_is_the_same_alone(shape):
    net = perturbed(small(shape, attention=[1] if shape else [])).double()
    x, t = given_input(shape, dtype=torch.float64)
    torch.testing.assert_close(net(x[1:2], t[1:2]), net(x, t)[1:2], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_checkpointing_changes_no_gradient(shape):
    attention = {"attention": [1]} if shape else {}
    plain, sparing = (perturbed(small(shape, dropout=0.3, checkpointing=c, **attention)).train() for c in (False, True))
    found = []
    for net in (plain, sparing):
        x, t = given_input(shape)
        torch.manual_seed(5)  # of dropout, which must fall alike when a block runs again
        net(x.requires_grad_(), t).square().sum().backward()
        found.append([x.grad, *(p.grad for p in net.parameters())])
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(a, b)


def test_checkpointing_keeps_less():
    held = []
    for checkpointing in (False, True):
        net = perturbed(time_net(1, 1, (16, 16), [8, 8], blocks=4, checkpointing=checkpointing)).train()
        kept = {}

        def pack(tensor, kept=kept):
            kept[tensor.data_ptr()] = tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            net(torch.randn(2, 1, 16, 16), torch.arange(2))
        held.append(sum(kept.values()) - sum(p.numel() for p in net.parameters() if p.data_ptr() in kept))
    assert held[1] < held[0] / 2


@pytest.mark.parametrize(("shape", "checkpointing"), [((), False), ((9, 12), False), ((9, 12), True), ((4, 5, 6), False)], ids=str)
def test_compiles_in_one_graph(shape, checkpointing):
    net = perturbed(small(shape, embedding=2, checkpointing=checkpointing, **({"attention": [1]} if shape else {})))
    torch._dynamo.reset()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    arguments = (*given_input(shape), torch.randn(3, 2))
    torch.testing.assert_close(compiled(*arguments), net(*arguments))
    torch._dynamo.reset()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_half_precision(shape):
    net = perturbed(small(shape, attention=[1] if shape else []))
    x, t = given_input(shape)
    with torch.no_grad():
        full = net(x, t)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = net(x, t)
        assert (half.float() - full).norm() < 0.05 * full.norm()
        cast = net.to(torch.bfloat16)(x.to(torch.bfloat16), t)  # the time must not be rounded to 8 bits
        assert cast.dtype == torch.bfloat16
        assert (cast.float() - full).norm() < 0.1 * full.norm()


def test_channels_last_changes_nothing():
    net = perturbed(small((9, 12), attention=[1])).double()
    x, t = given_input((9, 12), dtype=torch.float64)
    plain = net(x, t)
    last = net.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last), t)
    torch.testing.assert_close(last, plain, rtol=1e-10, atol=1e-10)


def test_size_of_the_published_network():
    """B.11.1: channels 128 (1, 2, 2, 2), two blocks, attention at 16 x 16; 35.7 million, of which google/ddpm-cifar10-32 has exactly this.

    Beside it each block's shift has a scale here, and queries, keys and values no bias.
    """
    net = UNet(3, 3, (32, 32), [128, 256, 256, 256], blocks=2, attention=[1], dropout=0.1)
    blocks = [m for m in net.modules() if isinstance(m, FilmBlock)]
    scales = sum(b.out_channels * (512 + 1) for b in blocks)
    biases = sum(3 * m.norm.num_channels for m in net.modules() if isinstance(m, SelfAttention))
    assert sum(p.numel() for p in net.parameters()) - scales + biases == 35_746_307


@pytest.mark.parametrize("grad", [False, True])
def test_attention_is_softmax(grad):
    torch.manual_seed(0)
    layer = SelfAttention(8, head_channels=4).double()
    torch.nn.init.normal_(layer.out.weight)
    x = torch.randn(2, 8, 3, 5, dtype=torch.float64)
    tokens = F.group_norm(x, layer.norm.num_groups).flatten(2).mT
    heads = []
    for head in range(2):
        q, k, v = (tokens @ layer.qkv.weight[8 * part + 4 * head : 8 * part + 4 * head + 4].mT for part in range(3))
        heads.append(torch.softmax(q @ k.mT / math.sqrt(4), -1) @ v)
    expected = x + layer.out(torch.cat(heads, 2)).mT.reshape(x.shape)
    with torch.set_grad_enabled(grad):
        torch.testing.assert_close(layer(x), expected)


def test_sinusoids():
    t = torch.tensor([0, 250, 999])
    wave = sinusoids(t, 6)
    frequencies = torch.tensor([1.0, 10_000 ** (-1 / 3), 10_000 ** (-2 / 3)])
    torch.testing.assert_close(wave, torch.cat((torch.cos(t[:, None] * frequencies), torch.sin(t[:, None] * frequencies)), 1))
    assert sinusoids(t, 5).shape == (3, 5)
    assert sinusoids(t, 1).shape == (3, 1)
    assert sinusoids(t.double(), 4).dtype == torch.float64


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="levels 0 to 1"):
        UNet(1, 1, (8, 8), [8, 8], attention=[2])
    with pytest.raises(ConfigError, match="needs `channels`"):
        UNet(1, 1, (8, 8), [])
    with pytest.raises(ConfigError, match="See ResidualMLP"):
        UNet(1, 1, (), [8])
    with pytest.raises(ConfigError, match="needs `channels`"):
        ResidualMLP(1, 1, [])
    with pytest.raises(ConfigError, match="`head_channels`"):
        SelfAttention(8, 0)
