from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from medgen.data import Dataset
from medgen.data.samples import ArrayStore
from medgen.interfaces import Condition, DensityModel, Model, Noise
from medgen.maths import alpha_bars, linear_betas
from medgen.report.blocks import Picture, Table, Text
from medgen.report.context import Context
from medgen.report.sections import SECTIONS, facts
from medgen.report.sections.bound import bound
from medgen.report.sections.samples import nearest_sample
from medgen.runs import Run
from medgen.runs.conditions import ConditionSource

Trained = Callable[..., tuple[Run, Dataset]]


def test_a_planted_copy_is_found_as_its_own_nearest_sample(trained: Trained) -> None:
    run, data = trained("2d")
    context = Context(run, given=data)
    rows = data.splits["train"]
    wanted = rows[[5, 2]]
    copies = data.fetch(wanted).x
    distance, number = nearest_sample(context, rows, copies + torch.tensor([0.0, 0.01]).reshape(2, 1, 1, 1))
    assert number.tolist() == wanted.tolist()
    torch.testing.assert_close(distance, torch.tensor([0.0, 0.01 * np.sqrt(80)], dtype=torch.float64), atol=1e-5, rtol=1e-3)


def test_samples_are_those_of_the_seed_and_of_the_class(trained: Trained) -> None:
    run, data = trained("2d", "cvae")
    context = Context(run, samples=4, seed=3, given=data)
    x, condition = context.draw(4, label="ill")
    assert condition.values["label"].tolist() == [1] * 4
    noise = Noise(3, torch.arange(32))
    expected = run.model.sample(32, condition=ConditionSource(run, label="ill")(noise), noise=noise)  # type: ignore[operator]
    torch.testing.assert_close(x, expected[:4], atol=0, rtol=0)


def test_real_samples_are_held_out_spread_and_without_repeats(trained: Trained) -> None:
    run, data = trained("2d")
    context = Context(run, given=data)
    assert context.split == "val"
    rows = context.held_out(3)
    assert len(set(rows.tolist())) == 3
    assert set(rows.tolist()) <= set(data.splits["val"].tolist())
    assert context.held_out(10_000).tolist() == data.splits["val"].tolist()


def test_training_samples_are_shown_where_held_out_ones_are_empty(trained: Trained) -> None:
    run, data = trained("2d")
    assert isinstance(data.samples.store, ArrayStore)
    values = data.samples.store.values.copy()
    values[data.splits["val"]] = 0.25
    values[data.splits["test"]] = 0.25
    empty = replace(data, samples=replace(data.samples, store=ArrayStore(values)))
    context = Context(Run(run.path), given=empty)
    assert context.split == "train"
    section = facts.data(context)
    assert any("mostly empty" in block.text for block in section.blocks if isinstance(block, Text))


def test_the_neutral_condition_fits_the_model(trained: Trained) -> None:
    run, data = trained("2d", "cvae")
    context = Context(run, given=data)
    condition = context.neutral_condition()
    assert condition is not None
    assert tuple(run.model.decode(torch.zeros(1, 3), condition=condition).shape) == (1, 1, 8, 10)  # type: ignore[operator]
    assert context.neutral_text() == "class healthy"


# the bound, term by term ----------------------------------------------------------------------------------------------------------------


class Chain(Model):
    """DDPM's chain on values that are N(0, 1), with the exact reverse step but for a wrong variance: every term has a closed form.

    x_t = sqrt(a) x_0 + sqrt(1 - a) e, and the reverse step gives N(sqrt(alpha) x_{t+1}, c (1 - alpha)) in place of c = 1.
    """

    steps = 200
    factor = 1.1

    def phases(self) -> tuple[()]:
        return ()

    def bound_terms(self, x: Tensor, *, condition: Condition | None = None, noise: Noise | int = 0) -> Tensor:
        x = x.double().flatten(1)
        bars = torch.cat((torch.ones(1), alpha_bars(linear_betas(self.steps)))).double()
        error = ((1 - bars[1]) * x.square() + bars[1]).mean(1)  # of x_0 given x_1, over its variance
        columns = [0.5 * (math.log(2 * math.pi * self.factor * (1 - bars[1])) + error / self.factor)]
        for t in range(1, self.steps):  # KL[q(x_t | x_{t+1}, x_0) || p], averaged over x_{t+1}
            alpha = bars[t + 1] / bars[t]
            own, wrong = (1 - alpha) * (1 - bars[t]) / (1 - bars[t + 1]), self.factor * (1 - alpha)
            of_0 = bars[t].sqrt() * (1 - alpha) / (1 - bars[t + 1])
            gap = of_0.square() * ((1 - bars[t + 1]) ** 2 * x.square() + bars[t + 1] * (1 - bars[t + 1])).mean(1)
            columns.append(0.5 * ((wrong / own).log() + (own + gap) / wrong - 1))
        columns.append(0.5 * (bars[-1] * x.square() - bars[-1] - (1 - bars[-1]).log()).mean(1))
        return x.shape[1] * torch.stack(columns, 1)


def chained(trained: Trained, kind: str, model: type[Model] = Chain) -> Context:
    run, data = trained(kind)
    context = Context(Run(run.path), given=data)
    context.run.model = model(run.model.config, run.model.image_spec).double()  # type: ignore[misc]
    return context


@pytest.mark.parametrize("kind", ["0d", "1d", "2d", "3d"])
def test_the_terms_of_a_bound_and_their_sums(trained: Trained, kind: str) -> None:
    context = chained(trained, kind)
    section = bound(context)
    assert section is not None
    (table,) = [block for block in section.blocks if isinstance(block, Table)]
    (picture,) = [block for block in section.blocks if isinstance(block, Picture)]
    rows = {row[0]: row[1:] for row in table.rows}
    assert list(rows) == ["L_200, the prior", "L_1 + ... + L_199", "L_0, the data", "all"]
    count = {"0d": 500, "1d": 32, "2d": 8, "3d": 2}[kind]
    x = context.fetch(context.held_out(count)).x
    terms = context.model.bound_terms(x)  # type: ignore[operator]
    nats = [terms[:, 200], terms[:, 1:200].sum(1), terms[:, 0], terms.sum(1)]
    for (bits, error, shown, _), value in zip(rows.values(), nats, strict=True):
        assert shown == f"{value.mean().item():.4g}"
        assert bits == f"{value.mean().item() / (context.spec.numel * math.log(2)):.4g}"
        assert math.isclose(
            float(error), 2 * value.std().item() / len(x) ** 0.5 / (context.spec.numel * math.log(2)), rel_tol=0.05, abs_tol=1e-12
        )
    exact = 0.5 * (x.double().square() + math.log(2 * math.pi)).flatten(1).sum(1)
    assert 0 < float((terms.sum(1) - exact).mean() / exact.mean()) < 3, "a bound, not far above"
    assert bound in SECTIONS
    assert "no place on a logarithmic axis" in picture.caption, "L_0 of a density that is narrow is negative"


def test_terms_that_are_not_finite_are_told_not_drawn(trained: Trained) -> None:
    class Broken(Chain):
        def bound_terms(self, x: Tensor, **more: object) -> Tensor:
            return super().bound_terms(x) / 0

    section = bound(chained(trained, "2d", Broken))
    assert section is not None
    assert [type(block) for block in section.blocks] == [Text, Text]
    assert "infinite or undefined" in section.blocks[1].text  # type: ignore[union-attr]


def test_models_that_do_not_decompose_their_bound_have_no_such_section(trained: Trained) -> None:
    run, data = trained("2d")
    assert isinstance(run.model, DensityModel)
    assert bound(Context(run, given=data)) is None
