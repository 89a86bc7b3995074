"""The loop over models of this file: two players in turn, and numbers that break."""

from __future__ import annotations

import sys

import pytest
import tiny
import torch
from pydantic import Field
from torch import nn

import medgen
from medgen.data import from_arrays
from medgen.errors import NonFiniteError
from medgen.interfaces import PreparesOnData
from medgen.registry import host
from medgen.runs import Run, RunConfig, TrainConfig
from medgen.training import train
from medgen.training.loop import Loop
from medgen.training.verb import _fabric


class ToyConfig(medgen.Config):
    """Options of the toy models."""

    bad_step: int = Field(-1, description="Step at which the loss becomes NaN.")
    where: str = Field("module", description="What breaks: module, loss, gradient or data.")


class Breaks(nn.Module):
    def forward(self, x, bad):
        return x * float("nan") if bad else x


class SqrtAtZero(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x

    @staticmethod
    def backward(ctx, grad):
        return grad * float("inf")


class Toy(medgen.Generator):
    """One Gaussian per value; breaks on demand."""

    def __init__(self, config, image_spec, conditions=()):
        super().__init__(config, image_spec, conditions)
        self.mean = nn.Parameter(torch.zeros(image_spec.size))
        self.inner = nn.ModuleDict({"second": Breaks()})

    def _sample(self, n, condition, noise):
        return self.mean + noise.normal(*self.image_spec.size)

    def phases(self):
        return [medgen.Phase("fit", [self.mean], self._loss)]

    def _loss(self, batch, step):
        bad = step.number == self.config.bad_step
        mean = self.inner["second"](self.mean, bad and self.config.where == "module")
        mean = SqrtAtZero.apply(mean) if bad and self.config.where == "gradient" else mean
        loss = (batch.x - mean).square().mean()
        return {"loss": loss * float("nan") if bad and self.config.where == "loss" else loss}


class TwoPlayers(medgen.Generator, PreparesOnData):
    """Minimises and maximises in turn; counts its updates in buffers."""

    def __init__(self, config, image_spec, conditions=()):
        super().__init__(config, image_spec, conditions)
        self.a, self.b = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(()))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("clipped", torch.zeros((), dtype=torch.int64))
        self.rows = {"critic": [], "generator": []}
        self.frozen = []

    def prepare(self, batches):
        self.seen += sum(len(b) for b in batches())

    def _sample(self, n, condition, noise):
        return self.a * noise.normal(*self.image_spec.size)

    def phases(self):
        critic = medgen.Phase(
            "critic", [self.b], self._critic, repeat=2, validate=False, optimizer={"lr": 0.5, "optimizer": "sgd"}, after=self._clip
        )
        return [critic, medgen.Phase("generator", [self.a], self._generator, every=3)]

    def _clip(self):
        self.clipped += 1

    def _critic(self, batch, step):
        self.rows["critic"].append(batch.index.tolist())
        self.frozen.append((self.a.requires_grad, self.b.requires_grad))
        return {"loss": self.a * self.b}

    def _generator(self, batch, step):
        if self.training:
            self.rows["generator"].append(batch.index.tolist())
            self.frozen.append((self.a.requires_grad, self.b.requires_grad))
        return {"loss": -self.a * self.b}


def _spec(name, model):
    return medgen.FamilySpec(name=name, interfaces=("generator",), model=f"{__name__}:{model}", config=f"{__name__}:ToyConfig")


@pytest.fixture
def toys(monkeypatch):
    """The toy families, in a registry of their own that ends with the test."""
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or __import__("types").ModuleType(__name__))
    for name in ("Toy", "TwoPlayers", "ToyConfig"):
        monkeypatch.setattr(sys.modules[__name__], name, globals()[name], raising=False)
    own = host.Host()
    own.plugins.append(
        host.PluginStatus(
            "toys",
            "toys",
            "0",
            __name__,
            state="ready",
            items={
                "medgen_families": [
                    host.Declared(_spec("toy", "Toy"), "toys", "0"),
                    host.Declared(_spec("two_players", "TwoPlayers"), "toys", "0"),
                ]
            },
        )
    )
    for module in ("medgen.registry.host", "medgen.registry.names"):
        monkeypatch.setattr(f"{module}.get_host", lambda: own)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            "module",
            r"the loss is not finite at step 4, phase 'fit': the first output that is not finite is that of 'inner.second' \(Breaks\)",
        ),
        ("loss", r"the loss is not finite at step 4, phase 'fit': every module's output is finite"),
        ("gradient", r"the gradient is not finite at step 4, phase 'fit'"),
    ],
)
def test_a_non_finite_number_stops_with_a_diagnosis(toys, tmp_path, where, message):
    with pytest.raises(NonFiniteError, match=message):
        train(
            "toy",
            from_arrays(tiny.images(48, 8)),
            tmp_path / "a",
            model={"bad_step": 3, "where": where},
            steps=8,
            batch_size=8,
            checkpoint_every=2,
            show=False,
        )
    kept = list((tmp_path / "a" / "resume").iterdir())
    assert [p.name for p in kept] == ["step-000000002"], "the last good checkpoint is kept"


def test_two_players(toys, tmp_path):
    data = from_arrays(tiny.images(48, 8))
    config = TrainConfig(steps=6, batch_size=8, clip=0.0, lr=0.25, schedule="constant", warmup=0, optimizer="sgd", betas=(0.0, 0.9))
    fabric = _fabric(config)
    model = medgen.create("two_players", data.image_spec)
    run = Run.begin(tmp_path / "a", RunConfig(family="two_players", data="x", train=config))
    loop = Loop(fabric, model, data, run, config, show=False)
    loop.fit()
    assert model.seen == len(data.splits["train"]), "prepare saw the training set once"
    assert model.clipped == 12, "after() ran after each critic update"
    assert len(model.rows["critic"]) == 12
    assert len(model.rows["generator"]) == 2
    flat = [i for rows in model.rows["critic"] for i in rows]
    assert len(set(map(tuple, model.rows["critic"][:4]))) == 4, "every update sees a fresh batch"
    assert set(model.frozen) == {(False, True), (True, False)}, "the other player is frozen"
    assert set(flat) <= set(data.splits["train"].tolist())
    # critic: b <- b - 0.5 a, twice a step; generator: a <- a + 0.25 b at steps 0 and 3
    a, b = 1.0, 1.0
    for step in range(6):
        for _ in range(2):
            b -= 0.5 * a
        if step % 3 == 0:
            a += 0.25 * b
    assert model.a.item() == pytest.approx(a, rel=1e-6)
    assert model.b.item() == pytest.approx(b, rel=1e-6)
    names = {(r["split"], r["phase"]) for r in run.metrics()}
    assert ("val", "generator") in names
    assert ("val", "critic") not in names
