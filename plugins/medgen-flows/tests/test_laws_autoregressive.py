"""The laws of the families made of masked networks."""

from __future__ import annotations

from pathlib import Path

from medgen.testing import FamilySuite

GOLDEN = Path(__file__).parent / "golden"


class TestMade(FamilySuite):
    family = "made"
    golden = GOLDEN


class TestMaf(FamilySuite):
    family = "maf"
    golden = GOLDEN


class TestIaf(FamilySuite):
    family = "iaf"
    golden = GOLDEN
