"""The game, its players and the collapse alarm."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from medgen.errors import CollapseWarning
from medgen.interfaces import Batch, Condition, Noise, Step
from medgen.nn.adversarial import (
    CollapseAlarm,
    Discriminator,
    Game,
    InstanceNoise,
    Judgement,
    adversarial_loss,
    players,
)


def step(n, number=0, total=10, seed=0):
    return Step(number, total, Noise(seed, torch.arange(n)))


def linear(w):
    return lambda x: Judgement(((x * w).flatten(1).sum(1, keepdim=True),), (x,))


def test_the_game_adds_up():
    real, fake, w = torch.randn(8, 2), torch.randn(8, 2) + 1, torch.tensor([3.0, 4.0], requires_grad=True)
    game = Game(adversarial_loss("wasserstein"), penalty=0.5, r1=0.25)
    said = game.discriminator(linear(w), real, fake, step(8))
    gap = (fake.mean(0) - real.mean(0)) @ w
    assert said["loss"].item() == pytest.approx(gap.item() + 0.5 * 16 + 0.25 * 12.5, rel=1e-4)
    assert said["distance"].item() == pytest.approx(-gap.item(), rel=1e-4)
    assert "accuracy" not in said
    game = Game(adversarial=0.0, matching=2.0)
    assert game.generator(linear(w), fake, step(8), real)["loss"].item() == pytest.approx(
        2 * (fake.mean(0) - real.mean(0)).square().sum().item(), rel=1e-4
    )
    with pytest.raises(ValueError, match="need `real`"):
        game.generator(linear(w), fake, step(8))


@pytest.mark.parametrize(("name", "wanted"), [("non_saturating", 0.75), ("least_squares", 1.0)])
def test_accuracy(name, wanted):
    """An output of 0.4 means real as a logit, and fake where the targets are 0 and 1."""
    real, fake = torch.ones(2, 1), torch.tensor([[-1.0], [0.4]])
    said = Game(adversarial_loss(name)).discriminator(lambda x: Judgement((x,)), real, fake, step(2))
    assert said["accuracy"].item() == wanted


def test_further_terms_join_the_loss():
    real, fake = torch.ones(2, 1), torch.zeros(2, 1, requires_grad=True)

    def also(of_real, of_fake):
        return {"gap": (of_real.score - of_fake.score).mean()}

    plain, more = (Game().discriminator(lambda x: Judgement((x,)), real, fake, step(2), also=a) for a in (None, also))
    assert more["loss"] - plain["loss"] == more["gap"] == 1.0
    plain, more = (Game().generator(lambda x: Judgement((x,)), fake, step(2), real, also=a) for a in (None, also))
    assert (more["loss"] - plain["loss"]).item() == pytest.approx(1.0)


def test_a_game_has_no_state():
    """The noise of a row is its own, whatever the batch; fakes get no gradient from the discriminator's loss."""
    game, w = Game(noise=InstanceNoise(1.0), penalty=1.0), torch.tensor([3.0, 4.0])
    real, fake = torch.randn(6, 2), torch.randn(6, 2, requires_grad=True)
    whole = game.discriminator(linear(w), real, fake, step(6))
    assert not whole["loss"].requires_grad or torch.autograd.grad(whole["loss"], fake, allow_unused=True)[0] is None
    halves = [game.discriminator(linear(w), real[r], fake[r], Step(0, 10, step(6).noise[r])) for r in (slice(0, 3), slice(3, 6))]
    torch.testing.assert_close(whole["loss"], (halves[0]["loss"] + halves[1]["loss"]) / 2)


def test_players_are_two_phases():
    judge, maker = nn.Sequential(Discriminator(2, (), [8], spectral=True)), nn.Linear(3, 2)
    phases = players(
        discriminator=judge,
        generator=maker,
        discriminator_loss=dict,
        generator_loss=dict,
        steps=5,
        clip=0.01,
        discriminator_optimizer={"lr": 1.0},
    )
    assert [(p.name, p.repeat, p.validate) for p in phases] == [("discriminator", 5, False), ("generator", 1, False)]
    assert [len(p.parameters) for p in phases] == [len(list(judge.parameters())), 2]
    part = judge[0].stages[0][0].parametrizations.weight
    with torch.no_grad():
        part.original.copy_(torch.randn_like(part.original))
    u = part[0].u.clone()
    phases[0].after()
    assert max(p.abs().max().item() for p in judge.parameters()) <= 0.01
    assert not torch.equal(part[0].u, u), "the spectral norms follow the weights"


def test_the_alarm_rings_once_per_cause():
    alarm = CollapseAlarm(diversity=0.2, patience=3, grace=10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not any(alarm.watch(s, {"diversity": 0.0, "accuracy": 1.0}) for s in range(10)), "grace"
        assert not any(alarm.watch(s, {"diversity": 0.1}) for s in (10, 11))
        assert not alarm.watch(12, {"diversity": 0.3}), "the row is broken"
        assert not any(alarm.watch(s, {"diversity": 0.1}) for s in (13, 14))
    with pytest.warns(CollapseWarning, match=r"collapse at step 15: generated batches have 0.10 of the data's diversity.*training goes on"):
        assert alarm.watch(15, {"diversity": 0.1}) is False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not alarm.watch(16, {"diversity": 0.1})
    with pytest.warns(CollapseWarning, match="right about 100.0% of the samples"):
        assert not any(alarm.watch(s, {"accuracy": 1.0}) for s in (17, 18, 19))


def test_the_alarm_stops_where_asked():
    alarm = CollapseAlarm(patience=1, grace=0, stop=True)
    with pytest.warns(CollapseWarning, match="training stops here"):
        assert alarm.watch(1, {"diversity": 0.0})


def test_the_example_of_the_docs():
    """docs/gans.md: pix2pix out of the parts, two phases that train."""
    text = (Path(__file__).parents[2] / "docs" / "gans.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    net = nn.Conv2d(1, 1, 3, padding=1)
    scope = {"net": net}
    exec(compile(code, "docs/gans.md", "exec"), scope)
    batch = Batch(torch.randn(2, 1, 64, 64), Condition({"source": torch.randn(2, 1, 64, 64)}))
    for phase in scope["phases"]:
        said = phase.loss(batch, step(2))
        said["loss"].backward()
        assert all(p.grad is not None for p in phase.parameters)
    assert said["l1"] > 0
