"""The laws of the families made of masked networks."""

from __future__ import annotations

from medgen.testing import FamilySuite


class TestMade(FamilySuite):
    family = "made"


class TestMaf(FamilySuite):
    family = "maf"


class TestIaf(FamilySuite):
    family = "iaf"
