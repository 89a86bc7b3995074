"""Persistence: weights come back to the bit, and old files keep their meaning."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from medgen import weights
from medgen.factory import describe, rebuild
from medgen.testing.expect import expect, same_bits
from medgen.testing.golden import check_golden
from medgen.testing.law import SkipLaw, law
from medgen.testing.subject import Subject
from medgen.testing.verbs import call, inputs_of, verbs_of


@law("persistence")
def comes_back_from_file(subject: Subject) -> None:
    """A saved and rebuilt model has the same weights, configuration and specs, and its verbs give the same bits."""
    for case in subject.cases():
        for dtype in (torch.float32, torch.float64) if case == subject.small else (torch.float32,):
            model = subject.model(case, dtype=dtype, seed=1, fresh=True)  # rebuilding starts from seed 0
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "model.safetensors"
                weights.write(path, model.state_dict(), describe(subject.declared, model))
                again = rebuild(subject.declared, *weights.read(path), path).eval()
            for name in ("config", "image_spec", "conditions", "family"):
                got, wanted = getattr(again, name), getattr(model, name)
                expect(got == wanted, f"{case}: `{name}` must come back equal; got {got!r} instead of {wanted!r}.")
            wanted_state, got_state = model.state_dict(), again.state_dict()
            expect(
                list(got_state) == list(wanted_state),
                f"{case}: the same tensors must come back; got {sorted(set(got_state) ^ set(wanted_state))}.",
            )
            for name, value in wanted_state.items():
                same_bits(got_state[name], value, f"{case}: weight {name!r}")
            given = inputs_of(subject, model, case, 3, dtype=dtype)
            for verb in verbs_of(model):
                same_bits(call(again, verb, given), call(model, verb, given), f"{case}: `{verb}` of the rebuilt model")


@law("persistence")
def state_is_tensors(subject: Subject) -> None:
    """The state dict holds tensors only: no extra state that safetensors could not store, and no tensor outside it."""
    for case in subject.main():
        model = subject.model(case)
        strange = [name for name, value in model.state_dict().items() if not isinstance(value, Tensor)]
        expect(not strange, f"{case}: the state dict must hold tensors only; {strange} are something else.")
        kept = set(model.state_dict())
        lost = [name for name, _ in model.named_parameters() if name not in kept]
        expect(not lost, f"{case}: every parameter must be in the state dict; {lost} are not.")


@law("persistence")
def copies_are_independent(subject: Subject) -> None:
    """A deep copy gives the same bits, and shares no memory with the original."""
    for case in subject.main():
        model = subject.model(case)
        given = inputs_of(subject, model, case, 3)
        before = {verb: call(model, verb, given) for verb in verbs_of(model)}
        twin = copy.deepcopy(model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.fill_(0.123)
        for verb, wanted in before.items():
            same_bits(call(twin, verb, given), wanted, f"{case}: `{verb}` of a deep copy, after the original was overwritten")


@law("persistence")
def golden_file_holds(subject: Subject) -> None:
    """Weights that were recorded once load, and give the outputs that were recorded with them."""
    if subject.golden is None:
        raise SkipLaw(f"no golden folder is named; write one with: medgen check {subject.spec.name} --write-golden DIR")
    check_golden(subject, subject.golden)
