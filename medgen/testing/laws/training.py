"""Training: players that own their parameters, losses that reach them."""

from __future__ import annotations

from typing import Any

import torch

from medgen.interfaces import Model, Phase
from medgen.registry import FamilySpec
from medgen.testing.expect import expect, finite
from medgen.testing.law import law
from medgen.testing.subject import Case, Subject

N = 8


def trains(spec: FamilySpec) -> bool:
    """Whether it is trained by gradient."""
    return spec.capabilities.training != "none"


@law("training")
def phases_share_out_the_parameters(subject: Subject) -> None:
    """Phases have different names and no parameter in common, and every trainable parameter belongs to one; closed forms have none."""
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


def _losses(subject: Subject, case: Case, model: Model, phase: Phase, *, seed: int = 0) -> dict[str, Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # of dropout
        return dict(phase.loss(model.select(subject.batch(case, N, seed=seed)), subject.step(N, number=seed)))


def _named(model: Model, phase: Phase) -> list[tuple[str, torch.nn.Parameter]]:
    own = {id(p) for p in phase.parameters}
    return [(name, p) for name, p in model.named_parameters() if id(p) in own and p.requires_grad]
