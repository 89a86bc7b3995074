"""Training: players that own their parameters, losses that reach them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from medgen.interfaces import Batch, Condition, Model, Noise, Phase, Step
from medgen.registry import FamilySpec
from medgen.testing.expect import close, expect, finite
from medgen.testing.law import law
from medgen.testing.strategies import hidden
from medgen.testing.subject import Case, Subject

N = 8


def trains(spec: FamilySpec) -> bool:
    """Whether it is trained by gradient."""
    return spec.capabilities.training != "none"


def learns_from_targets(spec: FamilySpec) -> bool:
    """Whether its losses see more than the verbs do."""
    return trains(spec) and bool(spec.capabilities.targets)


@law("training")
def phases_share_out_the_parameters(subject: Subject) -> None:
    """Phases differ in name and share no parameter; each trainable parameter has one, each step at least one; closed forms have none."""
    for case in subject.main():
        model = subject.model(case)
        phases = list(model.phases())
        if not trains(subject.spec):
            expect(not phases, f"{case}: a family with training 'none' must have no phases; got {len(phases)}.")
            continue
        expect(bool(phases), f"{case}: a family that is trained must have at least one phase; got none.")
        names = [phase.name for phase in phases]
        expect(len(set(names)) == len(names), f"{case}: phases must have different names; got {names}.")
        owners: dict[int, str] = {}
        for phase in phases:
            for parameter in phase.parameters:
                other = owners.setdefault(id(parameter), phase.name)
                expect(other == phase.name, f"{case}: phases must share no parameter; {phase.name!r} and {other!r} do.")
        mine = {id(p) for p in model.parameters()}
        stray = sum(key not in mine for key in owners)
        expect(not stray, f"{case}: phases must own parameters of the model; {stray} are not its own.")
        idle = [name for name, p in model.named_parameters() if p.requires_grad and id(p) not in owners]
        expect(not idle, f"{case}: every trainable parameter must belong to a phase; {idle} do not.")
        empty = [step for step in range(100) if not any(step in phase.steps(100) for phase in phases)]
        expect(not empty, f"{case}: every step must lie in the span of a phase; of 100, those from {empty[:1]} on do not.")


@law("training", applies=trains)
def losses_are_finite_and_repeatable(subject: Subject) -> None:
    """Each loss is a finite scalar, the same when asked again with the same noise and the same state of torch's generator."""
    for case in subject.cases():
        model = subject.model(case).train()
        for phase in model.phases():
            first, second = (_losses(subject, case, model, phase) for _ in range(2))
            expect("loss" in first, f"{case}: phase {phase.name!r} must return 'loss'; got {sorted(first)}.")
            for name, value in first.items():
                expect(value.dim() == 0, f"{case}: {name!r} of phase {phase.name!r} must be a scalar; got shape {tuple(value.shape)}.")
                finite(value, f"{case}: {name!r} of phase {phase.name!r}")
                equal = bool(value == second[name])
                expect(equal, f"{case}: {name!r} of phase {phase.name!r} must be repeatable; got {value.item()} and {second[name].item()}.")


@law("training", applies=trains)
def gradient_reaches_every_parameter(subject: Subject) -> None:
    """The loss of each phase gives each of its parameters a gradient that is finite and, over a few batches, not zero."""
    for case in subject.cases():
        model = subject.model(case).train()
        for phase in model.phases():
            model.zero_grad(set_to_none=True)
            for seed in range(4):
                _losses(subject, case, model, phase, seed=seed)["loss"].backward()
            for name, p in _named(model, phase):
                gradient = torch.zeros_like(p) if p.grad is None else p.grad
                reached = bool((gradient != 0).any())
                expect(reached, f"{case}: the loss of phase {phase.name!r} gives no gradient to its parameter {name!r}.")
                finite(gradient, f"{case}: the gradient of {name!r} in phase {phase.name!r}")


