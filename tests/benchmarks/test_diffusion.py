"""The benchmark of sampling runs where its rivals are missing, and counts time outside the network rightly."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[2]


@pytest.fixture
def case(monkeypatch):
    """The case as it is without the rivals."""
    monkeypatch.syspath_prepend(str(ROOT))
    for name in ("diffusers", "monai", "monai.inferers", "monai.networks"):
        monkeypatch.setitem(sys.modules, name, None)
    module = importlib.import_module("benchmarks.cases.diffusion")
    monkeypatch.setattr(module, "BASELINE", "network alone")
    return module


def test_rivals_that_are_missing_are_lines(case):
    with torch.no_grad():
        found = {result.rival: result for result in case.small_unet(1, 2)}
    assert set(found) == {"network alone", "medgen ancestral", "diffusers", "MONAI"}
    assert "outside the network" in found["medgen ancestral"].note
    for rival in ("diffusers", "MONAI"):
        assert "not installed" in found[rival].note
        assert not found[rival].seconds


def test_strided_chains_of_the_oracle(case):
    """The same figures as in docs/sampling.md."""
    with torch.no_grad():
        found = {result.rival: result.note for result in case.strided(20_000)}
    assert "not installed" in found["MONAI DDPM, 250"]
    for rival, sd in (("medgen ancestral, beta, 50", 0.512), ("medgen ancestral, posterior, 250", 0.486), ("medgen ddim, 50", 0.471)):
        mean, spread = (float(part.split()[1]) for part in found[rival].split(", "))
        assert mean == pytest.approx(0.3, abs=0.015)
        assert spread == pytest.approx(sd, abs=0.01)


def test_seconds_outside_the_network(case, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(case.time, "perf_counter", lambda: now[0])

    class Slow(nn.Module):
        def forward(self, x):
            now[0] += 3.0
            return x

    net = case.Timed(Slow())

    def run():
        for _ in range(2):
            net(0)
            now[0] += 1.0

    assert case.outside(run, net, 3) == pytest.approx(0.25)
