"""The laws themselves: every sound family keeps them, and every fault is noticed by the laws that have to do with it, and by no other."""

from __future__ import annotations

import importlib

import pytest
from testing.mutants import flow, others
from testing.mutants.mutant import Sound

from medgen.testing import LAWS, Subject, check_law

FAULTS = ("plugin", "sampling", "density", "translation", "training", "persistence", "numerics")
for name in FAULTS:
    importlib.import_module(f"testing.mutants.{name}")

SOUND = [found for module in (flow, others) for found in vars(module).values() if isinstance(found, Sound)]
MUTANTS = [mutant for sound in SOUND for mutant in sound.mutants]


def failures(subject, laws):
    outcomes = [check_law(name, subject) for name in laws]
    print("SLOW", [(o.law.name, round(o.seconds, 2)) for o in outcomes if o.seconds > 0.1])
    return {o.law.name: o.reason for o in outcomes if o.state == "failed"}


@pytest.mark.parametrize("sound", SOUND, ids=lambda sound: sound.spec.name)
def test_a_sound_family_keeps_every_law(sound):
    assert failures(Subject(sound.spec), sound.laws()) == {}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.spec.name)
def test_a_fault_breaks_its_laws_and_no_other(mutant):
    found = failures(mutant.subject, mutant.laws())
    missed, unrelated = sorted(mutant.fails & LAWS.keys() - found.keys()), {name: why for name, why in found.items() if name not in mutant.fails}
    assert not missed, f"{mutant.fault} These laws did not notice: {missed}."
    assert not unrelated, f"{mutant.fault} These laws have nothing to do with it: {unrelated}."


def test_every_law_is_broken_by_some_mutant():
    broken = {name for mutant in MUTANTS for name in mutant.fails}
    assert broken - LAWS.keys() == set()
    assert LAWS.keys() - broken == set()
