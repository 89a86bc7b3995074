"""Every building block of flows: inverse, log-determinant against the Jacobian of autograd, precision."""

from __future__ import annotations

import math
from functools import lru_cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from medgen.errors import ConfigError
from medgen.nn.flow import (
    ActNorm,
    AdditiveCoupling,
    AffineCoupling,
    Chain,
    ConvConditioner,
    DiagonalScale,
    InvertibleConv,
    Logit,
    MlpConditioner,
    MultiScale,
    OnFirst,
    SplineCoupling,
    Squeeze,
    Transform,
    coupling_sizes,
    initialise,
)

MASKS = ("first", "second", "even", "odd", "checkerboard_even", "checkerboard_odd")
BINS = 4


def shaken(module: torch.nn.Module, size: float = 0.3) -> torch.nn.Module:
    """Zero-initialised layers would make every coupling the identity."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in module.parameters():
            p.add_(size * torch.randn(p.shape, generator=generator))
    return module


def coupling(kind: str, mask: str, shape: tuple[int, ...], context: int = 0, width: int = 8) -> Transform:
    channels, dim = shape[0], len(shape) - 1
    seen, changed = coupling_sizes(channels, mask)
    emitted = changed * {"affine": 2, "additive": 1, "spline": 3 * BINS - 1}[kind]
    if dim:
        net: torch.nn.Module = ConvConditioner(dim, seen, emitted, width=width, blocks=1, context=context)
    else:
        net = MlpConditioner(seen, emitted, width=width, context=context)
    if kind == "affine":
        return AffineCoupling(net, mask=mask)
    return AdditiveCoupling(net, mask=mask) if kind == "additive" else SplineCoupling(net, bins=BINS, mask=mask)


def jacobian(transform: Transform, x: Tensor, context: Tensor | None) -> Tensor:
    """ln |det| of each sample, [B]."""
    found = []
    for row in range(len(x)):
        c = None if context is None else context[row : row + 1]
        square = torch.autograd.functional.jacobian(lambda v, c=c: transform(v, c)[0].flatten(), x[row : row + 1])
        found.append(torch.linalg.slogdet(square.reshape(x[0].numel(), -1)).logabsdet)
    return torch.stack(found)


def check(transform: Transform, x: Tensor, context: Tensor | None = None, atol: float = 1e-9) -> None:
    z, log_det = transform(x, context)
    torch.testing.assert_close(log_det, jacobian(transform, x, context), atol=1e-8, rtol=1e-8)
    back, minus = transform.inverse(z, context)
    torch.testing.assert_close(back, x, atol=atol, rtol=0)
    torch.testing.assert_close(minus, -log_det, atol=1e-8, rtol=0)


@pytest.mark.parametrize("shape", [(5,), (3, 4), (2, 3, 4), (3, 2, 2, 3)], ids=str)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("kind", ["affine", "additive", "spline"])
def test_couplings(kind, mask, shape):
    if len(shape) == 1 and mask.startswith("checkerboard"):
        pytest.skip("a vector has no positions")
    torch.manual_seed(0)
    part = shaken(coupling(kind, mask, shape, context=2)).double()
    check(part, 2 * torch.randn(2, *shape, dtype=torch.float64), torch.randn(2, 2, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(4,), (3, 5), (2, 3, 4), (2, 2, 2, 3)], ids=str)
@pytest.mark.parametrize(
    "make",
    [
        lambda shape: ActNorm(shape[0]),
        DiagonalScale,
        lambda shape: InvertibleConv(shape[0]),
        lambda shape: OnFirst(shaken(DiagonalScale((2, *shape[1:]))), 2),
        lambda shape: Chain([InvertibleConv(shape[0]), ActNorm(shape[0])]),
    ],
    ids=["actnorm", "diagonal", "conv", "on-first", "chain"],
)
def test_linear_parts(make, shape):
    torch.manual_seed(1)
    check(shaken(make(shape), 0.1).double(), torch.randn(2, *shape, dtype=torch.float64))


def test_the_lu_form_is_the_matrix():
    """Forward is W x with W = P L (U + D): against the matrix read off the unit vectors."""
    torch.manual_seed(0)
    mix = shaken(InvertibleConv(5), 0.2).double()
    w = mix(torch.eye(5, dtype=torch.float64))[0].T
    torch.testing.assert_close(mix(torch.eye(5, dtype=torch.float64))[1][0], torch.linalg.slogdet(w).logabsdet)
    x = torch.randn(3, 5, 4, 2, dtype=torch.float64)
    torch.testing.assert_close(mix(x)[0], torch.einsum("ij,bj...->bi...", w, x))
    torch.testing.assert_close(mix(x)[1], 8 * torch.linalg.slogdet(w).logabsdet.expand(3))
    torch.testing.assert_close(mix.inverse(x)[0], torch.einsum("ij,bj...->bi...", torch.linalg.inv(w), x))


def test_it_starts_as_a_rotation():
    for channels in (1, 2, 7, 32):
        w = InvertibleConv(channels)(torch.eye(channels))[0]
        torch.testing.assert_close(w @ w.T, torch.eye(channels), atol=1e-5, rtol=0)


def test_initialise_normalises_every_layer_in_order():
    torch.manual_seed(0)
    x = torch.randn(64, 2, 4, 4) * torch.tensor([3.0, 0.01]).view(1, 2, 1, 1) + 7
    chain = Chain([ActNorm(2), shaken(coupling("affine", "second", (2, 4, 4)), 1.0), ActNorm(2)])
    alone = chain(x[:1])[0]
    assert torch.equal(chain.parts[0].log_scale, torch.zeros(2)), "the first forward of whatever comes initialises nothing"
    initialise(chain, x)
    for depth in (1, 3):
        h = Chain(chain.parts[:depth])(x)[0].transpose(0, 1).flatten(1)
        torch.testing.assert_close(h.mean(1), torch.zeros(2), atol=1e-3, rtol=0)
        torch.testing.assert_close(h.std(1), torch.ones(2), atol=1e-3, rtol=0)
    assert not torch.equal(chain(x[:1])[0], alone)
    torch.testing.assert_close(chain(x[:3])[0], chain(x)[0][:3])


def test_a_constant_channel_keeps_its_scale():
    norm = ActNorm(2)
    initialise(norm, torch.tensor([[5.0, 1.0], [5.0, 3.0]]))
    assert norm(torch.tensor([[5.0, 1.0]]))[0].tolist() == [[0.0, -1.0]]
    assert norm.log_scale[0] == 0


@given(shape=st.lists(st.integers(1, 7), min_size=0, max_size=3), channels=st.integers(1, 3))
def test_squeeze_moves_blocks_and_loses_nothing(shape, channels):
    squeeze = Squeeze(shape)
    x = torch.arange(2 * channels * math.prod(shape), dtype=torch.float32).view(2, channels, *shape)
    z, log_det = squeeze(x)
    evens = sum(size % 2 == 0 for size in shape)
    assert z.shape == (2, channels * 2**evens, *squeeze.out_shape)
    assert log_det.tolist() == [0.0, 0.0]
    assert torch.equal(squeeze.inverse(z)[0], x)
    if evens == len(shape):  # the channels of one position are the block of 2^n positions that it stands for
        block = x[0, 0][tuple(slice(0, 2) for _ in shape)].flatten()
        assert torch.equal(z[0, : 2**evens].flatten(1)[:, 0] if shape else z[0, :1], block)


@pytest.mark.parametrize("shape", [(1, 8), (1, 4, 6), (2, 5, 4), (1, 4, 2, 2), (1, 3, 5)], ids=str)
def test_multi_scale(shape):
    torch.manual_seed(0)
    channels, *space = shape
    dim = len(space)

    def after(channels, _):
        return [ActNorm(channels), InvertibleConv(channels), coupling("affine", "second", (channels, *[1] * dim), width=4)]

    pyramid = MultiScale(
        channels,
        space,
        3,
        after=after,
        before=lambda channels, _: [coupling("affine", "checkerboard_even", (channels, *[1] * dim), width=4)],
        prior=lambda channels, _: [coupling("affine", "second", (channels, *[1] * dim), width=4)],
    )
    check(shaken(pyramid, 0.1).double(), torch.randn(2, *shape, dtype=torch.float64))


def test_resolutions():
    assert MultiScale(1, (28, 28), 3, after=lambda *_: ()).resolutions == [(14, 14), (7, 7)]
    assert MultiScale(1, (9, 12, 7), 4, after=lambda *_: ()).resolutions == [(9, 6, 7), (9, 3, 7)]
    assert MultiScale(1, (5,), 4, after=lambda *_: ()).resolutions == [(5,)]


def test_half_of_the_channels_leave_at_each_resolution():
    """What leaves at the first resolution is untouched by the second: multiplying there changes exactly half of the values."""
    doubled = MultiScale(1, (4, 4), 2, after=lambda channels, shape: [shaken(DiagonalScale((channels, *shape)))] if shape == (1, 1) else [])
    x = torch.ones(1, 1, 4, 4)
    pyramid = MultiScale(1, (4, 4), 2, after=lambda channels, shape: [shaken(DiagonalScale((channels, *shape)))] if shape == (2, 2) else [])
    assert int((doubled(x)[0] != x).sum()) == 8
    assert int((pyramid(x)[0] != x).sum()) == 16


@pytest.mark.parametrize("alpha", [1e-6, 0.05, 0.3])
def test_logit(alpha):
    x = torch.tensor([[-1.0, -0.999, 0.2, 3.0]], dtype=torch.float64)
    check(Logit(alpha, -1.0, 3.0), x[:, 1:3])
    z = Logit(alpha, -1.0, 3.0)(x)[0]
    assert z.isfinite().all()
    torch.testing.assert_close(torch.sigmoid(z), alpha + (1 - 2 * alpha) * (x + 1) / 4)


def test_the_inverse_logit_saturates():
    z = torch.tensor([[-math.inf, -1e30, -50.0, 50.0, 1e30, math.inf]])
    logit = Logit(0.05, -2.0, 5.0)
    x, log_det = logit.inverse(z)
    margin = 0.05 * 7 / 0.9
    torch.testing.assert_close(x, torch.tensor([[-2.0 - margin] * 3 + [5.0 + margin] * 3]))
    assert logit.margin == pytest.approx(margin)
    assert not log_det.isnan().any()
    inside, outside = logit(torch.tensor([[5.0], [5.5]]))[1]
    assert inside.isfinite()
    assert outside == -math.inf
    with pytest.raises(ConfigError, match=r"`alpha` must be in \(0, 0.5\)"):
        Logit(0.0)


@lru_cache
def deep(dtype: torch.dtype) -> Chain:
    torch.manual_seed(3)
    parts: list[Transform] = []
    for number in range(50):
        if number % 5 == 0:
            parts += [ActNorm(6), InvertibleConv(6)]
        part = coupling(("affine", "additive", "spline")[number % 3], MASKS[number % 4], (6,))
        torch.nn.init.normal_(part.conditioner.last.weight, std=0.1)
        parts.append(part)
    return Chain(parts).to(dtype)


@settings(max_examples=15)
@given(power=st.floats(-3, 3), seed=st.integers(0, 2**20), dtype=st.sampled_from([torch.float32, torch.float64]))
def test_fifty_layers_invert(power, seed, dtype):
    """To 1e-4 in float32 and 1e-10 in float64 of the size of x, from 1e-3 to 1e3, initialised on data of that size as families are."""
    chain, scale = deep(dtype), 10.0**power
    x = scale * torch.randn(64, 6, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)
    initialise(chain, x)
    with torch.no_grad():
        z, log_det = chain(x)
        back, minus = chain.inverse(z)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-10
    assert (back - x).abs().max() <= tolerance * scale
    assert (minus + log_det).abs().max() <= tolerance * log_det.abs().max()


@pytest.mark.parametrize("kind", ["affine", "additive", "spline"])
def test_under_autocast_the_inverse_and_the_log_determinant_stay_in_float32(kind):
    torch.manual_seed(0)
    chain = shaken(Chain([ActNorm(4), InvertibleConv(4), coupling(kind, "second", (4, 6, 6)), coupling(kind, "even", (4, 6, 6))]), 0.1)
    x = torch.randn(3, 4, 6, 6)
    with torch.autocast("cpu", torch.bfloat16):
        z, log_det = chain(x)
        back, minus = chain.inverse(z)
    assert z.dtype == log_det.dtype == back.dtype == torch.float32
    torch.testing.assert_close(back, x, atol=1e-4, rtol=0)
    torch.testing.assert_close(minus, -log_det, atol=1e-2, rtol=1e-5)


def test_context_is_added_at_every_position():
    net = shaken(ConvConditioner(2, 1, 2, width=8, context=3))
    x = torch.randn(2, 1, 4, 4)
    a, b = net(x, torch.zeros(2, 3)), net(x, torch.ones(2, 3))
    assert not torch.isclose(a, b).any()


def test_identity_parameters_of_a_spline_give_the_identity():
    coupling = SplineCoupling(MlpConditioner(2, 2 * 23), bins=8)
    with torch.no_grad():
        coupling.conditioner.last.bias.copy_(SplineCoupling.identity(8).repeat(2))
    x = 3 * torch.randn(50, 4)
    z, log_det = coupling(x)
    torch.testing.assert_close(z, x, atol=1e-5, rtol=0)
    torch.testing.assert_close(log_det, torch.zeros(50), atol=1e-5, rtol=0)
