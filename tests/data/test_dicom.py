from __future__ import annotations

import numpy as np
import pytest

from medgen.data import open_data
from medgen.errors import DataError


def test_a_series_becomes_one_volume_in_hu(write_dicom, rng, tmp_path):
    pixels = rng.integers(0, 4096, (5, 4, 6))  # slices of 4 rows, 6 columns
    for name, k in zip("edcba", range(5), strict=True):  # names against the order in space
        write_dicom(f"ct/{name}.dcm", pixels[k], (10.0, 20.0, 30.0 + 2.5 * k))
    data = open_data(tmp_path / "ct")
    spec = data.image_spec
    assert spec.size == (1, 6, 4, 5)
    assert spec.spacing == (0.5, 2.0, 2.5)
    # LPS to RAS turns the signs of x and y
    np.testing.assert_allclose(np.array(spec.affine).reshape(4, 4), [[-0.5, 0, 0, -10], [0, -2, 0, -20], [0, 0, 2.5, 30], [0, 0, 0, 1]])
    np.testing.assert_array_equal(data.stored([0])[0, 0], pixels.transpose(2, 1, 0) - 1024)
    assert spec.intensity.unit == "HU"
    assert spec.intensity.dtype == "int16"
    assert data.subjects.tolist() == ["p1"]


def test_slices_of_several_series(write_dicom, rng, tmp_path):
    for series in range(3):
        for k in range(4):
            write_dicom(f"s{series}/{k}", rng.integers(0, 4096, (4, 6)), (0, 0, float(k)), series=f"1.{series}", PatientID=f"p{series}")
    data = open_data(tmp_path, axis=2, window=(-600, 1400))
    assert len(data) == 12
    assert data.image_spec.shape == (6, 4)
    assert sorted(set(data.subjects)) == ["p0", "p1", "p2"]
    assert [len(v) for v in data.splits.values()] == [4, 4, 4]


def test_sagittal_series(write_dicom, rng, tmp_path):
    for k in range(3):
        write_dicom(f"{k}.dcm", rng.integers(0, 4096, (4, 6)), (float(k), 0, 0), cosines=(0, 1, 0, 0, 0, -1))
    assert len(open_data(tmp_path, axis=0)) == 3
    assert len(open_data(tmp_path, axis=2)) == 4


def test_fractional_slopes_give_floats(write_dicom, rng, tmp_path):
    pixels = rng.integers(0, 4096, (4, 6))
    write_dicom("a.dcm", pixels, (0, 0, 0), slope=0.5, intercept=-3)
    data = open_data(tmp_path)
    np.testing.assert_array_equal(data.stored([0])[0, 0, :, :, 0], (pixels.T * 0.5 - 3).astype(np.float32))


def test_what_is_wrong_is_named(write_dicom, rng, tmp_path):
    def two(folder, **second):
        write_dicom(f"{folder}/a.dcm", rng.integers(0, 4096, (4, 6)), (0, 0, 0))
        values = {"pixels": rng.integers(0, 4096, (4, 6)), "position": (0, 0, 1), **second}
        write_dicom(f"{folder}/b.dcm", **values)
        return tmp_path / folder

    with pytest.raises(DataError, match=r"must hold one series; got 2: 1.2.3, 9.9"):
        open_data(two("mixed", series="9.9"))
    with pytest.raises(DataError, match=r"b.dcm: slices must be 4 x 6 like a.dcm; got 5 x 6"):
        open_data(two("sizes", pixels=rng.integers(0, 4096, (5, 6))))
    with pytest.raises(DataError, match=r"b.dcm: lies where a.dcm lies"):
        open_data(two("twice", position=(0, 0, 0)))
    with pytest.raises(DataError, match=r"b.dcm: slices must be parallel"):
        open_data(two("turned", cosines=(0, 1, 0, 0, 0, -1)))
    with pytest.raises(DataError, match=r"b.dcm: must hold one grey slice; got 3 frames"):
        open_data(two("frames", NumberOfFrames=3))
    gap = two("gap")
    write_dicom("gap/c.dcm", rng.integers(0, 4096, (4, 6)), (0, 0, 4))
    with pytest.raises(DataError, match=r"c.dcm: a slice is missing before it; the gap is 3 mm where others are 1 mm"):
        open_data(gap)
    cut = two("cut") / "b.dcm"
    cut.write_bytes(cut.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"b.dcm: its pixels cannot be read"):
        open_data(tmp_path / "cut")
    cut.write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"b.dcm: must be a readable DICOM file"):
        open_data(tmp_path / "cut")
