"""Densities: a log-density that is one, of the kind it claims to be, and of the samples it goes with."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from medgen.interfaces import Condition, Noise
from medgen.registry import FamilySpec
from medgen.testing.expect import close, expect, finite, positions
from medgen.testing.grid import box_of, chi_square, evaluate, lattice, log_student
from medgen.testing.law import SkipLaw, law
from medgen.testing.laws.sampling import conditional, generates, variations
from medgen.testing.laws.training import serving_targets
from medgen.testing.subject import Case, Subject

N = 6
_SIGMAS = 6.0  # two-sided tail of a normal: 2e-9
_VALUES = 16  # the largest arrays that are sampled densely


def has_density(spec: FamilySpec) -> bool:
    """Whether it has a log-density of any kind."""
    return "density" in spec.interfaces


def exact(spec: FamilySpec) -> bool:
    """Whether its log-density is exact."""
    return spec.capabilities.log_prob == "exact"


def bound(spec: FamilySpec) -> bool:
    """Whether its log-density is a lower bound."""
    return spec.capabilities.log_prob == "bound"


@law("density", applies=has_density)
def log_prob_is_one_number_per_sample(subject: Subject) -> None:
    """`log_prob` is [B], finite, and row i belongs to sample i alone, in whatever order and company."""
    for case in subject.cases():
        model: Any = subject.model(case, dtype=torch.float64)
        x, condition = subject.x(case, N, dtype=torch.float64), subject.condition(case, N, dtype=torch.float64)
        noise = Noise(0, torch.arange(N))
        whole = model.log_prob(x, condition=condition, noise=noise, importance_samples=2)
        expect(tuple(whole.shape) == (N,), f"{case}: `log_prob` of {N} arrays must have shape ({N},); got {tuple(whole.shape)}.")
        finite(whole, f"{case}: `log_prob`")
        for rows in ([3, 0, 4, 1, 2, 5], [2]):
            chosen = torch.tensor(rows)
            part = model.log_prob(x[chosen], condition=condition[chosen], noise=noise[chosen], importance_samples=2)
            close(part, whole[chosen], f"{case}: `log_prob` of samples {rows}, alone and among all", relative=1e-6, absolute=1e-6)


@law("density", applies=has_density)
def every_input_moves_log_prob(subject: Subject) -> None:
    """`log_prob` can be differentiated; its gradient is finite, and not zero in any dimension of x."""
    for case in subject.cases():
        model: Any = subject.model(case, dtype=torch.float64)
        x = subject.x(case, N, dtype=torch.float64).requires_grad_()
        total = model.log_prob(x, condition=subject.condition(case, N, dtype=torch.float64)).sum()
        expect(total.requires_grad, f"{case}: `log_prob` must be differentiable; its result requires no gradient.")
        (gradient,) = torch.autograd.grad(total, x, allow_unused=True)
        expect(gradient is not None, f"{case}: `log_prob` must depend on x; its gradient is none.")
        finite(gradient, f"{case}: the gradient of `log_prob` in x")
        still = gradient.abs().amax(0) == 0
        expect(not bool(still.any()), f"{case}: every dimension of x must move `log_prob`; these never do: {positions(still)}.")


@law("density", applies=has_density)
def log_prob_gradient_reaches_every_parameter(subject: Subject) -> None:
    """Each parameter of a family with one player gets a gradient from `log_prob`, finite and not 0, unless it serves targets alone."""
    for case in subject.cases():
        model: Any = subject.model(case)
        phases = model.phases()
        if len(phases) != 1:
            continue
        # conditions shown and hidden: the latter need parameters too
        conditions = [subject.condition(case, N)]
        if not model.required_conditions and case.conditions:
            conditions.append(Condition())
        for condition in conditions:
            (-model.log_prob(subject.x(case, N), condition=condition).mean()).backward()
        owned, others = {id(p) for p in phases[0].parameters}, serving_targets(subject, case)
        for name, p in model.named_parameters():
            if id(p) in owned and name not in others:
                gradient = torch.zeros_like(p) if p.grad is None else p.grad
                expect(bool((gradient != 0).any()), f"{case}: parameter {name!r} gets no gradient from `log_prob`.")
                finite(gradient, f"{case}: the gradient of {name!r}")


@law("density", applies=lambda spec: has_density(spec) and conditional(spec))
def log_prob_reacts_to_the_condition(subject: Subject) -> None:
    """Each slot, and each attribute and channel of it, moves the log-density of every sample."""
    for case in subject.main(conditioned=True):
        model: Any = subject.model(case, dtype=torch.float64)
        x, base = subject.x(case, N, dtype=torch.float64), subject.condition(case, N, dtype=torch.float64)
        first = model.log_prob(x, condition=base)
        for slot in case.conditions:
            for what, other in variations(slot, base):
                same = model.log_prob(x, condition=other) == first
                expect(not bool(same.any()), f"{case}: `log_prob` must react to {what}; that of samples {positions(same)} does not.")


@law("density", applies=has_density)
def log_prob_stays_finite_far_out(subject: Subject) -> None:
    """Data ten thousand times too large, or at the ends of a bounded range, give no NaN and no plus infinity, nor does their gradient."""
    for case in subject.main():
        if case.image_spec.content == "labels":
            continue
        model: Any = subject.model(case)
        data = subject.x(case, N)
        extremes = (
            [0 * data, 1e2 * data, 1e4 * data] if model.output_range is None else [torch.full_like(data, v) for v in model.output_range]
        )
        for extreme in extremes:
            x = extreme.requires_grad_()
            what = f"of data from {x.min().item():g} to {x.max().item():g}"
            found = model.log_prob(x, condition=subject.condition(case, N))
            wrong = torch.isnan(found) | (found == torch.inf)
            expect(not bool(wrong.any()), f"{case}: `log_prob` {what} must be finite or -inf; got {found.tolist()}.")
            (gradient,) = torch.autograd.grad(found.sum(), x)
            expect(not bool(torch.isnan(gradient).any()), f"{case}: the gradient of `log_prob` {what} must not be NaN.")


# --------------------------------------------------------------------------------------------------------- integrals


@law("density", applies=lambda spec: exact(spec) or bound(spec))
def density_integrates_to_one(subject: Subject) -> None:
    """exp(log_prob) integrates to 1 over all x where it is exact, and to no more than 1 where it is a bound."""
    for case in small_cases(subject):
        model: Any = subject.model(case, dtype=torch.float64)
        for row in range(2 if case.conditions else 1):
            one = subject.condition(case, row + 1, dtype=torch.float64)[row : row + 1]
            where = f"{case}, condition {row}" if case.conditions else str(case)
            if exact(subject.spec):
                total, error = _integral(subject, case, model, one, _density_of(model, one))
                expect(abs(total - 1) <= error, f"{where}: exp(log_prob) must integrate to 1 +- {error:.2g}; got {total:.4f}.")
                continue
            for draws in (1, 4):
                total, error = _integral(subject, case, model, one, _density_of(model, one, seeds=8, draws=draws))
                what = f"{where}: exp(a lower bound) of {draws} importance samples"
                expect(total <= 1 + error, f"{what} must integrate to at most 1 (+ {error:.2g}); got {total:.4f}.")


def _integral(subject: Subject, case: Case, model: Any, condition: Condition, density: Callable[[Tensor], Tensor]) -> tuple[float, float]:
    """The integral of exp(log_prob), and how far it may be from the truth."""
    if _discrete(case, model):
        return density(one_hot_states(case)).exp().sum().item(), 1e-6 if exact(subject.spec) else 0.02
    if case.image_spec.numel > 2:
        return _by_importance(subject, case, model, condition, density)
    low, high = box_of(_points(subject, case, model, condition, 2000), within=model.output_range)
    sides = 160 if exact(subject.spec) else 64
    points, cell = lattice(low, high, sides)
    values = evaluate(density, points.reshape(-1, *case.image_spec.size)).exp().reshape([sides] * len(low))
    fine, coarse = values.sum().item() * cell, values[(slice(None, None, 2),) * len(low)].sum().item() * cell * 2 ** len(low)
    return fine, min(0.1, 0.01 + 2 * abs(fine - coarse))


def _by_importance(
    subject: Subject, case: Case, model: Any, condition: Condition, density: Callable[[Tensor], Tensor]
) -> tuple[float, float]:
    """E_q[p / q] for a Student's t of 5 degrees of freedom, as wide as samples of p."""
    points = _points(subject, case, model, condition, 4000).flatten(1)
    centre, root = points.mean(0), torch.linalg.cholesky(torch.cov(points.T) * 1.3 + 1e-2 * torch.eye(points.shape[1], dtype=torch.float64))
    noise, d = Noise(8, torch.arange(20000)), points.shape[1]
    gamma = noise.normal(5, stream=1, dtype=torch.float64).square().sum(1) / 5
    u = noise.normal(d, dtype=torch.float64) / gamma.sqrt()[:, None]
    log_q = log_student(u, 5.0) - root.diagonal().log().sum()
    weights = (evaluate(density, (centre + u @ root.T).reshape(-1, *case.image_spec.size)) - log_q).exp()
    return weights.mean().item(), _SIGMAS * (weights.std() / len(weights) ** 0.5).item() + 0.005


