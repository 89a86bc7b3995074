"""Every hook is exercised by a test named here, and documented under its exact name."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import fakes
import pytest

from medgen.registry import CommandSpec, DatasetSpec, ExtensionSpec, FamilySpec, MetricSpec, find, hookspecs

EXERCISED = {
    "medgen_families": "test_families",
    "medgen_datasets": "test_datasets",
    "medgen_metrics": "test_metrics",
    "medgen_commands": "test_commands",
    "medgen_extensions": "test_extensions",
}

PLUGIN = """\
import medgen

@medgen.hookimpl
def medgen_families():
    return [medgen.FamilySpec(name="thing", interfaces=("latent",), model="a:B", config="a:C")]

@medgen.hookimpl
def medgen_datasets():
    yield medgen.DatasetSpec(name="thing", factory="a:b", options={"size": (64, "Pixels along each side.")})

@medgen.hookimpl
def medgen_metrics():
    return (medgen.MetricSpec(name=name, function="a:b", kind="paired", better="lower") for name in ("thing", "other"))

@medgen.hookimpl
def medgen_commands():
    return [medgen.CommandSpec(name="thing-do", run="a:b", summary="does it")]

@medgen.hookimpl
def medgen_extensions():
    return (medgen.ExtensionSpec(name="thing", package="fake_all", sources=("csrc/thing.cpp",)),)
"""


@pytest.fixture
def host(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    host, warned = fakes.Site(tmp_path).add("fake-all", PLUGIN, version="2.5").load()
    assert warned == []
    yield host
    fakes.forget()


def test_families(host):
    declared = find("medgen_families", "thing", host)
    assert declared.spec == FamilySpec(name="thing", interfaces=("latent",), model="a:B", config="a:C")
    assert (declared.distribution, declared.version) == ("fake-all", "2.5")
    assert (declared.qualified, declared.owner) == ("fake-all/thing", "'thing' of fake-all 2.5")


def test_datasets(host):
    spec = find("medgen_datasets", "thing", host).spec
    assert isinstance(spec, DatasetSpec)
    assert spec.options == {"size": (64, "Pixels along each side.")}


def test_metrics(host):
    assert [item.spec.name for item in host.items("medgen_metrics")] == ["thing", "other"]
    assert all(isinstance(item.spec, MetricSpec) for item in host.items("medgen_metrics"))


def test_commands(host):
    assert find("medgen_commands", "thing-do", host).spec == CommandSpec(name="thing-do", run="a:b", summary="does it")


def test_extensions(host):
    spec = find("medgen_extensions", "fake-all/thing", host).spec
    assert isinstance(spec, ExtensionSpec)
    assert spec.sources == ("csrc/thing.cpp",)


def test_every_hook_is_exercised():
    declared = {name for name, value in vars(hookspecs).items() if name.startswith("medgen_") and inspect.isfunction(value)}
    assert set(EXERCISED) == declared == set(hookspecs.HOOKS)
    assert all(callable(globals()[test]) for test in EXERCISED.values())


@pytest.mark.parametrize("hook", hookspecs.HOOKS)
def test_every_hook_is_documented(hook):
    assert inspect.getdoc(getattr(hookspecs, hook))
    guide = (Path(__file__).parents[2] / "docs/plugins.md").read_text()
    assert re.search(rf"^#+ `{hook}\(\)`", guide, re.MULTILINE)
    assert f"def {hook}(" in guide


def test_the_guide_names_no_hook_that_does_not_exist():
    guide = (Path(__file__).parents[2] / "docs/plugins.md").read_text()
    assert set(re.findall(r"^#+ `(medgen_\w+)\(\)`", guide, re.MULTILINE)) == set(hookspecs.HOOKS)
