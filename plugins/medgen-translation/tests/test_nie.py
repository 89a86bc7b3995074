"""The protocol of Nie: its baselines in closed form, and the whole of it, tiny."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

import medgen

SCRIPT = Path(__file__).parents[1] / "examples" / "nie.py"


@pytest.fixture(scope="module")
def nie():
    spec = importlib.util.spec_from_file_location("nie", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["nie"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["nie"]


def some(nie, n, seed=0):
    rng = torch.Generator().manual_seed(seed)
    mr = torch.rand(n, 1, 6, 6, 6, generator=rng)
    return nie.Heads(mr, 1000 * torch.rand(mr.shape, generator=rng), torch.ones_like(mr))


def test_the_atlas_is_the_mean(nie):
    train, test = some(nie, 3), some(nie, 2, 1)
    made = nie.atlas(train, test)
    assert made.shape == test.ct.shape
    torch.testing.assert_close(made[1], train.ct.mean(0))


def test_patches_find_what_they_have_seen(nie):
    train = some(nie, 2)
    torch.testing.assert_close(nie.patches(train, train, atoms=10**6, neighbours=1, seed=0), train.ct)


def test_sharpness_is_relative_to_the_truth(nie):
    test = some(nie, 2)
    assert nie.sharpness(test, test.ct) == pytest.approx([1, 1])
    assert nie.sharpness(test, 0.25 * test.ct + 7) == pytest.approx([0.25, 0.25])


def test_the_protocol_runs_from_one_command(nie, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["nie.py", "--out", str(tmp_path), "--tiny"])
    nie.main()
    said = capsys.readouterr().out
    figures = json.loads((tmp_path / "nie.json").read_text())["figures"]
    assert list(figures) == ["atlas", "patches", *nie.METHODS]
    mae = [line[0] for line in figures["atlas"]["values"]]
    row = next(line for line in said.splitlines() if line.startswith("atlas"))
    assert row.split()[1] == f"{sum(mae) / 2:.1f}"
    assert "92.5 (13.9) 92.1" in said
    assert (tmp_path / "nie.png").read_bytes()[:4] == b"\x89PNG"
    assert medgen.open_run(tmp_path / "context").config.model["contexts"] == 1
    written = (tmp_path / "context" / "model.safetensors").stat().st_mtime_ns
    nie.main()
    assert (tmp_path / "context" / "model.safetensors").stat().st_mtime_ns == written, "trained once"