@law("density", applies=bound)
def bound_tightens(subject: Subject) -> None:
    """A bound from many importance samples is not below that from one, to Monte Carlo error."""
    for case in subject.main():
        model: Any = subject.model(case, dtype=torch.float64)
        x, condition = subject.x(case, 4, dtype=torch.float64), subject.condition(case, 4, dtype=torch.float64)
        one, many = (_bounds(model, x, condition, draws, repeats) for draws, repeats in ((1, 256), (16, 32)))
        gain, error = many.mean(0) - one.mean(0), (many.var(0) / len(many) + one.var(0) / len(one)).sqrt()
        worst = (gain + _SIGMAS * error + 1e-6).min().item()
        expect(worst >= 0, f"{case}: the mean bound of 16 importance samples must not be below that of 1; gains are {gain.tolist()}.")


def _bounds(model: Any, x: Tensor, condition: Condition, draws: int, repeats: int) -> Tensor:
    """Bounds of B arrays from independent noise, [repeats, B]."""
    rows = torch.arange(len(x)).repeat(repeats)
    given = condition[rows] if condition.values else condition
    with torch.no_grad():
        found: Tensor = model.log_prob(x[rows], condition=given, importance_samples=draws, noise=Noise(draws, torch.arange(len(rows))))
    return found.view(repeats, len(x))


