"""Flows: the two directions are inverse to each other, and the log-determinants are those of the Jacobian."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medgen.interfaces import Model
from medgen.nn.flow import Transform
from medgen.registry import FamilySpec
from medgen.testing.expect import close, expect, finite, positions
from medgen.testing.law import SkipLaw, law
from medgen.testing.subject import Case, Subject

N = 3


def invertible(spec: FamilySpec) -> bool:
    """Whether encode and decode are exact inverses."""
    return spec.capabilities.invertible


@law("flow", applies=invertible)
def decode_inverts_encode(subject: Subject) -> None:
    """decode(encode(x)) = x and encode(decode(z)) = z, in float64 and in float32."""
    for case in subject.cases():
        for dtype, limit in ((torch.float64, 1e-8), (torch.float32, 2e-3)):
            model: Any = subject.model(case, dtype=dtype)
            condition = subject.condition(case, N, dtype=dtype)
            with torch.no_grad():
                x, z = subject.x(case, N, dtype=dtype), subject.latent(model, N)
                there, here = model.encode(x, condition=condition).mean, model.decode(z, condition=condition)
                again = model.decode(there, condition=condition), model.encode(here, condition=condition).mean
                close(again[0], x, f"{case}, {dtype}: decode(encode(x)) and x", relative=limit, absolute=limit)
                close(again[1], z, f"{case}, {dtype}: encode(decode(z)) and z", relative=limit, absolute=limit)


@law("flow", applies=invertible)
def decode_stays_finite_far_out(subject: Subject) -> None:
    """Codes a hundred standard deviations out decode to finite values, and data as far out encode to finite codes."""
    for case in subject.main():
        model: Any = subject.model(case)
        condition = subject.condition(case, N)
        with torch.no_grad():
            for factor in (0.0, 10.0, 100.0):
                finite(model.decode(factor * subject.latent(model, N), condition=condition), f"{case}: decode of {factor:g} times z")
                finite(model.encode(factor * subject.x(case, N), condition=condition).mean, f"{case}: encode of {factor:g} times x")


@law("flow", applies=invertible)
def log_det_is_that_of_the_jacobian(subject: Subject) -> None:
    """Each transform's log-determinant is ln |det| of its Jacobian by autograd, forward and backward, and the two cancel."""
    for case in flow_cases(subject):
        for part in _transforms(subject, case, leaves=False) + _transforms(subject, case, leaves=True):
            where = f"{case}, transform {part.name or 'of the model'}"
            with torch.no_grad():
                z, forward = part.module(part.x, part.context)
                again, backward = part.module.inverse(z, part.context)
            expect(tuple(forward.shape) == (len(part.x),), f"{where}: a log-determinant must be [B]; got {tuple(forward.shape)}.")
            close(again, part.x, f"{where}: inverse(forward(x)) and x", relative=1e-8, absolute=1e-8)
            close(
                backward, -forward, f"{where}: the log-determinant of the inverse and minus that of forward", relative=1e-8, absolute=1e-8
            )
            close(forward, _slogdet(part), f"{where}: its log-determinant and slogdet of the Jacobian", relative=1e-7, absolute=1e-7)


@law("flow", applies=lambda spec: invertible(spec) and bool(spec.capabilities.conditions))
def every_transformed_dimension_reacts_to_the_context(subject: Subject) -> None:
    """In a transform that looks at its context, every dimension that is not merely passed on must react to it, the first one too."""
    for case in flow_cases(subject):
        if not case.conditions:
            continue
        for part in _transforms(subject, case, leaves=True):
            if part.context is None:
                continue
            with torch.no_grad():
                z = part.module(part.x, part.context)[0]
                reacts = torch.zeros_like(z[0], dtype=torch.bool)
                for step in (0.7, -1.3):
                    reacts |= (part.module(part.x, part.context + step * torch.cos(torch.arange(part.context.shape[1])))[0] != z).any(0)
            if not bool(reacts.any()):
                continue  # it does not look at the context at all
            passed_on = _passed_on(part, z)
            deaf = ~reacts & ~passed_on
            sentence = (
                f"{case}, transform {part.name}: dimensions {positions(deaf)} are transformed without regard to the context, others with."
            )
            expect(not bool(deaf.any()), sentence)


