"""`Run`: what the folder gives back, and what is said where it cannot."""

from __future__ import annotations

import numpy as np
import pytest
import tiny

import medgen
from medgen.data import from_arrays
from medgen.errors import DataError, RunError
from medgen.runs import Run, open_run


def test_open_gives_everything_back():
    run = open_run(tiny.trained())
    assert repr(run) == f"Run('{tiny.trained()}')"
    assert run.config.family == "vae"
    assert run.config.train.steps == 2
    assert run.config.model == tiny.MODEL
    assert not run.model.training
    assert len(run.dataset) == 60
    assert run.data_summary()["fingerprint"] == run.dataset.fingerprint
    assert {row["split"] for row in run.metrics()} == {"train", "val"}


def test_what_is_no_run(tmp_path):
    with pytest.raises(RunError, match=r"is not a run folder \(it has no config.yaml\). `medgen train` makes one"):
        open_run(tmp_path)
    run = tiny.copied(tmp_path)
    with pytest.raises(RunError, match=f"did you mean its parent {run.path}"):
        open_run(run.path / "samples")
    run.weights_file.unlink()
    with pytest.raises(RunError, match=f"medgen train --resume {run.path}"):
        _ = open_run(run.path).model


def test_a_device_that_is_not_there():
    run = open_run(tiny.trained())
    assert run.device("cpu").type == "cpu"
    with pytest.raises(RunError, match="--device cpu"):
        run.device("cuda")


WHOLE = "step,epoch,split,phase,name,value\r\n1,0,train,elbo,loss,0.5\r\n2,0,train,elbo,loss,0.25\r\n"


@pytest.mark.parametrize(
    ("tail", "values"),
    [
        ("", [0.5, 0.25]),
        ("3,0,train,elbo,lo", [0.5, 0.25]),
        ("3,0,train,elbo,loss,0.12", [0.5, 0.25]),  # it was 0.125: cut within the number, and still a number
        ("3,0,train,elbo,loss,0.125\r\n", [0.5, 0.25, 0.125]),
        ("3,0,train,elbo,loss,\r\n4,0,train,elbo,loss,1e-3\r\n", [0.5, 0.25, 1e-3]),
        ("\x00\x00\x00\x00", [0.5, 0.25]),
        ("3,0,train,elbo,loss,0.1\x00\x00\r\n", [0.5, 0.25]),
        ("\r\n\r\n", [0.5, 0.25]),
        ("3,0,train,elbo,loss,nan\r\n", [0.5, 0.25, pytest.approx(float("nan"), nan_ok=True)]),
    ],
)
def test_half_written_rows_are_passed_over(tmp_path, tail, values):
    run = Run(tmp_path)
    run.metrics_file.write_text(WHOLE + tail, newline="")
    assert [row["value"] for row in run.metrics()] == values


def test_metrics_of_a_run_that_has_none(tmp_path):
    assert Run(tmp_path).metrics() == []
    Run(tmp_path).metrics_file.write_text("step,epo")
    assert Run(tmp_path).metrics() == []


# the data of a run --------------------------------------------------------------------------------------------------------------------


def fit(data, out, **options):
    return medgen.train("vae", data, out, model=tiny.MODEL, steps=1, batch_size=8, device="cpu", show=False, **options)


@pytest.fixture
def scans(tmp_path):
    path = tmp_path / "scans.npz"
    np.savez(path, x=np.random.default_rng(0).integers(-1000, 2000, (40, 16, 16)).astype(np.int16))
    return path


def test_a_run_reopens_the_very_data_that_was_opened_for_it(tmp_path, scans):
    """An open dataset brings its window along: a run that forgot it would compare with other grey values."""
    opened = medgen.open_data(scans, window=(-600, 1400), split=(0.5, 0.25, 0.25), default_range=(-1, 1))
    run = fit(opened, tmp_path / "a")
    assert run.dataset is opened
    again = open_run(tmp_path / "a").dataset
    assert again.fingerprint == opened.fingerprint
    assert again.image_spec == opened.image_spec
    assert {k: v.tolist() for k, v in again.splits.items()} == {k: v.tolist() for k, v in opened.splits.items()}
    rows = opened.splits["val"]
    assert bool((again.fetch(rows).x == opened.fetch(rows).x).all())


def test_options_do_not_come_after_the_data_is_open(tmp_path, scans):
    with pytest.raises(medgen.MedgenError, match=r"already open, so the options \['window'\] come too late"):
        fit(medgen.open_data(scans), tmp_path / "a", window=(0, 1))
    assert not (tmp_path / "a").exists()


def test_data_that_changed_is_not_taken_for_the_runs_own(tmp_path, scans):
    fit(scans, tmp_path / "a")
    with np.load(scans) as file:
        x = file["x"]
    x[0, 0, 0] += 1
    np.savez(scans, x=x)
    with pytest.raises(RunError, match=r"scans.npz has changed since .* was started \(fingerprint \w{12} then, \w{12} now\)"):
        _ = open_run(tmp_path / "a").dataset


def test_data_that_is_not_at_hand_is_an_error_that_names_the_run(tmp_path, scans):
    fit(scans, tmp_path / "a")
    scans.unlink()
    with pytest.raises(DataError, match=rf"the data of {tmp_path / 'a'}: .*scans.npz"):
        _ = open_run(tmp_path / "a").dataset


def test_arrays_stay_with_the_run_that_was_just_trained(tmp_path):
    data = from_arrays(tiny.images())
    run = fit(data, tmp_path / "a")
    assert run.dataset is data
    assert medgen.evaluate(run, metrics=["mae"], bootstrap=0)[0].n == len(data.splits["val"])
    with pytest.raises(DataError, match="no file, folder or registered dataset 'arrays'"):
        _ = open_run(tmp_path / "a").dataset