@law("density", applies=lambda spec: exact(spec) and generates(spec))
def samples_follow_the_density(subject: Subject) -> None:
    """Samples are draws from exp(log_prob): detailed balance in any dimension, and a chi-square over cells in two."""
    for case in small_cases(subject):
        model: Any = subject.model(case, dtype=torch.float64)
        one = subject.condition(case, 1, dtype=torch.float64)
        x = _points(subject, case, model, one, 6000)
        still = x.std(0) == 0
        expect(not bool(still.any()), f"{case}: samples must vary; in these dimensions all are equal: {positions(still)}.")
        density = _density_of(model, one)
        if _discrete(case, model):
            states = one_hot_states(case)
            counts = (x.flatten(1)[:, None] == states.flatten(1)[None]).all(2).sum(0).double()
            strange = len(x) - int(counts.sum())
            expect(not strange, f"{case}: samples must be one-hot label maps, as `log_prob` has it; {strange} of {len(x)} are not.")
            chi_square(counts, density(states).exp(), f"{case}: frequencies of samples and exp(log_prob)")
            continue
        _detailed_balance(case, x, density)
        if case.image_spec.numel == 2:
            _cells(case, x.flatten(1), density)


def _detailed_balance(case: Case, x: Tensor, density: Callable[[Tensor], Tensor]) -> None:
    """For x ~ p and a symmetric proposal y, E[min(1, p(y) / p(x)) (f(y) - f(x))] = 0 for every f."""
    d = case.image_spec.numel
    width = x.std(0) * 1.7 / d**0.5
    y = x + width * Noise(31, torch.arange(len(x))).normal(*x.shape[1:], dtype=torch.float64)
    log_x, log_y = evaluate(density, x), evaluate(density, y)
    accept = (log_y - log_x).clamp(max=0).exp()[:, None]
    a, b = x.flatten(1), y.flatten(1)
    middle = a.mean(0)
    moments = torch.cat((b - a, (b - middle).square() - (a - middle).square(), (log_y.clamp(min=-50) - log_x.clamp(min=-50))[:, None]), 1)
    flow = accept * moments
    z = flow.mean(0) / (flow.std(0) / len(x) ** 0.5 + 1e-12)
    worst = z.abs().max().item()
    sentence = f"{case}: under samples of p, moves from x to y and back must balance; some moment flows, {worst:.1f} standard errors off 0."
    expect(worst < _SIGMAS, sentence)


