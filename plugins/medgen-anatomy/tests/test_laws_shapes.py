"""The laws of the families of shapes."""

from __future__ import annotations

from pathlib import Path

from medgen.testing import FamilySuite

GOLDEN = Path(__file__).parent / "golden"


class TestConstrainedVae(FamilySuite):
    family = "medgen-anatomy/constrained_vae"
    golden = GOLDEN


class TestArVae(FamilySuite):
    family = "medgen-anatomy/ar_vae"
    golden = GOLDEN


class TestPcaShape(FamilySuite):
    family = "medgen-anatomy/pca_shape"
    golden = GOLDEN


class TestPcaMasks(FamilySuite):
    family = "medgen-anatomy/pca_masks"
    golden = GOLDEN
