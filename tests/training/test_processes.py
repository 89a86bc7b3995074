"""What only real processes show: a training killed at any moment, and one shared by two ranks."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from medgen import weights as files
from medgen.runs import open_run

COMMON = [
    "--data",
    "cardiac_phantom?n=120&size=16",
    "--device",
    "cpu",
    "--model.latent_dim",
    "2",
    "--model.channels",
    "4",
    "8",
    "--batch_size",
    "16",
]


def command(*words):
    return [sys.executable, "-m", "medgen", "train", *words]


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def run(*words):
    done = subprocess.run(command(*words), env=environment(), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done


def tensors(path):
    return {k: v.tolist() for k, v in files.load_tensors(path / "model.safetensors").items()}


@pytest.mark.slow
def test_killed_at_random_moments_it_resumes_to_the_same_bits(tmp_path):
    options = ["--steps", "160", "--checkpoint_every", "7", "--ema", "0.99", "--log_every", "5"]
    run("vae", *COMMON, *options, "--out", str(tmp_path / "whole"))
    killed = tmp_path / "killed"
    moments, kills, deaths = random.Random(5), 0, []
    first = ["vae", *COMMON, *options, "--out", str(killed)]
    again = ["--resume", str(killed)]
    for attempt in range(12):
        started = (killed / "config.yaml").exists()
        process = subprocess.Popen(
            command(*(again if started else first)), env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        # Wait for the first sign of training, so that kills fall into it and not into the imports.
        metrics, before = killed / "metrics.csv", time.monotonic()
        stamp = metrics.stat().st_mtime_ns if metrics.exists() else 0
        while process.poll() is None and not (metrics.exists() and metrics.stat().st_mtime_ns != stamp) and time.monotonic() - before < 120:
            time.sleep(0.01)
        time.sleep(moments.uniform(0.0, 0.5))
        if attempt < 4 and process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            deaths.append(sorted(p.name for p in (killed / "resume").glob("step-*")) if (killed / "resume").exists() else [])
            continue
        assert process.wait(timeout=300) == 0, process.stderr.read()
        break
    assert kills >= 2, "the training ended before it could be killed; make it longer"
    assert tensors(tmp_path / "whole") == tensors(killed), deaths
    assert open_run(tmp_path / "whole").metrics() == open_run(killed).metrics()
    assert not (killed / "resume").exists()


@pytest.mark.slow
def test_two_ranks_train_like_one_process(tmp_path):
    options = ["--steps", "20", "--log_every", "1", "--validate_every", "10"]
    run("vae", *COMMON, *options, "--out", str(tmp_path / "one"))
    run("vae", *COMMON, *options, "--devices", "2", "--out", str(tmp_path / "two"))
    one, two = (open_run(tmp_path / name).metrics() for name in ("one", "two"))
    assert [{k: v for k, v in row.items() if k != "value"} for row in one] == [
        {k: v for k, v in row.items() if k != "value"} for row in two
    ]
    for a, b in zip(one, two, strict=True):
        assert a["value"] == pytest.approx(b["value"], rel=2e-4, abs=1e-6), a


@pytest.mark.slow
def test_ctrl_c_exits_130_and_says_how_to_go_on(tmp_path):
    process = subprocess.Popen(
        command("vae", *COMMON, "--epochs", "5000", "--log_every", "1", "--out", str(tmp_path / "a")),
        env=environment(),
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not (tmp_path / "a" / "metrics.csv").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "--resume" in errors
    assert len(list((tmp_path / "a" / "resume").glob("step-*"))) == 1
