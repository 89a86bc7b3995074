"""The laws themselves: a sound family keeps them, and each fault is noticed by the laws that have to do with it and by no other.

Every law that applies is checked for every mutant, with two exceptions that only save time: laws of the configuration alone are not asked
again where a mutant has its parent's, and `compiles` is asked of sound families and of the mutants that break it.
"""

from __future__ import annotations

import importlib

import fakes
import pytest
from testing.mutants import cycles, flow, inpainting, others, styles, targets
from testing.mutants.mutant import Sound

from medgen.registry.host import refresh
from medgen.testing import LAWS, Subject, check_law
from medgen.testing.golden import write_golden

for faults in ("plugin", "sampling", "density", "translation", "training", "persistence", "numerics"):
    importlib.import_module(f"testing.mutants.{faults}")

SOUND = [
    found for module in (flow, others, cycles, styles, inpainting, targets) for found in vars(module).values() if isinstance(found, Sound)
]
MUTANTS = [mutant for sound in SOUND for mutant in sound.mutants]
NEED_CUDA = {"cuda_agrees_with_cpu", "graph_replay_gives_the_same_bits"}
NEED_MORE = {"is_found_by_name": "an entry point", "cuda_agrees_with_cpu": "a CUDA device"}

PLUGIN = """\
import medgen
from testing.mutants.config import SmallConfig

@medgen.hookimpl
def medgen_families():
    yield medgen.FamilySpec(
        name="{name}",
        interfaces=("generator", "density", "latent"),
        model="testing.mutants.flow:Gaussian",
        config="testing.mutants.config:SmallConfig",
        capabilities=medgen.Capabilities(spatial_dims=(0,), contents=("features",), log_prob="exact", invertible=True),
        summary="Gaussian",
        aliases=("fake_alias",),
    )
"""
INSTALLED = {
    "sound": ({"fake-one": PLUGIN.format(name="fake_one")}, set()),
    "imports torch": ({"fake-one": "import torch\n" + PLUGIN.format(name="fake_one")}, {"import_is_torch_free"}),
    "alias of another": ({f"fake-{name}": PLUGIN.format(name=f"fake_{name}") for name in ("one", "two")}, {"is_found_by_name"}),
}


def failures(subject, laws):
    outcomes = [check_law(name, subject) for name in laws]
    skipped = {outcome.law.name for outcome in outcomes if outcome.state == "skipped"}
    return {outcome.law.name: outcome.reason for outcome in outcomes if outcome.state == "failed"}, skipped


@pytest.fixture(scope="module")
def golden(tmp_path_factory):
    folder = tmp_path_factory.mktemp("golden")
    for sound in SOUND:
        write_golden(Subject(sound.spec), folder)
    return folder


@pytest.mark.parametrize("sound", SOUND, ids=lambda sound: sound.spec.name)
def test_a_sound_family_keeps_every_law(sound, golden):
    failed, skipped = failures(Subject(sound.spec, golden=golden), sound.laws())
    assert failed == {}
    assert skipped <= set(NEED_MORE)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.spec.model.rpartition(":")[2])
def test_a_fault_breaks_its_laws_and_no_other(mutant, golden):
    failed, _ = failures(mutant.subject(golden), mutant.laws())
    missed = sorted(mutant.fails - set(failed))
    unrelated = {name: why for name, why in failed.items() if name not in mutant.fails}
    assert not missed, f"{mutant.fault} These laws did not notice: {missed}."
    assert not unrelated, f"{mutant.fault} These laws have nothing to do with it: {unrelated}."


@pytest.mark.parametrize("fault", INSTALLED)
def test_a_fault_of_an_installed_plugin(fault, tmp_path, monkeypatch):
    plugins, fails = INSTALLED[fault]
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("MEDGEN_PLUGINS", "fake-*")
    for distribution, source in plugins.items():
        fakes.Site(tmp_path).add(distribution, source)
    refresh()
    try:
        failed, _ = failures(Subject.of("fake_one"), [law.name for law in LAWS.values() if law.group == "plugin"])
    finally:
        fakes.forget()
        refresh()
    assert set(failed) == fails


def test_every_law_is_broken_by_some_mutant():
    broken = {name for mutant in MUTANTS for name in mutant.fails} | {name for _, fails in INSTALLED.values() for name in fails}
    assert broken - set(LAWS) == set()
    assert set(LAWS) - broken == NEED_CUDA
