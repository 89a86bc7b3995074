from __future__ import annotations

import numpy as np
import pytest

import medgen
from medgen.data import from_arrays, open_data
from medgen.data import open as opening
from medgen.errors import DataError
from medgen.registry import DatasetSpec, Declared


def fake(n=10, noise=0.5, tag="x", axes=(1, 2), flip=False):
    assert isinstance(noise, float)
    return from_arrays(np.full((n, 4, 4), 9, np.uint8), labels=[0] * n, name=f"fake {tag} {axes} {flip}")


SPEC = DatasetSpec(
    name="fake",
    factory=f"{__name__}:fake",
    options={"n": (10, "how many"), "noise": (0.5, ""), "tag": ("x", ""), "axes": ((1, 2), ""), "flip": (False, "")},
)


@pytest.fixture
def registered(monkeypatch):
    declared = Declared(spec=SPEC, distribution="tests", version="0")
    monkeypatch.setattr(opening, "resolve", lambda target, owner: fake)
    real = opening.find
    monkeypatch.setattr(opening, "find", lambda hook, name: declared if name == "fake" else real(hook, name))


def test_registered_datasets_take_typed_options(registered):
    data = open_data("fake?n=7&noise=1&tag=3&axes=4,5&flip=True", default_range=(-1, 1))
    assert len(data) == 7
    assert data.name == "fake 3 (4, 5) True"
    assert data.image_spec.intensity.range == (-1, 1)
    assert len(open_data("fake")) == 10
    assert len(open_data("fake", split=(0.5, 0.5, 0.0)).splits["val"]) == 5


def test_densities_with_a_formula_stay_in_their_own_units():
    data = open_data("two_moons?n=50", default_range=(-1, 1))
    np.testing.assert_array_equal(data.fetch(np.arange(50)).x, data.stored(np.arange(50)))
    assert open_data("two_moons?n=50", window=(-3, 3)).image_spec.intensity.rule == "window -3 3"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("m=3", "dataset 'fake' has no option 'm'"),
        ("nois=3", "did you mean 'noise'"),
        ("n=many", "option 'n' of dataset 'fake' must be of type int, such as 10; got 'many'"),
        ("n=1.5", "must be of type int"),
        ("flip=1", "must be of type bool"),
    ],
)
def test_wrong_options_are_named(registered, query, message):
    with pytest.raises(DataError, match=message):
        open_data(f"fake?{query}")


def test_nothing_there(tmp_path):
    with pytest.raises(DataError, match=r"there is no file, folder or registered dataset 'cardiac_fantom'; did you mean 'cardiac_phantom'"):
        open_data("cardiac_fantom")
    with pytest.raises(DataError, match=r"holds no file that medgen reads .* it has 0 files"):
        open_data(tmp_path)
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(DataError, match=r"it has 1 files: notes.txt"):
        open_data(tmp_path)
    with pytest.raises(DataError, match=r"no file that matches '\*.nii'"):
        open_data(tmp_path, select="*.nii")
    with pytest.raises(DataError, match=r"notes.txt \(unknown\)"):
        open_data(tmp_path / "notes.txt")
    with pytest.raises(DataError, match=r"no file matches this pattern"):
        open_data(tmp_path / "*.npz")


def test_patterns_and_notes_beside_the_data(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 4, 4)))
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "info.csv").write_text("a\n1\n")
    assert len(open_data(tmp_path)) == 3
    assert len(open_data(tmp_path / "*.npy")) == 3
    np.save(tmp_path / "b.npy", np.zeros((3, 4, 4)))
    with pytest.raises(DataError, match=r"holds 2 npz files; name one of them: a.npy, b.npy"):
        open_data(tmp_path)


def test_kinds_are_not_mixed(tmp_path, write_nifti):
    np.save(tmp_path / "a.npy", np.zeros((3, 4, 4)))
    write_nifti("b.nii", np.zeros((3, 4, 4), np.float32))
    with pytest.raises(DataError, match=r"files must be of one kind .* a.npy \(npz\), b.nii \(nifti\)"):
        open_data(tmp_path)


def test_the_top_level_name():
    assert medgen.open_data is open_data
