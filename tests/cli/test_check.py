"""`medgen check`: the laws from the command line, without pytest."""

from __future__ import annotations

import json
import sys

import fakes
import pytest
from tiny import cli, ok, refused


def test_all_laws_hold():
    out = ok("check", "ae", "--only", "config")
    assert out.startswith("medgen-autoencoders/ae\n")
    assert "GROUP" in out
    assert "unknown_keys_are_refused" in out
    assert "same_seed" not in out
    assert out.rstrip().splitlines()[-1].startswith("medgen-autoencoders/ae: 8 passed in ")


def test_a_distribution_is_all_its_families():
    out = ok("check", "Medgen_Autoencoders", "--only", "tiny_is_valid")
    names = [line for line in out.splitlines() if line.startswith("medgen-autoencoders/") and ":" not in line]
    assert names == [f"medgen-autoencoders/{name}" for name in ("ae", "beta_vae", "cvae", "vae")]


def test_json():
    found = json.loads(ok("check", "ae", "--only", "plugin", "--json"))
    (laws,) = found.values()
    assert set(found) == {"medgen-autoencoders/ae"}
    assert {law["state"] for law in laws} == {"passed"}
    assert set(laws[0]) == {"law", "group", "summary", "state", "reason", "seconds"}


def test_a_stale_waiver_fails():
    answer = cli("check", "ae", "--only", "verbs_are_final", "--waive", "verbs_are_final=it was different once")
    assert (answer.code, answer.err) == (1, "")
    assert "FAILED verbs_are_final" in answer.out
    assert "it holds: remove the waiver ('it was different once')." in answer.out


def test_golden_files(tmp_path):
    folder = tmp_path / "golden"
    assert ok("check", "ae", "--write-golden", folder) == f"{folder / 'ae.safetensors'}\n"
    assert "golden_file_holds  passed" in ok("check", "ae", "--golden", folder, "--only", "golden_file_holds")
    answer = cli("check", "vae", "--golden", folder, "--only", "golden_file_holds")
    assert answer.code == 1
    assert f"there is no weights file at {folder / 'vae.safetensors'}" in answer.out
    waived = ok("check", "vae", "--golden", folder, "--only", "golden_file_holds", "--waive", "golden_file_holds=not published")
    assert "waived: not published" in waived
    assert "skipped: no golden folder is named" in ok("check", "ae", "--only", "golden_file_holds")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("vea",), "unknown family 'vea'; did you mean 'vae'?"),
        (
            ("ae", "--only", "sampling_"),
            "`only` must be a group of laws or a law of this family; got 'sampling_'; did you mean 'sampling'?",
        ),
        (("ae", "--waive", "compiles"), "--waive takes LAW=REASON; got 'compiles'."),
        (("ae", "--waive", "compiles="), "must say why, in words"),
        (("ae", "--waive", "compile=slow"), "names no law: 'compile'; did you mean 'compiles'?"),
        (("ae", "--waive", "density_integrates_to_one=no"), "which its capabilities do not call for"),
    ],
)
def test_mistakes(words, message):
    assert message in refused("check", *words)


def test_hypothesis_is_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    assert refused("check", "ae") == "this needs the package 'hypothesis'; install it with: pip install 'medgen[testing]'"


def test_a_family_that_does_not_keep_its_word(tmp_path):
    """A plugin whose model module is missing: every law says so, and the exit code is 1."""
    site = fakes.Site(tmp_path).add("fake-good", fakes.SEVEN["fake-good"])
    done = site.medgen("check", "fake_vae", "--only", "plugin")
    assert done.returncode == 1, done.stderr
    assert "FAILED classes_are_as_declared" in done.stdout
    assert "declares 'fake_good.model:Fake', which cannot be imported" in done.stdout
    assert "`summary` must be one line; got ''." in done.stdout
    assert "is_found_by_name" in done.stdout
