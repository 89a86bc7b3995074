"""The laws of medgen, for every diffusion family."""

from __future__ import annotations

from pathlib import Path

from medgen.testing import FamilySuite

GOLDEN = Path(__file__).parent / "golden"


class TestDdpm(FamilySuite):
    family = "ddpm"
    golden = GOLDEN
