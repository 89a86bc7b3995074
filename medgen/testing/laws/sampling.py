"""Sampling: sample i is a function of (weights, seed, i, condition i), and of all of them."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medgen.interfaces import Condition, Noise
from medgen.registry import ConditionSpec, FamilySpec
from medgen.testing.expect import close, expect, finite, positions, same_bits
from medgen.testing.law import SkipLaw, law
from medgen.testing.strategies import hidden
from medgen.testing.subject import Subject
from medgen.testing.verbs import call, inputs_of, verbs_of

N = 6


def generates(spec: FamilySpec) -> bool:
    """Whether it draws samples."""
    return "generator" in spec.interfaces


def conditional(spec: FamilySpec) -> bool:
    """Whether it takes any condition."""
    return bool(spec.capabilities.conditions)


@law("sampling", applies=generates)
def samples_have_shape_and_range(subject: Subject) -> None:
    """n samples are [n, C, *S], finite, of the model's type, without gradients, and within `output_range`."""
    for case in subject.cases():
        model: Any = subject.model(case)
        for n in (0, 1, N):
            found = model.sample(n, condition=subject.condition(case, n))
            wanted = (n, *case.image_spec.size)
            expect(tuple(found.shape) == wanted, f"{case}: {n} samples must have shape {wanted}; got {tuple(found.shape)}.")
            expect(found.dtype == model.dtype, f"{case}: samples must be {model.dtype}; got {found.dtype}.")
            expect(not found.requires_grad, f"{case}: samples must not require gradients.")
            finite(found, f"{case}: samples")
            if model.output_range is not None and n:
                (low, high), least, most = model.output_range, found.min().item(), found.max().item()
                inside = low - 1e-5 <= least and most <= high + 1e-5
                expect(inside, f"{case}: samples must lie in `output_range` {low} to {high}; got {least:.4g} to {most:.4g}.")


@law("sampling", applies=lambda spec: generates(spec) and "labels" in spec.capabilities.contents)
def label_samples_are_distributions(subject: Subject) -> None:
    """A sample of a label map is a distribution over the classes at every position: not negative, and of sum 1."""
    for case in subject.cases(content="labels"):
        model: Any = subject.model(case)
        found = model.sample(N, condition=subject.condition(case, N))
        expect(bool((found >= 0).all()), f"{case}: shares of classes must not be negative; got {found.min().item():.3g}.")
        close(found.sum(1), torch.ones_like(found[:, 0]), f"{case}: the sum over classes and 1", relative=0, absolute=1e-4)


@law("sampling", applies=generates)
def same_seed_same_bits(subject: Subject) -> None:
    """The same seed gives the same samples to the last bit, also in a second model with the same weights."""
    for case in subject.main():
        model: Any = subject.model(case, fresh=True)
        twin: Any = subject.model(case, fresh=True)
        condition = subject.condition(case, N)
        first = model.sample(N, condition=condition, noise=3)
        same_bits(model.sample(N, condition=condition, noise=3), first, f"{case}: two calls with one seed")
        same_bits(twin.sample(N, condition=condition, noise=3), first, f"{case}: two models with the same weights")


@law("sampling", applies=generates)
def seeds_and_samples_differ(subject: Subject) -> None:
    """Another seed gives other samples, and sample i is not sample j."""
    for case in subject.main():
        model: Any = subject.model(case)
        condition = subject.condition(case, 1)[torch.zeros(N, dtype=torch.int64)] if case.conditions else None
        first, other = (model.sample(N, condition=condition, noise=seed) for seed in (3, 4))
        expect(not torch.equal(first, other), f"{case}: the samples of seeds 3 and 4 must differ; they are equal.")
        alike = [(i, j) for i in range(N) for j in range(i) if torch.equal(first[i], first[j])]
        expect(len(alike) < N, f"{case}: samples of one seed must differ; equal pairs: {alike}.")


@law("sampling", applies=generates)
def independent_of_batch(subject: Subject) -> None:
    """Sample i is the same alone, in any batch, in any order and any micro-batch, to rounding."""
    for case in subject.main():
        model: Any = subject.model(case, dtype=torch.float64)
        condition, index = subject.condition(case, N, dtype=torch.float64), torch.arange(N) + 11
        every = model.sample(N, condition=condition, noise=Noise(5, index))
        for rows in ([0], [4, 1], [5, 4, 3, 2, 1, 0], [2, 2]):
            chosen = torch.tensor(rows)
            part = model.sample(len(rows), condition=condition[chosen], noise=Noise(5, index[chosen]), micro_batch=2)
            what = f"{case}: samples {rows} of {N}, alone and within the batch"
            close(part, every[chosen], what, relative=1e-6, absolute=1e-6)


@law("sampling", applies=generates)
def independent_of_ranks(subject: Subject) -> None:
    """Two ranks that share the samples by cells give the bits of one rank."""
    for case in subject.main():
        model: Any = subject.model(case)
        condition, index = subject.condition(case, 8), torch.arange(8)
        alone = model.sample(8, condition=condition, noise=Noise(1, index), micro_batch=4)
        ranks = [model.sample(4, condition=condition[r], noise=Noise(1, index[r]), micro_batch=4) for r in (slice(0, 4), slice(4, 8))]
        same_bits(torch.cat(ranks), alone, f"{case}: two ranks and one")


