"""Translation: the output lies on the grid of the source, follows the source, and is random only where it says so and is asked."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from medgen.interfaces import Cycles, FollowsStyle, Noise
from medgen.registry import FamilySpec
from medgen.testing.expect import close, expect, finite, positions, same_bits
from medgen.testing.law import law
from medgen.testing.subject import Case, Subject

N = 4


def translates(spec: FamilySpec) -> bool:
    """Whether it turns a source into a target."""
    return "translator" in spec.interfaces


@law("translation", applies=translates)
def translations_have_the_shape_of_the_target(subject: Subject) -> None:
    """B sources become [B, C', *S] on the same grid: finite, without gradients, within `output_range`."""
    for case in subject.cases():
        model: Any = subject.model(case)
        for n in (1, N):
            found = _translate(subject, case, model, n)
            wanted = (n, case.image_spec.channels, *model.source_spec.shape)
            expect(tuple(found.shape) == wanted, f"{case}: {n} translations must have shape {wanted}; got {tuple(found.shape)}.")
            expect(found.dtype == model.dtype, f"{case}: translations must be {model.dtype}; got {found.dtype}.")
            expect(not found.requires_grad, f"{case}: translations must not require gradients.")
            finite(found, f"{case}: translations")
            if model.output_range is not None:
                (low, high), least, most = model.output_range, found.min().item(), found.max().item()
                inside = low - 1e-5 <= least and most <= high + 1e-5
                expect(inside, f"{case}: translations must lie in `output_range` {low} to {high}; got {least:.4g} to {most:.4g}.")


@law("translation", applies=translates)
def translations_are_repeatable(subject: Subject) -> None:
    """Without noise there is one translation, to the last bit; with a seed there is one per seed."""
    for case in subject.cases():
        model: Any = subject.model(case)
        for noise in (None, 3):
            first, second = (_translate(subject, case, model, N, noise=noise) for _ in range(2))
            same_bits(second, first, f"{case}: two translations with noise={noise}")


@law("translation", applies=translates)
def translations_are_random_where_they_say_so(subject: Subject) -> None:
    """Of a `stochastic` translator two seeds give every source another translation; of all others the noise changes no bit."""
    for case in subject.cases():
        model: Any = subject.model(case)
        without, first, second = (_translate(subject, case, model, N, noise=noise) for noise in (None, 3, 4))
        if not model.stochastic:
            for noise, found in ((3, first), (4, second)):
                same_bits(found, without, f"{case}: translations with noise={noise} and without, of a model that is not `stochastic`,")
            continue
        same = (first == second).flatten(1).all(1)
        rows = same.nonzero().flatten().tolist()
        expect(not rows, f"{case}: a `stochastic` model must draw another translation for another seed; sources {rows} have the same.")


@law("translation", applies=translates)
def cycles_lead_back_to_the_source(subject: Subject) -> None:
    """Where a model `Cycles`, F(G(x)) is what `translate_back` makes of `translate`: shaped like the source, finite, the same each time.

    Each channel of the target moves what comes back, and a sample of a batch comes back as it does alone.
    """
    for case in subject.cases():
        model: Any = subject.model(case, dtype=torch.float64)
        if not issubclass(type(model), Cycles):  # its type is not narrowed: it stays a translator
            continue
        x, rest = subject.source(model, subject.condition(case, N, dtype=torch.float64))
        y, round_trip = model.translate(x, condition=rest), model.cycle(x)
        expect(round_trip.shape == x.shape, f"{case}: `cycle` must have shape {tuple(x.shape)}; got {tuple(round_trip.shape)}.")
        expect(not round_trip.requires_grad, f"{case}: what comes back must not require gradients.")
        finite(round_trip, f"{case}: what comes back")
        same_bits(model.cycle(x), round_trip, f"{case}: two cycles of the same sources")
        back = model.translate_back(y)
        close(round_trip, back, f"{case}: `cycle` and `translate_back` after `translate`", relative=1e-6, absolute=1e-6)
        close(model.translate_back(y[2:3]), back[2:3], f"{case}: what comes back, alone and among all", relative=1e-6, absolute=1e-6)
        for channel in range(y.shape[1]):
            other = y.clone()
            other[:, channel] = other[:, channel].flip(0)
            change = bool((model.translate_back(other) != back).any())
            expect(change, f"{case}: what comes back must depend on channel {channel} of the target; it does not.")


@law("translation", applies=translates)
def translations_follow_a_given_style(subject: Subject) -> None:
    """Where a model `FollowsStyle`, each image of the target has a style, and each source with it a translation, the same each time.

    Both are alone as in a batch; one style given for all is each one's; other styles give other translations.
    """
    for case in subject.cases():
        model: Any = subject.model(case, dtype=torch.float64)
        if not issubclass(type(model), FollowsStyle):  # its type is not narrowed: it stays a translator
            continue
        images = subject.x(case, N, dtype=torch.float64)
        z = model.style(images).mean
        expect(z.dim() == 2 and len(z) == N, f"{case}: styles of {N} images must have shape [{N}, Z]; got {tuple(z.shape)}.")
        finite(z, f"{case}: styles")
        same_bits(model.style(images).mean, z, f"{case}: two styles of the same images")
        close(model.style(images[2:3]).mean, z[2:3], f"{case}: a style, alone and among all", relative=1e-6, absolute=1e-6)
        expect(not bool((z == z[:1]).all()), f"{case}: images that differ must differ in style; all have the same.")
        x, rest = subject.source(model, subject.condition(case, N, dtype=torch.float64))
        styled = model.stylise(x, z, condition=rest)
        wanted = (N, case.image_spec.channels, *model.source_spec.shape)
        expect(tuple(styled.shape) == wanted, f"{case}: {N} styled translations must have shape {wanted}; got {tuple(styled.shape)}.")
        expect(not (styled.requires_grad or z.requires_grad), f"{case}: styles and styled translations must not require gradients.")
        finite(styled, f"{case}: styled translations")
        same_bits(model.stylise(x, z, condition=rest), styled, f"{case}: two translations with the same styles")
        alone = model.stylise(x[2:3], z[2:3], condition=rest[torch.tensor([2])])
        close(alone, styled[2:3], f"{case}: a styled translation, alone and among all", relative=1e-6, absolute=1e-6)
        shared = model.stylise(x, z[0], condition=rest)
        close(shared, model.stylise(x, z[:1].expand_as(z), condition=rest), f"{case}: one style for all", relative=1e-6, absolute=1e-6)
        moved = (model.stylise(x, z + 1.0, condition=rest) != styled).flatten(1).any(1)
        expect(bool(moved.all()), f"{case}: another style must give every source another translation; it does not.")


@law("translation", applies=translates)
def translations_are_independent_of_the_batch(subject: Subject) -> None:
    """A source is translated to the same image alone, in any batch, and in any order."""
    for case in subject.cases():
        model: Any = subject.model(case, dtype=torch.float64)
        x, rest = subject.source(model, subject.condition(case, N, dtype=torch.float64))
        for noise in (None, Noise(3, torch.arange(N) + 7)):
            every = model.translate(x, condition=rest, noise=noise)
            for rows in ([2], [3, 2, 1, 0]):
                chosen = torch.tensor(rows)
                part = model.translate(x[chosen], condition=rest[chosen], noise=None if noise is None else noise[chosen])
                close(part, every[chosen], f"{case}: translations of {rows}, alone and among all", relative=1e-6, absolute=1e-6)


@law("translation", applies=translates)
def every_output_follows_the_source(subject: Subject) -> None:
    """Another source moves every value of the translation, and each channel of the source moves some."""
    for case in subject.main():
        model: Any = subject.model(case, dtype=torch.float64)
        x, rest = subject.source(model, subject.condition(case, 8, dtype=torch.float64))
        first = model.translate(x, condition=rest)
        moved = (model.translate(x.flip(0), condition=rest) != first).any(0)
        expect(bool(moved.all()), f"{case}: every value must follow the source; these never move: {positions(~moved)}.")
        for channel in range(x.shape[1]):
            other = x.clone()
            other[:, channel] = other[:, channel].flip(0)
            change = bool((model.translate(other, condition=rest) != first).any())
            expect(change, f"{case}: the translation must depend on channel {channel} of the source; it does not.")


@law("translation", applies=translates)
def translations_stay_in_place(subject: Subject) -> None:
    """What changes in one voxel of the source changes the translation most near that voxel: nothing is flipped, turned or shifted."""
    for case in subject.main():
        shape = case.image_spec.shape
        if not shape:
            continue
        models: list[Any] = [subject.model(case, dtype=torch.float64, seed=seed) for seed in range(3)]
        for place in itertools.product(*((1, side - 2) for side in shape)):
            response = sum(_response(subject, case, model, place) for model in models)
            assert isinstance(response, Tensor)
            found = [int(i) for i in torch.unravel_index(response.argmax(), shape)]
            near = all(abs(a - b) <= max(2, side // 4) for a, b, side in zip(found, place, shape, strict=True))
            expect(near, f"{case}: a change of source voxel {place} must show most near it; it shows most at {tuple(found)}.")


def _response(subject: Subject, case: Case, model: Any, place: tuple[int, ...]) -> Tensor:
    """How much each output voxel [*S] moves when one voxel of the source does, averaged over sources and channels."""
    x, rest = subject.source(model, subject.condition(case, N, dtype=torch.float64))
    other, spec = x.clone(), model.source_spec
    voxel: Any = (slice(None), slice(None), *place)
    if spec.content == "labels":
        other[voxel] = x[voxel].roll(1, 1)  # the next class
    else:
        other[voxel] += 0.5 * (spec.intensity.range[1] - spec.intensity.range[0])
    change: Tensor = (model.translate(other, condition=rest) - model.translate(x, condition=rest)).abs().mean((0, 1))
    return change / change.sum().clamp(min=1e-30)


def _translate(subject: Subject, case: Case, model: Any, n: int, noise: int | None = None) -> Tensor:
    x, rest = subject.source(model, subject.condition(case, n))
    found: Tensor = model.translate(x, condition=rest, noise=noise)
    return found
