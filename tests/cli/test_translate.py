from __future__ import annotations

import numpy as np
import pytest
from tiny import ok, refused

WORDS = ("--model.width", 4, "--model.multipliers", 1, "--steps", 2, "--batch_size", 4, "--device", "cpu", "--quiet")


@pytest.fixture
def run(tmp_path):
    x = np.random.Generator(np.random.Philox(0)).integers(40, 256, (10, 3, 8, 8)).astype(np.uint8)
    np.savez(tmp_path / "d.npz", images=x)
    data = ("--data", tmp_path / "d.npz", "--key", "images", "--channels", 2, "--source", "images", "--source_channels", 0, 1)
    out = ok("train", "regression", *data, *WORDS, "--out", tmp_path / "run")
    assert f"medgen translate {tmp_path / 'run'} INPUT OUT" in out
    return tmp_path / "run"


def test_translate(run, tmp_path):
    assert ok("translate", run, tmp_path / "d.npz", tmp_path / "out.npz") == f"{tmp_path / 'out.npz'}: 1 file\n"
    assert np.load(tmp_path / "out.npz")["x"].shape == (10, 1, 8, 8)
    assert "give an input and an output" in refused("translate", run, tmp_path / "d.npz")
    assert "`draws` above 1 needs a stochastic translation" in refused(
        "translate", run, tmp_path / "d.npz", tmp_path / "x.npz", "--draws", 2
    )
    assert "not both" in refused("translate", run, tmp_path / "d.npz", tmp_path / "x.npz", "--memory", 1, "--tiles", 2)
    assert not (tmp_path / "x.npz").exists()
