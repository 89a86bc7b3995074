from __future__ import annotations

import numpy as np
import pytest

from medgen.data import open_data
from medgen.data.readers import volumes
from medgen.errors import DataError

LAS = np.array([[-2.0, 0, 0, 90], [0, 1.5, 0, -126], [0, 0, 3, -72], [0, 0, 0, 1]])


def test_whole_volumes(write_nifti, rng, tmp_path):
    values = [rng.normal(size=(4, 5, 6)).astype(np.float32) for _ in range(4)]
    for k, v in enumerate(values):
        write_nifti(f"scan{k}.nii.gz", v, LAS)
    data = open_data(tmp_path)
    spec = data.image_spec
    assert spec.size == (1, 4, 5, 6)
    assert spec.spacing == (2.0, 1.5, 3.0)
    assert spec.affine == tuple(LAS.ravel())
    assert spec.slice_axis is None
    np.testing.assert_array_equal(data.stored([2])[0, 0], values[2])
    assert data.origin(2) == "scan2.nii.gz"
    assert data.subjects.tolist() == [f"scan{k}.nii.gz" for k in range(4)]


@pytest.mark.parametrize(("axis", "spacing"), [(0, (1.5, 3.0)), (1, (2.0, 3.0)), (2, (2.0, 1.5))])
def test_slices_across_each_axis(write_nifti, rng, axis, spacing):
    values = rng.normal(size=(7, 8, 9)).astype(np.float32)
    data = open_data(write_nifti("scan.nii", values, LAS), axis=axis)
    assert len(data) == values.shape[axis]
    assert data.image_spec.slice_axis == axis
    assert data.image_spec.spacing == spacing
    np.testing.assert_array_equal(data.stored([5])[0, 0], values.take(5, axis))
    assert data.origin(5) == "scan.nii slice 5"


def test_axes_are_anatomical_whatever_the_storage_order(write_nifti, rng):
    values = rng.normal(size=(4, 5, 6)).astype(np.float32)
    affine = np.zeros((4, 4))
    affine[2, 0], affine[0, 1], affine[1, 2], affine[3, 3] = 3, -2, 1.5, 1  # stored as S, L, A
    data = open_data(write_nifti("scan.nii", values, affine), axis=2)
    assert len(data) == 4
    assert data.image_spec.slice_axis == 0
    np.testing.assert_array_equal(data.stored([1])[0, 0], values[1])


def test_one_volume_is_divided_in_slabs_with_a_warning(write_nifti, rng):
    data = open_data(write_nifti("scan.nii", rng.normal(size=(4, 4, 20)).astype(np.float32)), axis=2)
    assert data.splits["train"].tolist() == list(range(16))
    assert data.splits["val"].tolist() == [16, 17]
    assert "leakage likely: all 20 samples are of one subject" in data.warnings[0]


def test_slices_of_a_volume_stay_together(write_nifti, rng, tmp_path):
    for k in range(5):
        write_nifti(f"sub-{k // 2}_run-{k}.nii", rng.normal(size=(4, 4, 6)).astype(np.float32))
    for options, count in (({}, 5), ({"subjects": r"sub-(\d)"}, 3)):
        data = open_data(tmp_path, axis=2, **options)
        parts = [set(data.subjects[rows]) for rows in data.splits.values()]
        assert sum(map(len, parts)) == len(set.union(*parts)) == count


def test_orientation_and_size(write_nifti, rng):
    values = rng.integers(-1000, 1000, (4, 6, 8)).astype(np.int16)
    path = write_nifti("scan.nii", values, LAS)
    data = open_data(path, orientation="RAS")
    np.testing.assert_array_equal(data.stored([0])[0, 0], values[::-1])
    np.testing.assert_allclose(
        np.array(data.image_spec.affine).reshape(4, 4), [[2, 0, 0, 84], [0, 1.5, 0, -126], [0, 0, 3, -72], [0, 0, 0, 1]]
    )
    small = open_data(path, size=(2, 3, 4))
    assert small.image_spec.spacing == (4.0, 3.0, 6.0)
    assert small.image_spec.intensity.dtype == "int16"


def test_spacing_samples_the_world_where_the_affine_says(write_nifti):
    index = np.stack(np.meshgrid(*[np.arange(s) for s in (10, 12, 8)], indexing="ij"), -1)
    ramp = (index @ LAS[:3, :3].T + LAS[:3, 3]) @ [1.0, 2.0, 3.0]
    data = open_data(write_nifti("ramp.nii", ramp.astype(np.float32), LAS), spacing=(1.0, 1.0, 1.5), orientation="RAS")
    got = data.stored([0])[0, 0]
    affine = np.array(data.image_spec.affine).reshape(4, 4)
    assert data.image_spec.spacing == pytest.approx((1.0, 1.0, 1.5))
    index = np.stack(np.meshgrid(*[np.arange(s) for s in got.shape], indexing="ij"), -1)
    expected = (index @ affine[:3, :3].T + affine[:3, 3]) @ [1.0, 2.0, 3.0]
    inside = (slice(2, -2),) * 3
    np.testing.assert_allclose(got[inside], expected[inside], atol=1e-3)


