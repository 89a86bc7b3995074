"""Sets of criteria are data: they can be read, changed and narrowed, and what does not fit is an error that says what would."""

from __future__ import annotations

import pickle

import hearts
import numpy as np
import pytest

from medgen import native
from medgen.errors import ConfigError, DataError, NativeOpsError, UnknownNameError
from medgen.native import loader
from medgen_anatomy.criteria import Criteria, Criterion, echo_criteria, is_valid, measure, mri_criteria, myocardium_criteria, violations

ALL = (echo_criteria(), mri_criteria(), myocardium_criteria())


@pytest.mark.parametrize("criteria", ALL, ids=lambda c: c.name)
def test_a_set_is_a_value(criteria):
    again = pickle.loads(pickle.dumps(criteria))  # noqa: S301
    assert again == criteria
    assert hash(again) == hash(criteria)
    assert again.names == tuple(c.name for c in criteria.items)
    assert all(c.meaning and c.unit in ("pixels", "mm", "ratio") for c in criteria.items)
    assert criteria.with_limits(**{criteria.names[0]: 3}) != criteria
    with pytest.raises(TypeError):
        criteria.labels["lv"] = 7


def test_the_published_limits():
    limits = {c.name: (c.limit, c.side) for criteria in ALL[:2] for c in criteria.items if c.limit or c.side == "below"}
    assert limits == {
        "frontier_ratio_between_lv_and_bg": (0.40, "above"),
        "frontier_ratio_between_myo_and_atrium": (0.11, "above"),
        "erosion_ratio_before_myo_split": (0.12, "below"),
        "width_ratio_between_lv_and_myo": (4.15, "above"),
        "lv_concavity": (4.0, "above"),
        "rv_concavity": (30.0, "above"),
        "lv_circularity": (0.2, "below"),
        "myo_circularity": (0.2, "below"),
    }
    assert [len(c) for c in ALL] == [12, 16, 10]


def test_a_value_at_its_limit_is_valid():
    heart = hearts.mri_failures()["lv_concavity"][None]
    value = measure(heart, mri_criteria())[0, mri_criteria().names.index("lv_concavity")]
    assert is_valid(heart, mri_criteria().with_limits(lv_concavity=value)).tolist() == [True]
    assert is_valid(heart, mri_criteria().with_limits(lv_concavity=np.nextafter(value, 0))).tolist() == [False]
    value = measure(heart, mri_criteria())[0, -2]
    assert is_valid(heart, mri_criteria().with_limits(lv_circularity=value).only("lv_circularity")).tolist() == [True]


def test_narrower_sets():
    heart = hearts.mri_failures()["holes_in_rv"][None]
    chosen = mri_criteria().only("lv_concavity", "holes_in_rv", "holes_in_lv")
    assert chosen.names == ("holes_in_lv", "holes_in_rv", "lv_concavity")
    assert violations(heart, chosen).tolist() == [[False, True, False]]
    assert measure(heart, chosen).tolist() == [[0, 1, 0]]
    assert echo_criteria().without("la").names == tuple(n for n in echo_criteria().names if "atrium" not in n)


def test_other_label_numbers():
    heart = hearts.mri()
    other = np.array([7, 200, 0, 31])[heart]
    criteria = mri_criteria(background=7, rv=200, myo=0, lv=31)
    assert np.array_equal(measure(other[None], criteria), measure(heart[None], mri_criteria()))


@pytest.mark.parametrize("ops", ["auto", "reference"])
def test_labels_that_are_not_in_the_set(ops, monkeypatch):
    monkeypatch.setenv("MEDGEN_OPS", ops)
    monkeypatch.setattr(loader, "_outcomes", {})
    heart = hearts.mri().astype(np.int64)[None]
    for strange in (4, -1, 256 + 3, 2**40):
        wrong = heart.copy()
        wrong[0, 5, 255] = strange
        with pytest.raises(DataError, match=rf"labels of 'mri' alone.*got also \[{strange}\]"):
            measure(wrong, mri_criteria())


@pytest.mark.parametrize(
    ("maps", "error"),
    [
        (np.zeros((1, 8, 8)), "must be integers; got float64"),
        (np.zeros((1, 8, 8), bool), "must be integers; got bool"),
        (np.zeros((8, 8), int), r"axes \[B, H, W\]"),
        (np.zeros((1, 4, 8, 8), int), r"axes \[B, H, W\]"),
        (np.zeros((1, 0, 8), int), "from 1 to 4096"),
        (np.zeros((1, 1, 4097), int), "from 1 to 4096"),
    ],
)
def test_maps_that_are_none(maps, error):
    with pytest.raises(DataError, match=error):
        is_valid(maps, mri_criteria())


@pytest.mark.parametrize("spacing", [(0.0, 1.0), (1.0, float("nan")), (1.0, float("inf")), (-1.0, 1.0), (1.0,), (1.0, 1.0, 1.0), 1.0, "ab"])
def test_spacings_that_are_none(spacing):
    with pytest.raises(ConfigError, match="`spacing`"):
        measure(np.zeros((1, 8, 8), int), mri_criteria(), spacing)


def test_threads():
    with pytest.raises(ConfigError, match="`threads` must be at least 1"):
        measure(np.zeros((1, 8, 8), int), mri_criteria(), threads=0)


def test_mistaken_criteria():
    with pytest.raises(UnknownNameError, match="no criterion 'lv_concavty'"):
        mri_criteria().with_limits(lv_concavty=1)
    with pytest.raises(UnknownNameError, match="to leave out"):
        mri_criteria().without("la")
    with pytest.raises(ConfigError, match="must differ"):
        mri_criteria(lv=1)
    with pytest.raises(ConfigError, match="from 0 to 255"):
        mri_criteria(lv=256)
    one = {"name": "a", "measure": "holes", "of": ("lv",)}
    for change, error in (
        ({"measure": "hole"}, "`measure`"),
        ({"other": ("myo",)}, "`of` alone"),
        ({"measure": "gap"}, "`of` and `other`"),
        ({"side": "beyond"}, "`side`"),
        ({"limit": float("nan")}, "`limit`"),
    ):
        with pytest.raises(ConfigError, match=error):
            Criterion(**{**one, **change})
    with pytest.raises(ConfigError, match=r"names the structures \['lv'\]"):
        Criteria(name="x", labels={"background": 0}, items=(Criterion(**one),))
    with pytest.raises(ConfigError, match="no name twice"):
        Criteria(name="x", labels={"background": 0, "lv": 1}, items=(Criterion(**one), Criterion(**one)))


def test_without_a_compiler_the_reference_runs_and_native_insists(monkeypatch, tmp_path):
    heart = hearts.mri()[None]
    values = measure(heart, mri_criteria())
    monkeypatch.setenv("MEDGEN_OPS", "auto")
    monkeypatch.setenv("MEDGEN_CACHE", str(tmp_path))
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(loader, "_outcomes", {})
    np.testing.assert_allclose(measure(heart, mri_criteria()), values, rtol=1e-12)
    assert "no-such-compiler" in native.loaded("cpu", "medgen_anatomy_maps").reason
    monkeypatch.setenv("MEDGEN_OPS", "native")
    monkeypatch.setattr(loader, "_outcomes", {})
    with pytest.raises(NativeOpsError, match="there is no native module of extension 'medgen_anatomy_maps'"):
        measure(heart, mri_criteria())
