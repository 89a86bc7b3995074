"""The laws of medgen, for the kernel density."""

from __future__ import annotations

from pathlib import Path

from medgen.testing import FamilySuite


class TestParzen(FamilySuite):
    family = "parzen"
    golden = Path(__file__).parent / "golden"
