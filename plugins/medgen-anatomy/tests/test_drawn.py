"""Hand-drawn hearts: one of each view is valid, and each of the others violates exactly the criterion that it was drawn for."""

from __future__ import annotations

import hearts
import numpy as np
import pytest

from medgen_anatomy.criteria import echo_criteria, is_valid, measure, mri_criteria, myocardium_criteria, violations

SPACING = (1.0, 1.0)
ECHO, MRI = hearts.echo_failures(), hearts.mri_failures()


@pytest.fixture(params=["auto", "reference"])
def implementation(request, monkeypatch):
    """C++ where it can be had, and the reference."""
    from medgen.native import loader

    if request.param == "reference":
        monkeypatch.setenv("MEDGEN_OPS", "reference")
        monkeypatch.setattr(loader, "_outcomes", {})
    return request.param


def test_every_criterion_has_its_failure():
    assert set(ECHO) == set(echo_criteria().names)
    assert set(MRI) == set(mri_criteria().names)
    assert (len(ECHO), len(MRI)) == (12, 16)


def test_valid_hearts(implementation):
    for heart, criteria in ((hearts.echo(), echo_criteria()), (hearts.mri(), mri_criteria())):
        assert dict(zip(criteria.names, violations(heart[None], criteria, SPACING)[0].tolist(), strict=True)) == dict.fromkeys(
            criteria.names, False
        )
        assert is_valid(heart[None], criteria, SPACING).tolist() == [True]


@pytest.mark.parametrize("name", ECHO)
def test_echo(name, implementation):
    criteria = echo_criteria()
    found = violations(ECHO[name][None], criteria, SPACING)[0]
    assert [c for c, bad in zip(criteria.names, found, strict=True) if bad] == [name], measure(ECHO[name][None], criteria, SPACING)


@pytest.mark.parametrize("name", MRI)
def test_mri(name, implementation):
    criteria = mri_criteria()
    found = violations(MRI[name][None], criteria, SPACING)[0]
    assert [c for c, bad in zip(criteria.names, found, strict=True) if bad] == [name], measure(MRI[name][None], criteria, SPACING)


@pytest.mark.parametrize("name", [n for n in MRI if "rv" not in n])
def test_the_set_without_a_right_ventricle_finds_the_same(name):
    """The same maps, their right ventricle erased and their labels renumbered."""
    heart = np.array([0, 0, 1, 2], dtype=np.uint8)[MRI[name]]
    criteria = myocardium_criteria()
    found = violations(heart[None], criteria, SPACING)[0]
    assert [c for c, bad in zip(criteria.names, found, strict=True) if bad] == [name]


@pytest.mark.parametrize("label", [1, 2, 3])
def test_a_missing_structure_is_invalid_in_an_echocardiogram_alone(label, implementation):
    echo = np.where(hearts.echo() == label, 0, hearts.echo())[None]
    values, found = measure(echo, echo_criteria(), SPACING)[0], violations(echo, echo_criteria(), SPACING)[0]
    structure = ["background", "lv", "myo", "la"][label]
    gone = [structure in c.structures and c.of != ("lv", "myo") for c in echo_criteria().items]
    assert np.isnan(values).tolist() == gone
    assert found[gone].all()
    values = measure(np.where(hearts.mri() == label, 0, hearts.mri())[None], mri_criteria(), SPACING)[0]
    structure = ["background", "rv", "myo", "lv"][label]
    gone = [structure in c.structures and (c.measure, structure) != ("holes_besides", "lv") for c in mri_criteria().items]
    assert np.isnan(values).tolist() == gone
    assert not violations(np.zeros((1, 9, 9), int), mri_criteria(), SPACING).any()
