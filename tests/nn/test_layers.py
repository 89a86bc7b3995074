"""Layers: sizes, normalisation of each sample alone, blocks that start as the identity."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from medgen.nn import ResidualBlock, Resize, conv, group_norm


@given(st.integers(1, 64), st.integers(1, 4), st.integers(1, 5))
def test_normalisation_does_not_depend_on_the_batch(channels, size, batch):
    norm = group_norm(channels)
    x = torch.randn(batch, channels, size, size, generator=torch.Generator().manual_seed(channels))
    together = norm(x)
    assert torch.equal(together, torch.cat([norm(row[None]) for row in x])), "and one sample of one position is no error"


@given(st.integers(2, 512))
def test_groups_divide_the_channels_and_have_at_least_two(channels):
    norm = group_norm(channels)
    assert isinstance(norm, nn.GroupNorm)
    assert channels % norm.num_groups == 0
    assert 1 <= norm.num_groups <= 8
    assert channels // norm.num_groups >= 2


@pytest.mark.parametrize("dim", [1, 2, 3])
@given(size=st.integers(1, 9), stride=st.sampled_from([1, 2]))
def test_convolutions_keep_or_halve_rounding_up(dim, size, stride):
    assert conv(dim, 1, 2, stride=stride)(torch.zeros(1, 1, *[size] * dim)).shape == (1, 2, *[-(-size // stride)] * dim)


@pytest.mark.parametrize("dim", [0, 1, 2, 3])
def test_a_residual_block_starts_as_the_identity_and_can_leave_it(dim):
    block = ResidualBlock(dim, 4)
    x = torch.randn(2, 4, *[3] * dim)
    y = block(x)
    assert torch.equal(y, x)
    y.square().sum().backward()
    assert block.conv2.weight.grad.abs().max() > 0


@given(st.lists(st.integers(1, 9), min_size=1, max_size=3), st.lists(st.integers(1, 9), min_size=3, max_size=3))
def test_resizing_repeats_the_nearest(old, new):
    size = tuple(new[: len(old)])
    x = torch.arange(float(torch.tensor(old).prod())).view(1, 1, *old)
    y = Resize(size)(x)
    assert y.shape == (1, 1, *size)
    for position in ((0,) * len(old), tuple(s - 1 for s in size)):
        source = tuple(p * o // s for p, o, s in zip(position, old, size, strict=True))
        assert y[(0, 0, *position)] == x[(0, 0, *source)]