def test_in_plane_spacing_keeps_the_slices(write_nifti, rng):
    data = open_data(write_nifti("scan.nii", rng.normal(size=(10, 12, 8)).astype(np.float32), LAS), axis=2, spacing=(4.0, 3.0))
    assert len(data) == 8
    assert data.image_spec.spacing == pytest.approx((4.0, 3.0))


def test_volumes_that_lie_differently_are_turned_like_the_first(write_nifti, rng, tmp_path):
    values = rng.normal(size=(4, 5, 6)).astype(np.float32)
    write_nifti("a.nii", values)
    write_nifti("b.nii", values[::-1].copy(), np.diag([-1.0, 1, 1, 1]))
    data = open_data(tmp_path)
    np.testing.assert_array_equal(data.stored([1]), data.stored([0]))
    assert "volumes lie differently (LAS, RAS)" in data.warnings[0]


def test_label_maps_stay_labels(write_nifti, rng):
    values = rng.integers(0, 3, (6, 6, 6)).astype(np.uint8)
    spec = open_data(write_nifti("seg.nii", values), size=(3, 3, 3)).image_spec
    assert spec.content == "labels"
    as_float = open_data(write_nifti("float.nii", values.astype(np.float32)), content="labels")
    np.testing.assert_array_equal(as_float.stored([0])[0, 0], values)
    with pytest.raises(DataError, match=r"half.nii: label maps must hold whole numbers"):
        open_data(write_nifti("half.nii", values * np.float32(0.5)), content="labels")


def test_slices_with_little_foreground_are_dropped(write_nifti):
    values = np.zeros((4, 4, 6), np.float32)
    values[:2, :, 2] = values[..., 4] = 5.0
    data = open_data(write_nifti("scan.nii", values), axis=2, min_foreground=0.5)
    assert [data.origin(i) for i in range(len(data))] == ["scan.nii slice 2", "scan.nii slice 4"]
    with pytest.raises(DataError, match=r"no slice has 0.9 foreground"):
        open_data(write_nifti("empty.nii", np.zeros((4, 4, 6), np.float32)), axis=2, min_foreground=0.9)


def test_large_sets_are_read_when_needed(write_nifti, rng, tmp_path, monkeypatch):
    for k in range(12):
        write_nifti(f"scan{k:02d}.nii", rng.normal(size=(4, 4, 6)).astype(np.float32))
    held = open_data(tmp_path, axis=1, min_foreground=0.45)
    monkeypatch.setattr(volumes, "MEMORY_LIMIT", 100)
    lazy = open_data(tmp_path, axis=1, min_foreground=0.45)
    assert type(lazy.samples.store).__name__ == "LazyStore"
    assert type(held.samples.store).__name__ == "ArrayStore"
    assert lazy.fingerprint == held.fingerprint
    rows = rng.permutation(len(held))
    np.testing.assert_array_equal(lazy.stored(rows), held.stored(rows))


def test_four_axes_are_refused_unless_channels_are_chosen(write_nifti, rng):
    values = rng.normal(size=(4, 5, 6, 3)).astype(np.float32)
    path = write_nifti("dwi.nii.gz", values)
    with pytest.raises(DataError, match=r"dwi.nii.gz: must be a 3-D volume; got shape \(4, 5, 6, 3\)"):
        open_data(path)
    data = open_data(path, channels=[2, 0])
    np.testing.assert_array_equal(data.stored([0])[0], values.transpose(3, 0, 1, 2)[[2, 0]])


def test_what_is_wrong_is_named(write_nifti, rng, tmp_path):
    good = write_nifti("a/a.nii.gz", rng.normal(size=(4, 4, 4)).astype(np.float32))
    (tmp_path / "a" / "b.nii.gz").write_bytes(good.read_bytes()[:150])
    with pytest.raises(DataError, match=r"b.nii.gz"):
        open_data(tmp_path / "a")
    (tmp_path / "a" / "b.nii.gz").write_bytes(b"not a volume")
    with pytest.raises(DataError, match=r"b.nii.gz: must be a readable NIfTI file"):
        open_data(tmp_path / "a")
    write_nifti("a/b.nii.gz", rng.normal(size=(4, 4, 5)).astype(np.float32))
    with pytest.raises(DataError, match=r"b.nii.gz: samples must have shape \(4, 4, 4\) like those of a.nii.gz; got \(4, 4, 5\)"):
        open_data(tmp_path / "a")
    assert len(open_data(tmp_path / "a", size=(4, 4, 4))) == 2
    write_nifti("a/b.nii.gz", np.ones((4, 4, 4), np.uint8))
    with pytest.raises(DataError, match=r"b.nii.gz: is uint8 while a.nii.gz is float32"):
        open_data(tmp_path / "a")
    assert len(open_data(tmp_path / "a", select="a*")) == 1
    bad = rng.normal(size=(4, 4, 4)).astype(np.float32)
    bad[0, 0, 3] = np.nan
    with pytest.raises(DataError, match=r"c.nii slice 3: values must be finite"):
        open_data(write_nifti("c.nii", bad), axis=2)
    with pytest.raises(DataError, match="`subjects` must match with one group"):
        open_data(tmp_path / "a", select="a*", subjects=r"sub-(\d+)")