@law("training", applies=learns_from_targets)
def every_target_moves_the_loss(subject: Subject) -> None:
    """Other values of each training target give other losses."""
    for case in subject.main():
        model = subject.model(case).train()
        batch, others = subject.batch(case, N), subject.targets(case, N, seed=1)
        for slot in case.targets:
            changed = Condition({**batch.targets.values, slot.name: others.values[slot.name]})
            pairs = [(_loss(model, phase, batch), _loss(model, phase, replace(batch, targets=changed))) for phase in model.phases()]
            expect(any(bool(a != b) for a, b in pairs), f"{case}: other values of target {slot.name!r} must change the loss of some phase.")


@law("training", applies=learns_from_targets)
def missing_targets_are_never_looked_at(subject: Subject) -> None:
    """Where a target is missing, NaN or -1 in its place changes no loss and no gradient; all of them may be missing."""
    for case in subject.main():
        model = subject.model(case, dtype=torch.float64).train()
        batch = model.select(subject.batch(case, N))
        for slot in case.targets:
            for mask in (torch.arange(N) % 2 == 0, torch.zeros(N, dtype=torch.bool)):
                value, where = batch.targets.values[slot.name], {**batch.targets.present, slot.name: mask}
                found = []
                for shown in (value, hidden(value, mask)):
                    targets = Condition({**batch.targets.values, slot.name: shown}, where)
                    found.append(_gradients(model, replace(batch, targets=targets)))
                for name, wanted in found[0].items():
                    what = (
                        f"{case}: {name} with target {slot.name!r} missing for {N - int(mask.sum())} of {N} samples, whatever stands there,"
                    )
                    finite(found[1][name], what)
                    close(found[1][name], wanted, what, relative=1e-6, absolute=1e-9)


@law("training", applies=trains)
def a_few_steps_stay_finite(subject: Subject) -> None:
    """From its own initial weights a model takes five optimizer steps per phase, changes, and stays finite."""
    for case in subject.main():
        model = subject.model(case, perturbed=False).train()
        before = [p.detach().clone() for p in model.parameters()]
        optimizers = [torch.optim.Adam(phase.parameters, 1e-3) for phase in model.phases()]
        for seed in range(5):
            for phase, optimizer in zip(model.phases(), optimizers, strict=True):
                optimizer.zero_grad(set_to_none=True)
                _losses(subject, case, model, phase, seed=seed)["loss"].backward()
                optimizer.step()
                if phase.after is not None:
                    phase.after()
        for name, p in model.named_parameters():
            finite(p, f"{case}: parameter {name!r} after five steps")
        changed = any(not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True))
        expect(changed, f"{case}: five steps must change the weights; they are as before.")


def serving_targets(subject: Subject, case: Case) -> set[str]:
    """Names of the parameters that training reaches through the targets alone: no gradient where every target is missing."""
    if not case.targets:
        return set()
    model = subject.model(case).train()
    batch = subject.batch(case, N)
    with_targets, without = _gradients(model, batch), _gradients(model, replace(batch, targets=Condition()))
    prefix = "the gradient of "
    return {
        name.removeprefix(prefix)
        for name, gradient in without.items()
        if name.startswith(prefix) and not bool(gradient.any()) and bool(with_targets[name].any())
    }


def _gradients(model: Model, batch: Batch) -> dict[str, Tensor]:
    """The loss of every phase, and the sum of their gradients, by name."""
    model.zero_grad(set_to_none=True)
    found: dict[str, Tensor] = {}
    for phase in model.phases():
        loss = _loss(model, phase, batch)
        loss.backward()
        found[f"the loss of phase {phase.name!r}"] = loss.detach()
    for name, p in model.named_parameters():
        found[f"the gradient of {name}"] = torch.zeros_like(p) if p.grad is None else p.grad.clone()
    return found


def _loss(model: Model, phase: Phase, batch: Batch) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # of dropout
        return phase.loss(model.select(batch), Step(0, 10, Noise(7, torch.arange(len(batch)))))["loss"]


def _losses(subject: Subject, case: Case, model: Model, phase: Phase, *, seed: int = 0) -> dict[str, Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of dropout
        return dict(phase.loss(model.select(subject.batch(case, N, seed=seed)), subject.step(N, number=seed)))


def _named(model: Model, phase: Phase) -> list[tuple[str, torch.nn.Parameter]]:
    own = {id(p) for p in phase.parameters}
    return [(name, p) for name, p in model.named_parameters() if id(p) in own and p.requires_grad]
