"""What the tests of coupling share: shapes, inputs in several storages, the definition element by element."""

from __future__ import annotations

import math

import pytest
import torch

from medgen.ops.reference import affine_coupling as reference

SHAPES = [
    (1, 1),
    (3, 7),
    (2, 64),
    (5, 67),
    (2, 3, 5),
    (3, 4, 5, 6),
    (2, 5, 3, 4, 5),
    (1, 2, 3, 7),
    (0, 4),
    (2, 0),
    (3, 1, 2, 2),
    (2, 2, 0, 3),
]


def make(shape, mask, *, full=False, dtype=torch.float32, seed=0, scale=1.0):
    """x, log_scale, shift."""
    generator = torch.Generator().manual_seed(seed)
    number, channels = reference.MASKS.index(mask), shape[1]
    p = channels if full else reference.transformed(channels, number, channels // 2)
    size = (shape[0], p, *shape[2:])
    return (
        torch.randn(shape, generator=generator, dtype=dtype),
        scale * torch.randn(size, generator=generator, dtype=dtype),
        torch.randn(size, generator=generator, dtype=dtype),
    )


def is_transformed(mask, index, channels):
    """The definition, for one element's index (c, *s)."""
    number = reference.MASKS.index(mask)
    c = index[0]
    if number >= 4:
        return sum(index[1:]) % 2 == number % 2
    return (c < channels // 2, c >= channels // 2, c % 2 == 0, c % 2 == 1)[number]


def by_hand(x, s, t, mask, b, inverse):
    """One element after another, on Python floats."""
    y, log_det, full = x.clone(), [0.0] * len(x), s.shape[1] == x.shape[1]
    for index in torch.cartesian_prod(*(torch.arange(n) for n in x.shape)).reshape(-1, x.dim()).tolist():
        if not is_transformed(mask, index[1:], x.shape[1]):
            continue
        at = list(index)
        if not full:
            at[1] = {"first": at[1], "second": at[1] - x.shape[1] // 2}.get(mask, at[1] // 2)
        scale, shift, value = b(float(s[tuple(at)])), float(t[tuple(at)]), float(x[tuple(index)])
        y[tuple(index)] = (value - shift) * math.exp(-scale) if inverse else value * math.exp(scale) + shift
        log_det[index[0]] += -scale if inverse else scale
    return y, torch.tensor(log_det, dtype=x.dtype)


FORMULAS = {"none": lambda s: s, "tanh": lambda s: 1.5 * math.tanh(s / 1.5), "soft": lambda s: s / (1 + abs(s) / 1.5)}


def fits(shape, mask):
    return not mask.startswith("checker") or 3 <= len(shape) <= 5


shapes_and_masks = pytest.mark.parametrize(("shape", "mask"), [(s, m) for s in SHAPES for m in reference.MASKS if fits(s, m)])


def arranged(v, storage):
    """The same values in another storage."""
    if storage == "transposed":
        return v.transpose(0, -1).contiguous().transpose(0, -1)
    if storage == "unaligned":
        return torch.cat([v.new_zeros(1), v.flatten()])[1:].view(v.shape)
    if storage == "strided rows":
        return torch.cat([v, v], 1)[:, : v.shape[1]]
    return v[:1].expand_as(v) if storage == "expanded" and len(v) else v


def assert_relative(got, want, tolerance):
    assert got.shape == want.shape
    assert got.dtype == want.dtype
    finite = want.isfinite()
    assert torch.equal(finite, got.isfinite())
    assert ((got - want).abs() <= tolerance * (want.abs() + 1))[finite].all()
