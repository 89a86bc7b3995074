from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch

from medgen.data import Dataset
from medgen.data.samples import ArrayStore
from medgen.interfaces import Noise
from medgen.report.blocks import Text
from medgen.report.context import Context
from medgen.report.sections import facts
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
