"""What a training tells: long metrics.csv, TensorBoard, a line on stderr; healed after a kill."""

from __future__ import annotations

import csv
import importlib
import math
import sys

import pytest
import tiny

import medgen
from medgen.data import from_arrays
from medgen.errors import MissingExtraError
from medgen.runs import METRIC_COLUMNS, Run
from medgen.training import resume, train
from medgen.training.log import MetricLog, Progress
from medgen.training.loop import Loop
from medgen.training.optim import lr_factor


def fit(out, data=None, **options):
    options = {"steps": 6, "batch_size": 8, "log_every": 2, "device": "cpu", **options}
    return train("vae", data or from_arrays(tiny.images()), out, model=tiny.MODEL, show=False, **options)


def test_the_long_form(tmp_path):
    run = fit(tmp_path / "a", validate_every=3)
    with run.metrics_file.open(newline="") as file:
        head, *rows = csv.reader(file)
    assert tuple(head) == METRIC_COLUMNS
    assert all(len(row) == len(METRIC_COLUMNS) for row in rows)
    keys = [tuple(row[:5]) for row in rows]
    assert len(set(keys)) == len(keys), "one row per step, split, phase and name"
    assert [int(k[0]) for k in keys if k[2:] == ("train", "elbo", "loss")] == [1, 2, 4, 6]
    assert [int(k[0]) for k in keys if k[2:] == ("val", "elbo", "loss")] == [3, 6]
    assert {k[4] for k in keys} == {"loss", "reconstruction", "kl", "lr"}


def test_the_logged_learning_rate_is_the_schedules(tmp_path):
    run = fit(tmp_path / "a", steps=20, log_every=1, warmup=10, lr=0.5, schedule="linear")
    found = {r["step"]: r["value"] for r in run.metrics() if r["name"] == "lr"}
    assert found == {step: 0.5 * lr_factor(step - 1, 20, schedule="linear", warmup=10) for step in range(1, 21)}


@pytest.mark.parametrize("tail", ["5,0,train,elbo,lo", "5,0,train,elbo,loss,0.1", "", "4,0,train,elbo,loss,0.9\r\n\x00\x00"])
def test_what_came_after_the_checkpoint_and_half_rows_are_dropped(tmp_path, tail):
    run = Run(tmp_path)
    whole = ",".join(METRIC_COLUMNS) + "\r\n1,0,train,elbo,loss,0.30000000000000004\r\n3,0,val,elbo,loss,1e-05\r\n"
    run.metrics_file.write_text(whole + "4,0,train,elbo,loss,0.5\r\n" + tail, newline="")
    log = MetricLog(run, 3, None)
    assert run.metrics_file.read_bytes().decode() == whole, "to the last digit"
    log.write(4, 0, "train", {("elbo", "loss"): math.nan})
    log.close()
    assert [row["step"] for row in run.metrics()] == [1, 3, 4]
    assert math.isnan(run.metrics()[-1]["value"])


def test_a_killed_training_with_a_half_written_last_line_ends_in_the_same_table(tmp_path, monkeypatch):
    data, step = from_arrays(tiny.images()), Loop._step
    whole = fit(tmp_path / "whole", data)

    def cut(self, batches):
        if self.position.step == 4:
            raise OSError("power cut")
        return step(self, batches)

    monkeypatch.setattr(Loop, "_step", cut)
    with pytest.raises(OSError, match="power cut"):
        fit(tmp_path / "cut", data, checkpoint_every=3)
    monkeypatch.undo()
    with (tmp_path / "cut" / "metrics.csv").open("a") as file:
        file.write("5,0,train,elbo,loss,0.12")
    (tmp_path / "cut" / ".tmp-abcmodel.safetensors").write_bytes(b"half")
    again = resume(tmp_path / "cut", data=data, show=False)
    assert again.metrics_file.read_bytes() == whole.metrics_file.read_bytes()
    assert set(tiny.contents(again.path)) == set(tiny.contents(whole.path)), "no temporary files either"


def test_tensorboard_has_the_same_figures(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="TensorBoard is not installed")
    run = fit(tmp_path / "a", tensorboard=True)
    events = accumulator.EventAccumulator(str(run.path / "tensorboard")).Reload()
    rows = run.metrics()
    assert set(events.Tags()["scalars"]) == {f"{r['split']}/{r['phase']}/{r['name']}" for r in rows}
    found = [(e.step, e.value) for e in events.Scalars("train/elbo/loss")]
    expected = [(r["step"], r["value"]) for r in rows if (r["split"], r["name"]) == ("train", "loss")]
    assert [s for s, _ in found] == [s for s, _ in expected]
    assert [v for _, v in found] == pytest.approx([v for _, v in expected], rel=1e-6)


def test_without_being_asked_there_is_no_tensorboard(tmp_path):
    assert not (fit(tmp_path / "a").path / "tensorboard").exists()


def test_tensorboard_that_is_missing_is_said_and_leaves_no_run(tmp_path, monkeypatch):
    real = importlib.import_module

    def absent(name, *more):
        if name.partition(".")[0] == "tensorboard":
            raise ModuleNotFoundError("no", name="tensorboard")
        return real(name, *more)

    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingExtraError, match=r"pip install 'medgen\[train\]'"):
        fit(tmp_path / "a", tensorboard=True)
    assert not (tmp_path / "a").exists()


def test_progress_is_on_stderr_and_silent_where_not_wanted(tmp_path, capsys):
    fit(tmp_path / "a")
    assert capsys.readouterr() == ("", "")
    train("vae", from_arrays(tiny.images()), tmp_path / "b", model=tiny.MODEL, steps=3, batch_size=8, device="cpu")
    out, err = capsys.readouterr()
    assert out == "", "stdout is for results"
    assert "3/3" in err
    assert "validation" in err
    assert "[red]" not in err


def test_a_text_in_brackets_is_no_markup(capsys):
    progress = Progress(3, 0, show=True)
    progress.say("loss [bold] 3")
    progress.close()
    assert "loss [bold] 3" in capsys.readouterr().err


def test_a_validation_loss_that_is_not_finite_is_never_the_best(tmp_path, monkeypatch):
    """NaN < 1 is False for ever, and JSON has no NaN: the run must still end, with the best of the finite ones."""
    values = iter([math.nan, 3.0, math.inf, 2.0, math.nan, 2.5])
    loop = sys.modules["medgen.training.loop"]
    real = loop.validation_losses

    def fake(*arguments, **options):
        return {key: next(values) if key[1] == "loss" else value for key, value in real(*arguments, **options).items()}

    monkeypatch.setattr(loop, "validation_losses", fake)
    run = fit(tmp_path / "a", validate_every=1, keep="best")
    from medgen import weights

    assert weights.read_meta(run.weights_file)["training"]["best_validation"] == 2.0
    assert medgen.load(run.path).sample(1).isfinite().all()


def test_nothing_but_nan_still_ends_with_weights(tmp_path, monkeypatch):
    loop = sys.modules["medgen.training.loop"]
    real = loop.validation_losses
    monkeypatch.setattr(loop, "validation_losses", lambda *a, **k: dict.fromkeys(real(*a, **k), math.nan))
    run = fit(tmp_path / "a", validate_every=1, keep="best", patience=3)
    assert max(r["step"] for r in run.metrics()) == 3, "no improvement, so it stops"
    assert run.model.sample(1).isfinite().all()