@law("sampling")
def global_rng_is_untouched(subject: Subject) -> None:
    """No verb reads or changes the random state of torch, NumPy or Python."""
    for case in subject.main():
        model = subject.model(case)
        given = inputs_of(subject, model, case, 4)
        for verb in verbs_of(model):
            found = []
            for seed in (0, 1):
                torch.manual_seed(seed)
                random.seed(seed)
                np.random.seed(seed)
                before = _random_state()
                found.append(call(model, verb, given))
                expect(_random_state() == before, f"{case}: `{verb}` must leave the global random state alone; it changed it.")
            same_bits(found[1], found[0], f"{case}: `{verb}` under two global seeds")


def _random_state() -> tuple[bytes, Any, Any]:
    numpys: Any = np.random.get_state()
    return torch.random.get_rng_state().numpy().tobytes(), random.getstate(), (numpys[1].tobytes(), numpys[2:])


@law("sampling")
def verbs_change_nothing(subject: Subject) -> None:
    """No verb changes parameters, buffers, modes, or its own input; the second call gives what the first gave."""
    for case in subject.main():
        model = subject.model(case).train()
        given = inputs_of(subject, model, case, 3)
        state = {name: value.clone() for name, value in model.state_dict().items() if isinstance(value, Tensor)}
        kept = {"x": given.x.clone(), "z": given.z.clone(), **{name: value.clone() for name, value in given.condition.values.items()}}
        for verb in verbs_of(model):
            first = call(model, verb, given)
            now = model.state_dict()
            changed = [name for name, value in state.items() if not torch.equal(now[name], value)]
            expect(not changed, f"{case}: `{verb}` must change no weight or buffer; it changed {changed}.")
            quiet = [name for name, module in model.named_modules() if not module.training]
            expect(not quiet, f"{case}: `{verb}` must leave the training mode as it was; it changed that of {quiet[:3]}.")
            for name, value in {"x": given.x, "z": given.z, **given.condition.values}.items():
                expect(torch.equal(value, kept[name]), f"{case}: `{verb}` must not write into its input; it changed {name!r}.")
            same_bits(call(model, verb, given), first, f"{case}: the second call of `{verb}` and the first")
            same_bits(call(model, verb, given), first, f"{case}: the second call of `{verb}` and the first")


@law("sampling", applies=lambda spec: generates(spec) and conditional(spec))
def every_output_reacts_to_the_condition(subject: Subject) -> None:
    """Each slot, and each attribute and channel of it, moves every dimension of the sample."""
    for case in subject.main(conditioned=True):
        model: Any = subject.model(case, dtype=torch.float64)
        n = 256 if case.image_spec.content == "labels" else 16  # a class changes now and then only
        base = subject.condition(case, n, dtype=torch.float64)
        first = model.sample(n, condition=base, noise=2)
        for slot in case.conditions:
            moved = torch.zeros(case.image_spec.size, dtype=torch.bool)
            for what, other in variations(slot, base):
                change = (model.sample(n, condition=other, noise=2) - first).abs().amax(0) > 0
                expect(bool(change.any()), f"{case}: the sample must react to {what}; it does not.")
                moved |= change
            still = positions(~moved)
            expect(bool(moved.all()), f"{case}: every dimension of the sample must react to slot {slot.name!r}; these never do: {still}.")


def variations(slot: ConditionSpec, base: Condition) -> Iterator[tuple[str, Condition]]:
    """`base` with another label, or with one attribute or one image channel changed."""
    value = base.values[slot.name]
    if slot.kind == "label":
        for shift in range(1, slot.size):
            yield f"another label of slot {slot.name!r}", _with(base, slot.name, (value + shift) % slot.size)
        return
    for number in range(slot.size):
        other = value.clone()
        other[:, number] = value[:, number] * -0.7 + 0.9
        part = f"attribute {slot.names[number]!r}" if slot.image is None else f"channel {number}"
        yield f"{part} of slot {slot.name!r}", _with(base, slot.name, other)


def _with(base: Condition, name: str, value: Tensor) -> Condition:
    return Condition({**base.values, name: value}, base.present)


@law("sampling", applies=lambda spec: any(not slot.required for slot in spec.capabilities.conditions))
def missing_values_are_never_looked_at(subject: Subject) -> None:
    """Where a value is missing, NaN or -1 in its place changes nothing, and a missing slot is the same as all its values missing."""
    tried = False
    for case in subject.main(conditioned=True):
        model = subject.model(case)
        given = inputs_of(subject, model, case, 4)
        mask = torch.tensor([True, False, True, False])
        for slot in case.conditions:
            if slot.name in model.required_conditions:
                continue
            tried = True
            values = dict(given.condition.values)
            some = Condition({**values, slot.name: hidden(values[slot.name], mask)}, {slot.name: mask})
            none = Condition({name: value for name, value in values.items() if name != slot.name})
            for verb in verbs_of(model):
                full, mixed, without = (call(model, verb, _given(given, c)) for c in (given.condition, some, none))
                what = f"{case}: `{verb}` with slot {slot.name!r} missing for some samples"
                close(mixed[mask], full[mask], f"{what}, at those that have it", relative=1e-5, absolute=1e-5)
                close(mixed[~mask], without[~mask], f"{what}, at those that lack it", relative=1e-5, absolute=1e-5)
    if not tried:
        raise SkipLaw("its tiny model requires every slot")


def _given(given: Any, condition: Condition) -> Any:
    return type(given)(given.x, given.z, condition, given.seed)
