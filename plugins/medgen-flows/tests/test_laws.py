"""The laws of medgen, for every family of couplings."""

from __future__ import annotations

from pathlib import Path

from medgen.testing import FamilySuite

GOLDEN = Path(__file__).parent / "golden"


class TestBanana(FamilySuite):
    family = "banana"
    golden = GOLDEN


class TestNice(FamilySuite):
    family = "nice"
    golden = GOLDEN


class TestRealNvp(FamilySuite):
    family = "realnvp"
    golden = GOLDEN


class TestGlow(FamilySuite):
    family = "glow"
    golden = GOLDEN


class TestSplineFlow(FamilySuite):
    family = "spline_flow"
    golden = GOLDEN
