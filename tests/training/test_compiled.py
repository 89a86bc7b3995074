"""`compile`: the same training through torch.compile, and without it where that fails."""

from __future__ import annotations

import functools

import pytest
import tiny
import torch

from medgen.data import from_arrays
from medgen.errors import NonFiniteError
from medgen.training import resume, train
from medgen.training.loop import Loop

compile_ = torch.compile


def fit(out, **options):
    given = {"steps": 6, "batch_size": 8, "checkpoint_every": 2, "show": False, "compile": True}
    model = {"latent_dim": 2, "channels": [4]}
    return train("vae", from_arrays(tiny.images(48, 8)), out, model=model, **(given | options))


def weights(run):
    return run.model.state_dict()


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(weights(a).values(), weights(b).values(), strict=True))


def interrupt(monkeypatch, at):
    step = Loop._step

    def interrupted(self, batches):
        if self.position.step == at:
            monkeypatch.setattr(Loop, "_step", step)
            raise OSError("power cut")
        return step(self, batches)

    monkeypatch.setattr(Loop, "_step", interrupted)


@pytest.fixture
def traced(monkeypatch):
    """Everything but the code generation, which takes a minute."""
    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", functools.partial(compile_, backend="eager", fullgraph=True))


def test_a_traced_training_is_the_eager_one(traced, tmp_path, recwarn):
    assert equal(fit(tmp_path / "a"), fit(tmp_path / "b", compile=False))
    assert [str(w.message) for w in recwarn if "compilation" in str(w.message)] == []


def test_resume_of_a_traced_training(traced, tmp_path, monkeypatch):
    whole = fit(tmp_path / "whole")
    interrupt(monkeypatch, 3)
    with pytest.raises(OSError, match="power cut"):
        fit(tmp_path / "cut")
    assert equal(resume(tmp_path / "cut", data=from_arrays(tiny.images(48, 8)), show=False), whole)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("where", ["forward", "backward"])
def test_a_failing_compiler_costs_a_warning(tmp_path, monkeypatch, where, accumulate):
    class Fails(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            raise RuntimeError("no C++ compiler")

    def broken(loss):
        def call(batch, step):
            if where == "forward":
                raise RuntimeError("\nno C++ compiler\nand a long story")
            return {"loss": Fails.apply(loss(batch, step)["loss"])}

        return call

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.warns(UserWarning, match="trains without compilation: RuntimeError: no C.. compiler. Install a C.. compiler") as caught:
        run = fit(tmp_path / "a", accumulate=accumulate)
    assert len([w for w in caught if "compilation" in str(w.message)]) == 1, "said once"
    assert equal(run, fit(tmp_path / "b", accumulate=accumulate, compile=False))


def test_a_mistake_of_the_loss_is_raised(traced, tmp_path, monkeypatch):
    def wrong(self, *_):
        raise ValueError("a mistake")

    monkeypatch.setattr("medgen_autoencoders.vae.Vae._loss", wrong)
    with pytest.warns(UserWarning, match="without compilation"), pytest.raises(ValueError, match="a mistake"):
        fit(tmp_path / "a")


def test_the_guard_names_the_module(traced, tmp_path):
    with pytest.raises(NonFiniteError, match=r"is not finite at step \d, phase '\w+': .*(module|first output|parameter)"):
        fit(tmp_path / "a", lr=1e30, steps=8, warmup=0, schedule="constant", clip=0.0, optimizer="sgd")


@pytest.mark.slow
def test_compiled(tmp_path, monkeypatch):
    """With code generation: as the eager training to rounding, and resumed to the bit."""
    torch._dynamo.reset()
    whole = fit(tmp_path / "whole")
    for a, b in zip(weights(whole).values(), weights(fit(tmp_path / "eager", compile=False)).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)
    interrupt(monkeypatch, 3)
    with pytest.raises(OSError, match="power cut"):
        fit(tmp_path / "cut")
    torch._dynamo.reset()  # as in another process
    assert equal(resume(tmp_path / "cut", data=from_arrays(tiny.images(48, 8)), show=False), whole)