def _cells(case: Case, x: Tensor, density: Callable[[Tensor], Tensor]) -> None:
    """Counts in 12 x 12 cells against the density's integral over them, and what lies outside."""
    head, rest, sides, inner = x[:1000], x[1000:], 12, 10
    low, high = (torch.quantile(head, q, 0) for q in (0.005, 0.995))
    points, cell = lattice(low, high, sides * inner)
    mass = evaluate(density, points.reshape(-1, *case.image_spec.size)).exp().reshape(sides, inner, sides, inner).sum((1, 3)) * cell
    place = ((rest - low) / (high - low) * sides).floor()
    inside = ((place >= 0) & (place < sides)).all(1)
    index = (place[inside, 0] * sides + place[inside, 1]).long()
    counts = torch.bincount(index, minlength=sides**2).double()
    outside = torch.tensor([float((~inside).sum())], dtype=torch.float64)
    chances = torch.cat((mass.flatten(), (1 - mass.sum()).clamp(min=1e-9)[None]))
    chi_square(torch.cat((counts, outside)), chances, f"{case}: counts of samples in cells and the integral of exp(log_prob)")


# ------------------------------------------------------------------------------------------------------- small cases


def small_cases(subject: Subject) -> list[Case]:
    """The smallest arrays of each content that the family builds for: 2 values where it can."""
    found: list[Case] = []
    for content in subject.spec.capabilities.contents:
        candidates = [
            subject.case(dim, content, shape=(side,) * dim, channels=channels)
            for dim in sorted(subject.spec.capabilities.spatial_dims)
            if any(case.image_spec.content == content for case in subject.cases(dims=[dim]))
            for side, channels in (((1, 2), (2, 1), (2, 2), (4, 1)) if content != "labels" else ((1, 3), (2, 2)))
        ]
        candidates = sorted((c for c in candidates if 1 < c.image_spec.numel <= _VALUES), key=lambda c: c.image_spec.numel)
        if chosen := next((case for case in candidates if _builds(subject, case)), None):
            found.append(chosen)
    if not found:
        raise SkipLaw(f"it builds for no array of {_VALUES} values or fewer")
    return found


def _builds(subject: Subject, case: Case) -> bool:
    try:
        subject.model(case)
    except AssertionError:
        return False
    return True


def _discrete(case: Case, model: Any) -> bool:
    if model.log_prob_measure != "mass":
        return False
    if case.image_spec.content != "labels":
        raise SkipLaw("its log_prob is the mass of discrete values other than labels, which cannot be listed here")
    return True


def one_hot_states(case: Case) -> Tensor:
    """Every label map, one-hot [states, C, *S], float64."""
    spec = case.image_spec
    states = torch.tensor(list(itertools.product(range(spec.channels), repeat=spec.numel // spec.channels)))
    return torch.nn.functional.one_hot(states, spec.channels).movedim(-1, 1).reshape(-1, *spec.size).double()


def _density_of(model: Any, condition: Condition, *, seeds: int = 1, draws: int = 1) -> Callable[[Tensor], Tensor]:
    """x -> log_prob under one condition; the mean of a bound over several seeds is a bound with less noise."""

    def density(x: Tensor) -> Tensor:
        rows = torch.zeros(len(x), dtype=torch.int64)
        shared = condition[rows] if condition.values else None
        each = [model.log_prob(x, condition=shared, noise=seed, importance_samples=draws) for seed in range(seeds)]
        return torch.stack(each).mean(0)

    def quietly(x: Tensor) -> Tensor:
        with torch.no_grad():
            return density(x)

    return quietly


def _points(subject: Subject, case: Case, model: Any, condition: Condition, n: int) -> Tensor:
    """Where the mass is: samples, or data where it draws none."""
    if not generates(subject.spec):
        return subject.x(case, n, dtype=torch.float64)
    rows = torch.zeros(n, dtype=torch.int64)
    found: Tensor = model.sample(n, condition=condition[rows] if condition.values else None, noise=17, micro_batch=n)
    return found