@dataclass(frozen=True)
class _Part:
    """One transform of a model with an input that reached it."""

    name: str
    module: Any
    x: Tensor
    context: Tensor | None


def flow_cases(subject: Subject) -> list[Case]:
    """Small arrays, for Jacobians; of the usual size where the family builds no smaller ones."""
    found = []
    for case in subject.main():
        dim = case.image_spec.dim
        small = subject.case(dim, case.image_spec.content, shape=(4,) * dim, channels=None if dim < 3 else 1)
        try:
            subject.model(small)
        except AssertionError:
            small = case
        found.append(small)
    return found


def _transforms(subject: Subject, case: Case, *, leaves: bool) -> list[_Part]:
    """The outermost transforms of a model, or the innermost, with inputs recorded while it encodes."""
    model: Any = subject.model(case, dtype=torch.float64)
    with _recorded(model) as parts, torch.no_grad():
        model.encode(subject.x(case, N, dtype=torch.float64), condition=subject.condition(case, N, dtype=torch.float64))
    if not parts:
        raise SkipLaw("it is built without medgen.nn.flow.Transform; the laws of densities judge it")
    names = {part.name for part in parts}
    if leaves:
        return [p for p in parts if not any(other.startswith(p.name + ".") for other in names)]
    return [p for p in parts if not any(p.name.startswith(other + ".") for other in names)]


@contextmanager
def _recorded(model: Model) -> Iterator[list[_Part]]:
    """Notes each transform's first input, whichever direction it is called in."""
    parts: dict[str, _Part] = {}
    watched = [(name, module) for name, module in model.named_modules() if isinstance(module, Transform)]

    def watch(name: str, module: Transform) -> None:
        forward, inverse = module.forward, module.inverse

        def note(x: Tensor, context: Tensor | None) -> None:
            parts.setdefault(name, _Part(name, module, x.detach().clone(), None if context is None else context.detach().clone()))

        def seen_forward(x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
            note(x, context)
            return forward(x, context)

        def seen_inverse(z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
            found = inverse(z, context)
            note(found[0], context)
            return found

        module.__dict__["forward"], module.__dict__["inverse"] = seen_forward, seen_inverse

    for name, module in watched:
        watch(name, module)
    found: list[_Part] = []
    try:
        yield found
    finally:
        for _, module in watched:
            del module.__dict__["forward"], module.__dict__["inverse"]
        found += parts.values()


def _jacobian(part: _Part) -> Tensor:
    """dz/dx of each sample, [B, D, D]; one backward pass per output, since samples do not mix."""
    x = part.x.clone().requires_grad_()
    z = part.module(x, part.context)[0].flatten(1)
    rows = [torch.autograd.grad(z[:, i].sum(), x, retain_graph=True, allow_unused=True)[0] for i in range(z.shape[1])]
    return torch.stack([(torch.zeros_like(x) if row is None else row).flatten(1) for row in rows], 1)


def _slogdet(part: _Part) -> Tensor:
    return torch.linalg.slogdet(_jacobian(part)).logabsdet


def _passed_on(part: _Part, z: Tensor) -> Tensor:
    """Outputs that equal one of the inputs: the half that a coupling leaves alone, permuted or not."""
    jacobian = _jacobian(part)
    single = ((jacobian != 0).sum(2) == 1) & ((jacobian.sum(2) - 1).abs() < 1e-12)
    source = jacobian.abs().argmax(2)
    equal = part.x.flatten(1).gather(1, source) == z.flatten(1)
    return (single & equal).all(0).view(z.shape[1:])
