"""`medgen doctor`: versions, plugins, packages, environment, exit code."""

from __future__ import annotations

import json
from importlib import metadata

import fakes
import pytest

import medgen
from medgen.cli import doctor


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return fakes.Site(tmp_path_factory.mktemp("good")).add("fake-good", fakes.SEVEN["fake-good"])


@pytest.fixture(scope="module")
def bad(tmp_path_factory):
    site = fakes.Site(tmp_path_factory.mktemp("bad")).add("fake-good", fakes.SEVEN["fake-good"])
    return site.add("fake-raising", fakes.SEVEN["fake-raising"]).add("fake-newer", fakes.SEVEN["fake-newer"])


def test_all_is_well(good):
    done = good.medgen("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    for heading in ("Versions", "Plugins", "Optional packages", "Ops", "Environment"):
        assert heading in lines
    assert ["fake_good", "fake-good", "1.0", "ready", "families:fake_vae"] in [line.split() for line in lines]
    assert ["torch", metadata.version("torch")] in [line.split() for line in lines]
    assert "  MEDGEN_PLUGINS=fake-*" in lines
    assert lines[-1] == "All is well."


def test_blocked_is_well_and_said(good):
    done = good.medgen("doctor", MEDGEN_PLUGINS_BLOCK="fake-good")
    assert done.returncode == 0
    assert "  fake_good: blocked: blocked by MEDGEN_PLUGINS_BLOCK" in done.stdout.splitlines()


def test_not_well(bad):
    done = bad.medgen("doctor")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[-1] == "Not well: fake_newer, fake_raising. In full: medgen doctor NAME"


@pytest.mark.parametrize("name", ["fake_good", "fake-good", "fake_vae"])
def test_one_plugin_by_any_of_its_names(bad, name):
    done = bad.medgen("doctor", name)
    assert done.returncode == 0  # this one is well
    assert ["plugin", "fake_good"] in [line.split() for line in done.stdout.splitlines()]
    assert "Traceback" not in done.stdout


def test_one_failed_plugin_in_full(bad):
    done = bad.medgen("doctor", "fake-raising")
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stdout
    assert "raise RuntimeError('the hook\\nbroke')" in done.stdout
    assert bad.medgen("doctor", "fake-newer").returncode == 1


def test_unknown_plugin(bad):
    done = bad.medgen("doctor", "fake_god")
    assert done.returncode == 2
    assert done.stderr.startswith("medgen: error: no plugin is called 'fake_god'; did you mean 'fake_good'")
    assert len(done.stderr.splitlines()) == 1


def test_json(bad):
    done = bad.medgen("doctor", "--json")
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert report["versions"]["medgen"] == medgen.__version__
    plugins = {plugin["name"]: plugin for plugin in report["plugins"]}
    assert plugins["fake_good"]["declares"]["medgen_families"] == ["fake_vae"]
    assert plugins["fake_raising"]["state"] == "hook_failed"
    assert "Traceback" in plugins["fake_raising"]["traceback"]
    assert "plugin API 99" in plugins["fake_newer"]["rejected"][0]
    assert set(report["extras"]) >= {"cli", "train", "imaging", "eval"}
    assert report["environment"] == {"MEDGEN_PLUGINS": "fake-*"}


def test_missing_packages_come_with_their_pip_command(capsys, monkeypatch):
    needs = [
        "torch>=2",
        "nobody-has-this>=1",
        'nobody_has_that; extra == "imaging"',
        "pytest>8; extra == 'dev'",
        'medgen[cli]; extra == "all"',
    ]
    monkeypatch.setattr(metadata, "requires", lambda name: needs)
    monkeypatch.setenv("MEDGEN_PLUGINS", "nothing")
    assert doctor.run([]) == 1
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert "imaging  missing nobody_has_that: pip install 'medgen[imaging]'" in lines
    assert any(line.startswith("nobody-has-this") and "MISSING" in line for line in lines)
    assert not any("pytest" in line for line in lines)
