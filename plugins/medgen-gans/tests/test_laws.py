"""The laws of medgen, for every adversarial family."""

from __future__ import annotations

from pathlib import Path

from medgen.testing import FamilySuite

GOLDEN = Path(__file__).parent / "golden"


class TestGan(FamilySuite):
    family = "gan"
    golden = GOLDEN


class TestWganGp(FamilySuite):
    family = "wgan_gp"
    golden = GOLDEN


class TestCgan(FamilySuite):
    family = "cgan"
    golden = GOLDEN


class TestAcgan(FamilySuite):
    family = "acgan"
    golden = GOLDEN


class TestSgan(FamilySuite):
    family = "sgan"
    golden = GOLDEN


class TestVaeGan(FamilySuite):
    family = "vae_gan"
    golden = GOLDEN
