"""Parts of a model that learn one after the other."""

from __future__ import annotations

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import medgen
from medgen.data import from_arrays
from medgen.errors import ConfigError
from medgen.interfaces import Noise
from medgen.runs import Run, RunConfig, TrainConfig
from medgen.training.loop import Loop
from medgen.training.verb import _fabric

STEPS = 6


class Chain(medgen.Generator):
    """`first` learns in the first half of the training, `second` in the second; each falls by its rate at each of its steps."""

    def __init__(self, image_spec, *, breaks_at=None, validated=1.0):
        super().__init__(medgen.Config(), image_spec, ())
        self.first, self.second = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))
        self.breaks_at, self.validated, self.calls, self.heard = breaks_at, validated, [], []

    def _sample(self, n, condition, noise):
        return self.first * noise.normal(*self.image_spec.size)

    def phases(self):
        return [
            medgen.Phase("first", [self.first], lambda batch, step: self._loss("first", step), span=(0.0, 0.5)),
            medgen.Phase("second", [self.second], lambda batch, step: self._loss("second", step), span=(0.5, 1.0), watch=self._watch),
        ]

    def _watch(self, step, values):
        self.heard.append(step)
        return False

    def _loss(self, name, step):
        if self.training:
            self.calls.append((name, step.number, step.total, self.first.requires_grad, self.second.requires_grad))
            if len(self.calls) == self.breaks_at:
                raise RuntimeError("the machine stops")
        return {"loss": getattr(self, name) * (1.0 if self.training else self.validated)}


def trained(path, *, breaks_at=None, validated=1.0, **options):
    data = from_arrays(tiny.images(48, 8))
    common = {"steps": STEPS, "batch_size": 8, "optimizer": "sgd", "betas": (0.0, 0.9), "lr": 1.0, "warmup": 0, "schedule": "linear"}
    config = TrainConfig(**{**common, **options})
    model = Chain(data.image_spec, breaks_at=breaks_at, validated=validated)
    run = Run(path) if path.exists() else Run.begin(path, RunConfig(family="chain", data="x", train=config))
    Loop(_fabric(config), model, data, run, config, show=False).fit()
    return model, run


def test_each_learns_in_its_own_part_with_a_schedule_of_its_own(tmp_path):
    model, run = trained(tmp_path / "a", log_every=1)
    assert [call[:3] for call in model.calls] == [(name, k, 3) for name in ("first", "second") for k in range(3)]
    assert [call[3:] for call in model.calls] == [(True, False)] * 3 + [(False, True)] * 3
    # linear over three steps: rates 2/3, 1/3, 0, and the same again
    assert model.first.item() == model.second.item() == pytest.approx(-1.0)
    assert model.heard == [1, 2, 3]
    logged = {(r["split"], r["phase"], int(r["step"])) for r in run.metrics() if r["phase"]}
    assert ("train", "first", 1) in logged
    assert ("train", "second", STEPS) in logged
    assert ("val", "second", STEPS) in logged
    assert not any(phase == "first" for _, phase, step in logged if step > 3), "what is over is neither trained nor validated"


@pytest.mark.parametrize("breaks_at", [2, 4, 5])
def test_a_killed_training_goes_on_in_the_part_that_it_was_in(tmp_path, breaks_at):
    whole, _ = trained(tmp_path / "whole")
    with pytest.raises(RuntimeError, match="the machine stops"):
        trained(tmp_path / "killed", breaks_at=breaks_at, checkpoint_every=1)
    rest, _ = trained(tmp_path / "killed", checkpoint_every=1)
    assert [call[:3] for call in rest.calls] == [call[:3] for call in whole.calls][breaks_at - 1 :]
    assert torch.equal(rest.first, whole.first)
    assert torch.equal(rest.second, whole.second)


def test_patience_waits_for_the_last_part(tmp_path):
    """Each validation is worse than the one before."""
    model, _ = trained(tmp_path / "a", validated=-1.0, validate_every=1, patience=1, schedule="constant")
    assert [call[0] for call in model.calls] == ["first"] * 3 + ["second"] * 2


@given(n=st.integers(1, 7), total=st.integers(1, 1000))
def test_equal_parts_cover_every_step_once(n, total):
    phases = [medgen.Phase(str(k), [], lambda batch, step: {}, span=(k / n, (k + 1) / n)) for k in range(n)]
    steps = [list(phase.steps(total)) for phase in phases]
    assert [s for part in steps for s in part] == list(range(total))
    assert max(map(len, steps)) - min(map(len, steps)) <= 1
    for phase, part in zip(phases, steps, strict=True):
        assert [phase.step(s, total, Noise(0, torch.arange(1))).number for s in part] == list(range(len(part)))


@pytest.mark.parametrize("span", [(0.5, 0.5), (-0.1, 1.0), (0.0, 1.5), (0.8, 0.2)])
def test_a_span_that_is_none_is_refused(span):
    with pytest.raises(ConfigError, match="span"):
        medgen.Phase("first", [], lambda batch, step: {}, span=span)
