"""Assertions whose messages say what was expected and what came."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["close", "expect", "finite", "positions", "same_bits"]


def expect(holds: bool, sentence: str) -> None:
    """Raise AssertionError with the sentence where `holds` is false. Unlike `assert`, it survives `python -O`."""
    if not holds:
        raise AssertionError(sentence)


def finite(value: Tensor, what: str) -> None:
    """Every number of `value` is finite."""
    bad = ~torch.isfinite(value)
    expect(not bool(bad.any()), f"{what} must be finite; got {int(bad.sum())} of {value.numel()} values that are NaN or infinite.")


def close(got: Tensor, wanted: Tensor, what: str, *, relative: float, absolute: float) -> None:
    """|got - wanted| <= absolute + relative * largest |wanted|, of equal shape, and finite."""
    expect(got.shape == wanted.shape, f"{what}: shapes must be equal; got {tuple(got.shape)} and {tuple(wanted.shape)}.")
    finite(got, what)
    finite(wanted, what)
    if not got.numel():
        return
    error = (got.double() - wanted.double()).abs().max().item()
    limit = absolute + relative * wanted.double().abs().max().item()
    expect(error <= limit, f"{what}: the largest difference must be at most {limit:.3g}; got {error:.3g}.")


def same_bits(got: Tensor, wanted: Tensor, what: str) -> None:
    """Equal to the last bit."""
    expect(got.dtype == wanted.dtype, f"{what}: types must be equal; got {got.dtype} and {wanted.dtype}.")
    expect(got.shape == wanted.shape, f"{what}: shapes must be equal; got {tuple(got.shape)} and {tuple(wanted.shape)}.")
    differ = int((got != wanted).sum())
    size = (got.double() - wanted.double()).abs().max().item() if differ else 0.0
    expect(not differ, f"{what}: must be equal to the last bit; got {differ} of {got.numel()} values that differ, by up to {size:.3g}.")


def positions(mask: Tensor, limit: int = 4) -> str:
    """The first places where a mask is set, for messages.

    >>> positions(torch.tensor([True, False, True]))
    '(0), (2)'
    """
    found = mask.nonzero().tolist()
    text = ", ".join("(" + ", ".join(map(str, place)) + ")" for place in found[:limit])
    return text + (f" and {len(found) - limit} more" if len(found) > limit else "")
