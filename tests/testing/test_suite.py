"""`FamilySuite`: one test per law; no law can be dropped without a reason, and no reason outlives its law's failure."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from medgen.errors import ConfigError, UnknownNameError
from medgen.registry import find_family
from medgen.testing import FamilySuite, laws_for
from medgen.testing.law import LAWS


def suite(name="Suite", bases=(FamilySuite,), **attributes):
    return type(FamilySuite)(name, bases, {"family": "vae", **attributes})


def laws_of(cls):
    return {name.removeprefix("test_") for name in dir(cls) if name.startswith("test_")}


def test_the_laws_are_those_of_the_capabilities():
    assert laws_of(suite()) == {law.name for law in laws_for(find_family("vae").spec)}
    assert {"density_integrates_to_one", "same_seed_same_bits"} <= laws_of(suite())
    assert not {"decode_inverts_encode", "translations_stay_in_place"} & laws_of(suite())
    assert "density_integrates_to_one" not in laws_of(suite(family="ae"))


def test_tests_of_ones_own_are_welcome():
    assert laws_of(suite(test_my_idea=lambda self: None)) == laws_of(suite()) | {"my_idea"}


def test_without_a_family_it_is_a_base_for_others():
    base = suite("Base", family="", golden=None)
    assert laws_of(base) == set()
    assert laws_of(suite(bases=(base,))) == laws_of(suite())
    vae = suite()
    assert laws_of(suite(bases=(vae,), family="beta_vae")) == laws_of(vae)
    with pytest.raises(TypeError, match="is of family 'ae', its base of one with the law"):
        suite(bases=(vae,), family="ae")


def test_an_unknown_family_is_refused():
    with pytest.raises(UnknownNameError, match="unknown family 'vea'"):
        suite(family="vea")


@pytest.mark.parametrize("value", [None, lambda self: None, property(lambda self: None)], ids=["None", "method", "property"])
def test_a_law_cannot_be_replaced(value):
    with pytest.raises(TypeError, match=r"Suite\.test_same_seed_same_bits would replace or remove the law 'same_seed_same_bits'; waive it"):
        suite(test_same_seed_same_bits=value)


def test_a_law_that_does_not_apply_cannot_be_replaced_either():
    with pytest.raises(TypeError, match="decode_inverts_encode"):
        suite(test_decode_inverts_encode=None)


@pytest.mark.parametrize("order", [lambda mixin: (mixin, FamilySuite), lambda mixin: (FamilySuite, mixin)], ids=["before", "after"])
def test_a_law_cannot_be_replaced_by_a_class_between(order):
    mixin = type("Mixin", (), {"test_same_seed_same_bits": None})
    with pytest.raises(TypeError, match=r"Mixin\.test_same_seed_same_bits"):
        suite(bases=order(mixin))


def test_a_law_cannot_be_removed_afterwards():
    cls = suite()
    with pytest.raises(TypeError, match="would replace or remove"):
        del cls.test_same_seed_same_bits
    with pytest.raises(TypeError, match="would replace or remove"):
        cls.test_same_seed_same_bits = None
    cls.other = 3
    del cls.other
    assert "same_seed_same_bits" in laws_of(cls)


@pytest.mark.parametrize(
    ("waivers", "message"),
    [
        ({"same_seed_same_bit": "why"}, "names no law: 'same_seed_same_bit'; did you mean 'same_seed_same_bits'"),
        ({"decode_inverts_encode": "why"}, "waives 'decode_inverts_encode', which its capabilities do not call for"),
        ({"same_seed_same_bits": " "}, "must say why, in words"),
        ({"same_seed_same_bits": None}, "must say why, in words"),
    ],
)
def test_a_waiver_that_waives_nothing_is_refused(waivers, message):
    with pytest.raises(ConfigError, match=message):
        suite(waivers=waivers)


def test_a_waived_law_that_holds_fails():
    cls = suite(waivers={"verbs_are_final": "of old"})
    with pytest.raises(AssertionError, match=r"vae breaks the law 'verbs_are_final'.*it holds: remove the waiver \('of old'\)"):
        cls().test_verbs_are_final()


def test_a_waived_law_that_fails_is_expected(tmp_path):
    cls = suite(golden=tmp_path / "none", waivers={"golden_file_holds": "not published yet"})
    with pytest.raises(pytest.xfail.Exception, match="not published yet"):
        cls().test_golden_file_holds()


def test_a_broken_law_is_told_in_full(tmp_path):
    with pytest.raises(AssertionError, match=r"vae breaks the law 'golden_file_holds' \(Weights that.*there is no weights file at .*none"):
        suite(golden=tmp_path / "none")().test_golden_file_holds()


def test_a_law_that_cannot_be_judged_is_skipped_with_the_reason():
    with pytest.raises(pytest.skip.Exception, match="no golden folder is named; write one with: medgen check vae --write-golden DIR"):
        suite()().test_golden_file_holds()


def test_pytest_finds_each_law_by_name(tmp_path):
    (tmp_path / "test_mine.py").write_text(
        textwrap.dedent(
            """
            from medgen.testing import FamilySuite

            class TestMine(FamilySuite):
                family = "ae"
                waivers = {"tiny_is_valid": "a stale waiver"}

                def test_of_my_own(self):
                    assert self.subject.spec.name == "ae"
            """
        )
    )
    words = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "-k", "of_my_own or tiny or final"]
    done = subprocess.run([*words, str(tmp_path)], capture_output=True, text=True, check=False, cwd=tmp_path, timeout=120)
    assert "2 passed" in done.stdout, done.stdout
    assert "1 failed" in done.stdout
    assert "PASSED test_mine.py::TestMine::test_verbs_are_final" in done.stdout
    assert "remove the waiver ('a stale waiver')" in done.stdout
    assert "law.py" not in done.stdout.split("short test summary")[0]  # no traceback through the suite's own code


def test_every_law_is_one_line_in_a_known_group():
    assert len(LAWS) > 40
    for law in LAWS.values():
        assert law.summary
        assert not law.summary.endswith(".")
        assert "\n" not in law.summary
