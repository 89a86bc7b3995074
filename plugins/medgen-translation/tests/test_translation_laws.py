"""The laws of medgen, for every translation family."""

from __future__ import annotations

from pathlib import Path

from medgen.testing import FamilySuite

GOLDEN = Path(__file__).parent / "golden"


class TestRegression(FamilySuite):
    family = "regression"
    golden = GOLDEN


class TestPix2pix(FamilySuite):
    family = "pix2pix"
    golden = GOLDEN


class TestCycleGan(FamilySuite):
    family = "cyclegan"
    golden = GOLDEN


class TestContextAwareGan(FamilySuite):
    family = "context_aware_gan"
    golden = GOLDEN


class TestSketcherRefiner(FamilySuite):
    family = "sketcher_refiner"
    golden = GOLDEN


class TestSpade(FamilySuite):
    family = "spade"
    golden = GOLDEN


class TestDiffusionTranslation(FamilySuite):
    family = "diffusion_translation"
    golden = GOLDEN
