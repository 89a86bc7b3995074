"""The laws themselves: every sound family keeps them, and every fault is noticed by the laws that have to do with it, and by no other."""

from __future__ import annotations

import pytest
from testing.mutants import flow, others
from testing.mutants.mutant import Sound

from medgen.testing import LAWS, check_law

SOUND = [found for module in (flow, others) for found in vars(module).values() if isinstance(found, Sound)]


@pytest.mark.parametrize("sound", SOUND, ids=lambda sound: sound.spec.name)
def test_a_sound_family_keeps_every_law(sound):
    from medgen.testing import Subject

    subject = Subject(sound.spec)
    outcomes = [check_law(name, subject) for name in sound.laws()]
    print([(o.law.name, round(o.seconds, 2)) for o in outcomes if o.seconds > 0.1])
    assert {o.law.name: o.reason for o in outcomes if o.state == "failed"} == {}
