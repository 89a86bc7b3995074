"""The loop end to end, on models and data small enough to train in a second."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import Field
from torch import nn

import medgen
from medgen.data import from_arrays
from medgen.errors import ConfigError, DataError, NonFiniteError, RunError
from medgen.interfaces import PreparesOnData
from medgen.registry import host
from medgen.runs import TrainConfig
from medgen.training import resume, train
from medgen.training.loop import Loop
from medgen.training.verb import _fabric

TINY = {"latent_dim": 2, "channels": [4], "blocks": 0}


def images(n=48, seed=0, size=8):
    return np.random.default_rng(seed).random((n, size, size), dtype=np.float32)


def fit(out, data=None, **options):
    return train("vae", data or from_arrays(images()), out, model=TINY, show=False, **{"steps": 6, "batch_size": 8, **options})


def weights(run):
    return dict(run.model.state_dict().items())


def same(a, b):
    return all(torch.equal(a[k], b[k]) for k in a) and a.keys() == b.keys()


def test_same_seed_same_weights_and_the_global_rng_is_untouched(tmp_path):
    torch.manual_seed(11)
    before = torch.random.get_rng_state()
    first = fit(tmp_path / "a")
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(12)
    assert same(weights(first), weights(fit(tmp_path / "b")))
    assert not same(weights(first), weights(fit(tmp_path / "c", seed=1)))


def test_the_run_folder(tmp_path):
    run = fit(tmp_path / "a", validate_every=3)
    assert {p.name for p in run.path.iterdir()} == {"config.yaml", "data.json", "metrics.csv", "model.safetensors"}
    rows = run.metrics()
    assert {(r["split"], r["name"]) for r in rows} >= {("train", "loss"), ("train", "kl"), ("val", "loss"), ("train", "lr")}
    assert [r["step"] for r in rows if r["split"] == "val" and r["name"] == "loss"] == [3, 6]
    assert run.config.train.steps == 6


def test_the_loss_falls(tmp_path):
    run = fit(tmp_path / "a", steps=60, lr=1e-2)
    losses = [r["value"] for r in run.metrics() if (r["split"], r["name"]) == ("val", "loss")]
    assert losses[-1] < losses[0] - 0.05


def test_accumulation_gives_the_same_gradient(tmp_path):
    whole, parts = fit(tmp_path / "a"), fit(tmp_path / "b", accumulate=4)
    for a, b in zip(weights(whole).values(), weights(parts).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("stop_at", [1, 4, 5])
@pytest.mark.parametrize(
    "extra", [{}, {"ema": 0.9}, {"keep": "best", "validate_every": 2}, {"precision": "bfloat16", "optimizer": "rmsprop"}]
)
def test_resume_is_bit_equal_to_an_uninterrupted_run(tmp_path, monkeypatch, stop_at, extra):
    data = from_arrays(images())
    whole = fit(tmp_path / "whole", data, **extra)
    step, seen = Loop._step, []

    def interrupted(self, batches):
        seen.append(self.position.step)
        if self.position.step == stop_at and len(seen) == stop_at + 1:
            raise OSError("power cut")
        return step(self, batches)

    monkeypatch.setattr(Loop, "_step", interrupted)
    with pytest.raises(OSError, match="power cut"):
        fit(tmp_path / "cut", data, checkpoint_every=2, **extra)
    again = resume(tmp_path / "cut", data=data, show=False)
    assert same(weights(whole), weights(again))
    assert not again.resume_dir.exists()
    expected = list(whole.metrics())
    assert again.metrics() == expected


def test_resume_refuses_changed_data(tmp_path, monkeypatch):
    def cut(self, batches):
        raise OSError("power cut")

    monkeypatch.setattr(Loop, "_step", cut)
    with pytest.raises(OSError, match="power cut"):
        fit(tmp_path / "a")
    with pytest.raises(RunError, match="has changed since"):
        resume(tmp_path / "a", data=from_arrays(images(seed=1)), show=False)


def test_resume_of_a_finished_run_changes_nothing(tmp_path):
    run = fit(tmp_path / "a")
    stamp = run.weights_file.stat().st_mtime_ns
    assert resume(tmp_path / "a", show=False).weights_file.stat().st_mtime_ns == stamp


def test_a_taken_folder_is_refused(tmp_path):
    fit(tmp_path / "a")
    with pytest.raises(RunError, match="--resume"):
        fit(tmp_path / "a")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "letter.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        fit(tmp_path / "b")
    assert (tmp_path / "b" / "letter.txt").read_text() == "mine"


def test_early_stopping_and_best_weights(tmp_path):
    noise = from_arrays(images(n=24))
    run = fit(tmp_path / "a", noise, steps=400, lr=3e-2, validate_every=4, patience=3, keep="best", warmup=0)
    losses = {r["step"]: r["value"] for r in run.metrics() if (r["split"], r["name"]) == ("val", "loss")}
    assert max(losses) < 400, "stopped early"
    best = min(losses, key=losses.get)
    assert list(losses).index(best) == len(losses) - 4, "three validations without improvement after the best"
    from medgen import weights as files

    assert files.read_meta(run.weights_file)["training"]["best_validation"] == pytest.approx(losses[best], abs=1e-12)


def test_ema_is_what_is_saved(tmp_path):
    plain, averaged = fit(tmp_path / "a", steps=20), fit(tmp_path / "b", steps=20, ema=0.99)
    assert not same(weights(plain), weights(averaged))


def test_data_outside_the_decoders_range_is_an_error_at_step_0(tmp_path):
    data = from_arrays(images(), default_range=(-1, 1))
    with pytest.raises(DataError, match=r"can only produce \[0, 1\].*--range 0 1"):
        train("vae", data, tmp_path / "a", model={**TINY, "likelihood": "bernoulli"}, steps=2, batch_size=8, show=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 9, "accumulate": 2}, "divisible"),
        ({"optimiser": "adam"}, "did you mean 'optimizer'"),
        ({"betas": [0.9, 1.5]}, "betas"),
        ({"precision": "float16", "device": "cpu"}, "bfloat16"),
    ],
)
def test_wrong_options_write_nothing(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        fit(tmp_path / "a", **options)
    assert not (tmp_path / "a").exists()


def test_a_family_that_does_not_take_the_data(tmp_path):
    with pytest.raises(ConfigError, match=r"latent_dim"):
        train("vae", from_arrays(images()), tmp_path / "a", model={"latent_dims": 3}, show=False)
    assert not (tmp_path / "a").exists()


# families of this file, registered for it alone ------------------------------------------------------------------------------------------


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
    import sys

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
            from_arrays(images()),
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
    data = from_arrays(images())
    config = TrainConfig(steps=6, batch_size=8, clip=0.0, lr=0.25, schedule="constant", warmup=0, optimizer="sgd", betas=(0.0, 0.9))
    fabric = _fabric(config)
    model = medgen.create("two_players", data.image_spec)
    from medgen.runs import Run, RunConfig

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


def test_interrupt_writes_a_checkpoint_and_resumes(tmp_path, monkeypatch):
    import os
    import signal

    data = from_arrays(images())
    whole = fit(tmp_path / "whole", data)
    step = Loop._step

    def interrupted(self, batches):
        if self.position.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return step(self, batches)

    monkeypatch.setattr(Loop, "_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "a", data)
    monkeypatch.undo()
    assert (tmp_path / "a" / "resume" / "step-000000003").is_dir()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert same(weights(whole), weights(resume(tmp_path / "a", data=data, show=False)))
