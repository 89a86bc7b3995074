"""Encoder and decoder take any size and any number of axes, and use all that they are given."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medgen.nn import Decoder, Encoder, level_shapes

shapes = st.integers(0, 3).flatmap(lambda dim: st.tuples(*[st.integers(1, {0: 1, 1: 40, 2: 13, 3: 6}[dim])] * dim))
widths = st.lists(st.integers(1, 12), max_size=4)


@given(shapes, widths, st.integers(1, 3), st.integers(0, 2), st.integers(0, 3), st.integers(1, 3))
@settings(max_examples=60)
def test_any_shape_there_and_back(shape, channels, in_channels, blocks, embedding, batch):
    torch.manual_seed(0)
    encoder = Encoder(in_channels, shape, channels, 5, blocks=blocks, embedding=embedding)
    decoder = Decoder(5, in_channels, shape, channels, blocks=blocks)
    x = torch.randn(batch, in_channels, *shape)
    c = torch.randn(batch, embedding) if embedding else None
    z = encoder(x, c)
    assert z.shape == (batch, 5)
    back = decoder(z)
    assert back.shape == x.shape
    assert bool(torch.isfinite(back).all())


@given(shapes, st.lists(st.integers(4, 12), min_size=1, max_size=4))
@settings(max_examples=40)
def test_the_code_depends_on_the_input_at_any_size(shape, channels):
    """A normalisation over too few values would make every input the same."""
    torch.manual_seed(1)
    encoder = Encoder(1, shape, channels, 3).double()
    x = torch.randn(2, 1, *shape, dtype=torch.float64)
    x.requires_grad_()
    z = encoder(x)
    assert (z[0] - z[1]).abs().max() > 1e-4
    (gradient,) = torch.autograd.grad(z[0].sum(), x)
    assert gradient[0].abs().max() > 1e-6
    assert gradient[1].abs().max() == 0, "samples of a batch do not mix"


@pytest.mark.parametrize(("shape", "channels"), [((2,), [4, 4]), ((4, 4), [8, 8, 8]), ((2, 2, 2), [4, 6])])
def test_at_a_single_position_more_is_left_than_signs(shape, channels):
    torch.manual_seed(0)
    codes = Encoder(1, shape, channels, 3).double()(torch.randn(40, 1, *shape, dtype=torch.float64))
    assert torch.pdist(codes).min() > 1e-4


@pytest.mark.parametrize("shape", [(), (7,), (6, 5), (3, 4, 2)])
def test_every_part_of_the_network_learns(shape):
    torch.manual_seed(0)
    encoder, decoder = Encoder(2, shape, [4, 8], 3, embedding=2), Decoder(3, 2, shape, [4, 8])
    x = torch.randn(4, 2, *shape)
    decoder(encoder(x, torch.randn(4, 2))).square().mean().backward()
    for network in (encoder, decoder):
        for name, parameter in network.named_parameters():
            assert parameter.grad is not None, name
    # The last layer of a residual block starts at zero, which for one step shields what is before it in the block.
    dead = {n for network in (encoder, decoder) for n, p in network.named_parameters() if p.grad.abs().max() == 0}
    assert all("conv1" in n or "norm" in n for n in dead), dead


def test_the_embedding_changes_the_code():
    encoder = Encoder(1, (8, 8), [4, 8], 3, embedding=2)
    x = torch.randn(1, 1, 8, 8)
    assert not torch.equal(encoder(x, torch.zeros(1, 2)), encoder(x, torch.ones(1, 2)))


def test_without_channels_both_are_affine():
    encoder, decoder = Encoder(2, (3, 3), [], 4), Decoder(4, 2, (3, 3), [])
    x, y = torch.randn(2, 1, 2, 3, 3)
    for f, a, b in ((encoder, x, y), (decoder, torch.randn(1, 4), torch.randn(1, 4))):
        torch.testing.assert_close(f(0.3 * a + 0.7 * b), 0.3 * f(a) + 0.7 * f(b))


@given(st.lists(st.integers(1, 200), max_size=3), st.integers(1, 8))
def test_levels_halve_rounding_up_and_never_vanish(shape, levels):
    found = level_shapes(shape, levels)
    assert len(found) == levels
    assert found[0] == tuple(shape)
    for level, sizes in enumerate(found):
        assert sizes == tuple(math.ceil(s / 2**level) for s in shape)
