from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medgen.data import open_data
from medgen.data.readers.signals import decode_212
from medgen.errors import DataError


def encode_212(values):
    a, b = (np.asarray(values).reshape(-1, 2).T & 0xFFF).astype(np.int64)
    return np.stack([a & 255, (a >> 8) | ((b >> 8) << 4), b & 255], 1).astype(np.uint8).ravel()


@given(st.lists(st.integers(-2048, 2047), min_size=2, max_size=40).filter(lambda v: len(v) % 2 == 0))
@settings(max_examples=50, deadline=None)
def test_format_212_comes_back(values):
    assert decode_212(encode_212(values)).tolist() == values


@pytest.fixture
def record(tmp_path):
    def write(t=1000, header="r 2 250 {t}\nr.dat 212 200 11 1024 0 0 0 MLII\nr.dat 212 100(512)/uV 11 0 0 0 0 V5\n"):
        codes = np.stack([1024 + np.arange(t) % 400, 512 - np.arange(t) % 300], 1)
        encode_212(codes.ravel()).tofile(tmp_path / "r.dat")
        (tmp_path / "r.hea").write_text("# comment\n" + header.format(t=t))
        return codes

    return write


@pytest.mark.parametrize("name", ["r.hea", "r.dat", ""])
def test_a_record_in_physical_units(record, tmp_path, name):
    codes = record()
    data = open_data(tmp_path / name, length=100, **({"select": "*.hea"} if not name else {}))
    assert data.image_spec.size == (2, 100)
    assert data.image_spec.spacing == (1 / 250,)
    assert data.image_spec.channel_names == ("MLII", "V5")
    assert data.image_spec.intensity.unit == "mV"
    expected = np.stack([(codes[300:400, 0] - 1024) / 200, (codes[300:400, 1] - 512) / 100])
    np.testing.assert_allclose(data.stored([3])[0], expected, rtol=1e-6)
    assert data.origin(3) == "r samples 300..399"
    assert open_data(tmp_path / "r.hea", length=100, channels=[1]).image_spec.channel_names == ("V5",)


@given(length=st.integers(1, 20), stride=st.integers(1, 20))
@settings(max_examples=40, deadline=None)
def test_windows_never_reach_from_one_split_into_another(tmp_path_factory, length, stride):
    path = tmp_path_factory.mktemp("signal") / "x.npy"
    np.save(path, np.arange(500.0))
    data = open_data(path, length=length, stride=stride)
    assert len(data) == (500 - length) // stride + 1
    seen = [set(data.stored(rows).ravel().tolist()) for rows in data.splits.values()]
    assert all(seen)
    assert sum(map(len, seen)) == len(set.union(*seen))


def test_several_recordings_are_subjects(tmp_path, rng):
    np.save(tmp_path / "x.npy", rng.normal(size=(5, 2, 60)))
    data = open_data(tmp_path / "x.npy", length=20, dim=1)
    assert data.image_spec.size == (2, 20)
    assert len(set(data.subjects)) == 5
    assert open_data(tmp_path / "x.npy", dim=1).image_spec.size == (2, 60)


def test_what_is_wrong_is_named(record, tmp_path):
    record()
    with pytest.raises(DataError, match="must hold at least `length` = 5000"):
        open_data(tmp_path / "r.hea", length=5000)
    with pytest.raises(DataError, match="Use a larger `stride`"):
        open_data(tmp_path / "r.hea", length=400, stride=50)
    record(header="r 2 250 {t}\nr.dat 16 200 11 1024 0 0 0 MLII\nr.dat 16 200 11 1024 0 0 0 V5\n")
    with pytest.raises(DataError, match="only records in one file of format 212"):
        open_data(tmp_path / "r.hea")
    record(header="r 2 250 9999\nr.dat 212 200 11 1024 0 0 0 MLII\nr.dat 212 200 11 1024 0 0 0 V5\n")
    with pytest.raises(DataError, match=r"r.dat: must hold 2 x 9999 samples"):
        open_data(tmp_path / "r.hea")
    record(header="nonsense\n")
    with pytest.raises(DataError, match=r"r.hea: must be a WFDB header"):
        open_data(tmp_path / "r.hea")
    (tmp_path / "r.hea").unlink()
    with pytest.raises(DataError, match=r"r.hea"):
        open_data(tmp_path / "r.dat")
