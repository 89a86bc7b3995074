"""The laws of medgen, for every diffusion family."""

from __future__ import annotations

from pathlib import Path

from medgen.testing import FamilySuite

GOLDEN = Path(__file__).parent / "golden"


class TestDdpm(FamilySuite):
    family = "ddpm"
    golden = GOLDEN


class TestEdm(FamilySuite):
    family = "edm"
    golden = GOLDEN


class TestFlowMatching(FamilySuite):
    family = "flow_matching"
    golden = GOLDEN


class TestLatentDiffusion(FamilySuite):
    family = "latent_diffusion"
    golden = GOLDEN
