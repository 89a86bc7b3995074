"""The loop end to end, on models and data small enough to train in a second."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
import torch

from medgen.data import from_arrays
from medgen.errors import ConfigError, DataError, RunError
from medgen.training import resume, train
from medgen.training.loop import Loop

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


def test_interrupt_writes_a_checkpoint_and_resumes(tmp_path, monkeypatch):
    before = signal.getsignal(signal.SIGINT)
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
    assert signal.getsignal(signal.SIGINT) is before
    assert same(weights(whole), weights(resume(tmp_path / "a", data=data, show=False)))
