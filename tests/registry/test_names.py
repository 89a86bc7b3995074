"""Listing: wildcards, filters, natural order, did-you-mean."""

from __future__ import annotations

from collections import Counter

import fakes
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medgen.errors import UnknownNameError
from medgen.registry import INTERFACES, families, search, shortest_names, suggestion
from medgen.registry.names import _natural

MANY = """\
import medgen

def one(name, dims, log_prob, *slots, **more):
    can = medgen.Capabilities(spatial_dims=dims, log_prob=log_prob, conditions=slots)
    interfaces = ("generator",) if log_prob == "none" else ("generator", "density")
    return medgen.FamilySpec(name=name, interfaces=interfaces, model="a:B", config="a:C", capabilities=can, **more)

@medgen.hookimpl
def medgen_families():
    label, planes = medgen.ConditionSlot(name="label", kind="label"), medgen.ConditionSlot(name="planes", kind="image", required=True)
    return [
        one("maf_10", (0,), "exact"), one("maf_5", (0, 1), "exact", label), one("gan", (2, 3), "none", planes, aliases=("dcgan",)),
    ]

@medgen.hookimpl
def medgen_datasets():
    yield medgen.DatasetSpec(name="hearts", factory="a:b")
"""


@pytest.fixture
def host(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    site = fakes.Site(tmp_path).add("fake-many", MANY).add("fake-more", fakes.family("gan", "fake_more"))
    yield site.load()[0]
    fakes.forget()


@pytest.mark.parametrize(
    ("pattern", "filters", "found"),
    [
        ("*", {}, ["fake-many/gan", "fake-more/gan", "maf_5", "maf_10"]),
        ("maf_*", {}, ["maf_5", "maf_10"]),
        ("maf_?", {}, ["maf_5"]),
        ("[mn]af_*", {}, ["maf_5", "maf_10"]),
        ("dc*", {}, ["fake-many/gan"]),
        ("fake-more/*", {}, ["fake-more/gan"]),
        ("MAF*", {}, []),
        ("*", {"interface": "density"}, ["maf_5", "maf_10"]),
        ("*", {"interface": "latent"}, []),
        ("*", {"spatial_dim": 0}, ["maf_5", "maf_10"]),
        ("*", {"spatial_dim": 3}, ["fake-many/gan"]),
        ("*", {"log_prob": "none"}, ["fake-many/gan", "fake-more/gan"]),
        ("*", {"condition": "image"}, ["fake-many/gan"]),
        ("*", {"condition": "planes"}, ["fake-many/gan"]),
        ("*_5", {"condition": "label", "spatial_dim": 1, "log_prob": "exact", "interface": "generator"}, ["maf_5"]),
    ],
)
def test_families(host, pattern, filters, found):
    assert shortest_names("medgen_families", families(pattern, host=host, **filters), host) == found


@pytest.mark.parametrize(("filters", "hint"), [({"interface": "densty"}, "density"), ({"log_prob": "exat"}, "exact")])
def test_a_filter_that_cannot_match_is_a_mistake(host, filters, hint):
    with pytest.raises(UnknownNameError, match=f"did you mean '{hint}'"):
        families(host=host, **filters)


def test_search_finds_other_kinds(host):
    assert [item.qualified for item in search("medgen_datasets", "hea*", host)] == ["fake-many/hearts"]
    assert search("medgen_metrics", "*", host) == []


@given(st.text(), st.lists(st.text(min_size=1), unique=True))
def test_suggestion_names_only_what_is_known_and_ends_the_sentence(name, known):
    text = suggestion(name, known)
    assert text.startswith("; ")
    assert text[-1] in "?."
    if name in known:
        assert repr(name) in text


def test_suggestion_puts_the_closest_first():
    assert suggestion("densty", INTERFACES) == "; did you mean 'density'?"
    assert suggestion("qqq", ["vae", "glow"]) == "; there are: vae, glow."


@given(st.lists(st.integers(0, 10**6), min_size=2))
def test_natural_order_is_the_order_of_the_numbers(numbers):
    assert sorted((f"maf_{n}_x" for n in numbers), key=_natural) == [f"maf_{n}_x" for n in sorted(numbers)]


@given(st.lists(st.text()))
def test_natural_order_takes_any_text(names):
    assert Counter(sorted(names, key=_natural)) == Counter(names)
