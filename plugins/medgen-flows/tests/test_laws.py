"""The laws of medgen, for every family of couplings."""

from __future__ import annotations

from medgen.testing import FamilySuite


class TestBanana(FamilySuite):
    family = "banana"


class TestNice(FamilySuite):
    family = "nice"


class TestRealNvp(FamilySuite):
    family = "realnvp"


class TestGlow(FamilySuite):
    family = "glow"


class TestSplineFlow(FamilySuite):
    family = "spline_flow"
