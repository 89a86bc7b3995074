"""Inpainting: what is known stays, and what is filled in follows from the seed, the known values and the condition."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from medgen.interfaces import Noise, evaluating
from medgen.registry import FamilySpec
from medgen.testing.expect import close, expect, finite, positions, same_bits
from medgen.testing.law import law
from medgen.testing.laws.sampling import variations
from medgen.testing.subject import Case, Subject
from medgen.testing.verbs import known_of

N = 6


def inpaints(spec: FamilySpec) -> bool:
    """Whether it fills in what is not known."""
    return "inpainter" in spec.interfaces


@law("inpainting", applies=inpaints)
def known_values_come_back(subject: Subject) -> None:
    """What is known comes back to the bit, from the hook already; the rest is finite, of the model's type, within `output_range`."""
    for case in subject.cases():
        model: Any = subject.model(case)
        x, half, noise = subject.x(case, N), _half(model, N), Noise(3, torch.arange(N))
        for name, known in {"half": half, "all": torch.ones_like(half), "none": torch.zeros_like(half)}.items():
            what, every = f"{case}, {name} known", known.expand_as(x)
            found = model.inpaint(x, known, condition=subject.condition(case, N), noise=noise)
            with evaluating(model):
                hook = model._inpaint(torch.where(every, x, 0), every, subject.condition(case, N), noise)
            expect(hook.shape == x.shape, f"{what}: `_inpaint` must give shape {tuple(x.shape)}; got {tuple(hook.shape)}.")
            expect(hook.dtype == model.dtype, f"{what}: `_inpaint` must give {model.dtype}; got {hook.dtype}.")
            same_bits(hook[every], x[every], f"{what}: the known values of `_inpaint` and the input")
            same_bits(found[every], x[every], f"{what}: the known values and the input")
            expect(not found.requires_grad, f"{what}: what is filled in must not require gradients.")
            filled = found[~every]
            finite(filled, f"{what}: what is filled in")
            if model.output_range is not None and filled.numel():
                (low, high), least, most = model.output_range, filled.min().item(), filled.max().item()
                inside = low - 1e-5 <= least and most <= high + 1e-5
                expect(inside, f"{what}: what is filled in must lie in `output_range` {low} to {high}; got {least:.4g} to {most:.4g}.")


@law("inpainting", applies=inpaints)
def inpainting_is_repeatable(subject: Subject) -> None:
    """The same seed fills in the same to the last bit, also in a second model with the same weights."""
    for case in subject.main():
        model: Any = subject.model(case, fresh=True)
        first, again = (_fill(subject, case, model, _half(model, N), N) for _ in range(2))
        same_bits(again, first, f"{case}: two calls with one seed")
        twin = _fill(subject, case, subject.model(case, fresh=True), _half(model, N), N)
        same_bits(twin, first, f"{case}: two models with the same weights")


@law("inpainting", applies=inpaints)
def inpainting_is_independent_of_the_batch(subject: Subject) -> None:
    """Sample i is filled in alike alone, in any batch, in any order and any micro-batch, to rounding."""
    for case in subject.main():
        model: Any = subject.model(case, dtype=torch.float64)
        x, condition = subject.x(case, N, dtype=torch.float64), subject.condition(case, N, dtype=torch.float64)
        known, noise = _half(model, N), Noise(5, torch.arange(N) + 11)
        every = model.inpaint(x, known, condition=condition, noise=noise)
        for rows in ([0], [4, 1], [5, 4, 3, 2, 1, 0], [2, 2]):
            chosen = torch.tensor(rows)
            part = model.inpaint(x[chosen], known[chosen], condition=condition[chosen], noise=noise[chosen], micro_batch=2)
            close(part, every[chosen], f"{case}: samples {rows} of {N}, alone and within the batch", relative=1e-6, absolute=1e-6)


@law("inpainting", applies=inpaints)
def every_unknown_value_reacts_to_the_seed(subject: Subject) -> None:
    """Another seed fills in every unknown value anew, and so does another sample number."""
    for case in subject.main():
        model: Any = subject.model(case, dtype=torch.float64)
        n = _count(case)
        for known in _both(model):
            numbers = torch.arange(n)
            first, seed, number = (
                _fill(subject, case, model, known, n, Noise(*of)) for of in ((3, numbers), (4, numbers), (3, numbers + n))
            )
            for what, other in {"the seed": seed, "the number of the sample": number}.items():
                still = ~((other != first).any(0) | known[0])
                expect(not bool(still.any()), f"{case}: every unknown value must react to {what}; these never do: {positions(still)}.")


@law("inpainting", applies=inpaints)
def unknown_values_follow_the_known_ones(subject: Subject) -> None:
    """Other known values lead to other unknown ones: what is filled in is no sample put behind a mask."""
    for case in subject.main():
        model: Any = subject.model(case, dtype=torch.float64)
        n = _count(case)
        moved = False
        for known in _both(model):
            first, other = (_fill(subject, case, model, known, n, seed=seed) for seed in (0, 1))
            moved |= bool(((first != other) & ~known).any())
        expect(moved, f"{case}: unknown values must follow from the known ones; they are the same whatever is known.")


@law("inpainting", applies=lambda spec: inpaints(spec) and bool(spec.capabilities.conditions))
def unknown_values_react_to_the_condition(subject: Subject) -> None:
    """Each slot, and each attribute and channel of it, moves what is filled in."""
    for case in subject.main(conditioned=True):
        model: Any = subject.model(case, dtype=torch.float64)
        n = _count(case)
        x, base, known = subject.x(case, n, dtype=torch.float64), subject.condition(case, n, dtype=torch.float64), _both(model)[0]
        first = model.inpaint(x, known, condition=base, noise=2)
        for slot in case.conditions:
            for what, other in variations(slot, base):
                change = bool((model.inpaint(x, known, condition=other, noise=2) != first).any())
                expect(change, f"{case}: what is filled in must react to {what}; it does not.")


def _half(model: Any, n: int) -> Tensor:
    """A mask of its own for each sample."""
    return known_of(model, Noise(1, torch.arange(n)))


def _both(model: Any) -> tuple[Tensor, Tensor]:
    """One mask for all samples, and its opposite; each leaves something open."""
    first = _half(model, 1)
    if bool(first.all()) or not bool(first.any()):
        first.view(-1)[0] = ~first.view(-1)[0]
    return first, ~first


def _count(case: Case) -> int:
    return 256 if case.image_spec.content == "labels" else 16  # a class changes now and then only


def _fill(subject: Subject, case: Case, model: Any, known: Tensor, n: int, noise: Noise | int = 3, *, seed: int = 0) -> Tensor:
    x, condition = subject.x(case, n, seed=seed, dtype=model.dtype), subject.condition(case, n, dtype=model.dtype)
    found: Tensor = model.inpaint(x, known, condition=condition, noise=noise)
    return found
