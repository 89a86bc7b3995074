"""Abstract or final: the public verbs are written once, in the interfaces, and no installed family overrides one."""

from __future__ import annotations

import inspect

import pytest

from medgen.interfaces import INTERFACES, DensityModel, Generator, Inpainter, LatentModel, Model, Translator
from medgen.registry import families, resolve

OWN = {"Model", *(interface.__name__ for interface in INTERFACES.values())}
VERBS = {
    Generator: {"sample"},
    Inpainter: {"inpaint"},
    DensityModel: {"log_prob", "bits_per_dim"},
    LatentModel: {"encode", "decode", "reconstruct"},
    Translator: {"translate", "source_spec"},
    Model: {"condition_spec", "select", "_checked", "_checked_x"},
}


def is_final(member):
    return getattr(member.fget if isinstance(member, property) else member, "__final__", False)


@pytest.mark.parametrize("interface", VERBS)
def test_the_verbs_are_final_and_the_rest_abstract(interface):
    final = {name for name, member in vars(interface).items() if is_final(member)}
    assert final == VERBS[interface]
    functions = {name for name, member in vars(interface).items() if inspect.isfunction(member) and not name.startswith("__")}
    assert functions - final <= interface.__abstractmethods__


def overridden(model):
    """Final members of the interfaces that a class below them defines again."""
    final = {name for interface in VERBS for name in VERBS[interface]}
    below = [c for c in model.__mro__ if issubclass(c, Model) and c not in VERBS]
    return {f"{c.__name__}.{name}" for c in below for name in final & set(vars(c))}


@pytest.mark.parametrize("item", families(), ids=lambda item: item.qualified)
def test_no_family_overrides_a_verb(item):
    model = resolve(item.spec.model, owner=item.owner)
    assert overridden(model) == set()
    for name, interface in INTERFACES.items():
        assert issubclass(model, interface) == (name in item.spec.interfaces), f"{item.owner}: interface {name}"
    assert not inspect.isabstract(model)


def test_the_law_catches_a_mutant():
    class Mutant(Generator):
        def sample(self, n):
            return n

    class Child(Mutant):
        pass

    assert overridden(Child) == {"Mutant.sample"}


def test_there_is_a_family_to_check():
    assert families(interface="generator")
