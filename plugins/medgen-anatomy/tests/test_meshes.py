"""Ventricles as label maps and volumes: areas, radii and volumes against closed forms; the dataset; the real hearts."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
from analytic_meshes import cup, ellipsoid, half_ellipsoid

from medgen.data import open_data
from medgen.errors import DataError
from medgen_anatomy.meshes import Ventricle, read_ventricles, ventricle
from medgen_anatomy.surfaces import Frame, surface

ROOT = Path(os.environ.get("MEDGEN_DATA", Path(__file__).resolve().parents[3] / ".." / "shared" / "data"))


def prolate():
    return ventricle(surface(*half_ellipsoid(80, 24, 20)), surface(*half_ellipsoid(90, 34, 30)))


def test_sections_are_ellipses_with_the_axis_in_the_middle():
    heart = prolate()
    positions = np.array([0.0, 0.25, 0.5, 0.9])
    maps = heart.label_maps(positions, size=128, spacing=0.75)
    assert maps.shape == (4, 128, 128)
    assert maps.dtype == np.uint8
    squeeze = 1 - positions**2
    inner = math.pi * 24 * 20 * squeeze
    outer = math.pi * 34 * 30 * (1 - (positions * 80 / 90) ** 2)
    np.testing.assert_allclose((maps == 2).sum((1, 2)) * 0.75**2, inner, rtol=0.02, atol=8)
    np.testing.assert_allclose((maps > 0).sum((1, 2)) * 0.75**2, outer, rtol=0.01)
    rows, columns = np.nonzero(maps[1] == 2)
    assert rows.mean() == pytest.approx(63.5, abs=0.1)
    assert columns.mean() == pytest.approx(63.5, abs=0.1)
    # z is up, so that the longer semi-axis y lies along the columns
    assert np.ptp(columns) * 0.75 == pytest.approx(48 * math.sqrt(squeeze[1]), abs=1.5)
    assert np.ptp(rows) * 0.75 == pytest.approx(40 * math.sqrt(squeeze[1]), abs=1.5)


def test_a_cup_has_the_same_disc_everywhere():
    heart = ventricle(surface(*cup(50, 20.2)), surface(*cup(58, 28.2)))
    maps = heart.label_maps(np.linspace(0, 0.99, 7), size=80, spacing=1.0)
    assert (maps == maps[0]).all()
    y, x = np.meshgrid(*[np.arange(80) - 39.5] * 2, indexing="ij")
    np.testing.assert_allclose((maps[0] == 2).sum(), (np.hypot(y, x) < 20.2).sum(), rtol=0.01)


@pytest.mark.parametrize("spacing", [1.0, (2.0, 1.5, 1.0)])
def test_voxels_fill_the_mesh(spacing):
    heart = prolate()
    labels, affine = heart.voxelise(spacing)
    voxel = abs(np.linalg.det(affine)) / 1000
    assert (labels == 2).sum() * voxel == pytest.approx(heart.cavity_volume, rel=0.01)
    assert (labels == 1).sum() * voxel == pytest.approx(heart.wall_volume, rel=0.02)
    assert heart.cavity_volume == pytest.approx(2 / 3 * math.pi * 80 * 24 * 20 / 1000, rel=2e-3)
    assert not labels[0].any()
    assert not labels[-1].any()
    # the affine leads back into the mesh: every cavity voxel satisfies the ellipsoid's equation
    points = np.argwhere(labels == 2) @ affine[:3, :3].T + affine[:3, 3]
    assert (((points / [80, 24, 20]) ** 2).sum(1) <= 1.0 + 1e-9).all()
    assert points[:, 0].max() <= 1e-9


def test_a_closed_sphere_with_a_frame_of_its_own():
    frame = Frame(np.zeros(3), np.eye(3))
    ball = Ventricle(surface(*ellipsoid(25, 25, 25)), surface(*ellipsoid(35, 35, 35)), frame)
    labels, affine = ball.voxelise(1.0)
    grid = np.argwhere(labels >= 0) @ affine[:3, :3].T + affine[:3, 3]
    radius = np.linalg.norm(grid, axis=1).reshape(labels.shape)
    truth = np.where(radius < 25, 2, np.where(radius < 35, 1, 0))
    assert (labels != truth).mean() < 1e-3  # the mesh lies up to 0.02 mm inside the sphere
    assert (labels[np.abs(radius - 25) > 0.1] == truth[np.abs(radius - 25) > 0.1]).mean() > 0.9999


def test_hearts_that_do_not_fit_are_said():
    heart = prolate()
    with pytest.raises(DataError, match=r"reaches 3\d\.\d mm .* Use a larger `spacing` or `size`"):
        heart.label_maps([0.5], size=32, spacing=1.0)
    with pytest.raises(DataError, match="must lie in"):
        heart.label_maps([1.5], size=32, spacing=4.0)
    with pytest.raises(DataError, match="`spacing` must be positive"):
        heart.voxelise(0.0)


@pytest.fixture
def file(tmp_path):
    """Five hearts of different sizes."""
    (endo, faces_endo), (epi, faces_epi) = half_ellipsoid(80, 24, 20), half_ellipsoid(90, 34, 30)
    mean = np.concatenate([endo, epi])
    path = tmp_path / "hearts.npz"
    held = {"faces_endo": faces_endo, "faces_epi": faces_epi + len(endo), "n_points_endo": len(endo)}
    np.savez(path, mean=mean, components=mean[None] / 10, scores=np.arange(5.0)[:, None], **held)
    np.savez(tmp_path / "whole.npz", vertices=mean * (1 + np.arange(5) / 10)[:, None, None], **held)
    return path


def test_both_kinds_of_file_hold_the_same_hearts(file):
    one, other = read_ventricles(file), read_ventricles(file.with_name("whole.npz"), np.array([0, 4]))
    assert len(one) == 5
    np.testing.assert_allclose(one[4].endocardium.vertices, other[1].endocardium.vertices)
    assert one[4].cavity_volume == pytest.approx(1.4**3 * one[0].cavity_volume)


def test_the_dataset_keeps_hearts_together(file):
    data = open_data(f"lv_meshes?path={file}&size=48&spacing=2.5&slices=4", split=(0.6, 0.2, 0.2))
    assert data.image_spec.content == "labels"
    assert data.image_spec.size == (3, 48, 48)
    assert data.image_spec.spacing == (2.5, 2.5)
    assert data.image_spec.channel_names == ("background", "MYO", "LV")
    parts = [set(data.subjects[rows]) for rows in data.splits.values()]
    assert [len(p) for p in parts] == [3, 1, 1]
    assert not parts[0] & parts[1]
    own = data.samples.attributes
    np.testing.assert_allclose(own["slice_position"][:5], [0.125, 0.375, 0.625, 0.875, 0.125])
    x = data.stored(np.arange(20))
    np.testing.assert_allclose(own["lv_area"], (x == 2).sum((1, 2, 3)) * 6.25)
    np.testing.assert_allclose(own["myo_area"], (x == 1).sum((1, 2, 3)) * 6.25)
    assert own["lv_volume"][0] == pytest.approx(2 / 3 * math.pi * 80 * 24 * 20 / 1000, rel=2e-3)
    assert len(open_data(f"lv_meshes?path={file}&spacing=3&hearts=2")) == 16


def test_files_that_do_not_fit_are_said(file, tmp_path, monkeypatch):
    monkeypatch.delenv("MEDGEN_DATA", raising=False)
    with pytest.raises(DataError, match="must name an"):
        open_data("lv_meshes")
    with pytest.raises(DataError, match="there is no such file"):
        open_data(f"lv_meshes?path={tmp_path / 'none.npz'}")
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(DataError, match="with faces_endo"):
        open_data(f"lv_meshes?path={tmp_path / 'other.npz'}")
    with pytest.raises(DataError, match=r"heart 1: the heart reaches"):
        open_data(f"lv_meshes?path={file}&size=30&spacing=2.4")
    with pytest.raises(DataError, match="`hearts` must be at most 5"):
        open_data(f"lv_meshes?path={file}&spacing=3&hearts=6")


@pytest.mark.realdata
def test_real_hearts():
    path = ROOT / "lv_mesa_pca" / "lv_mesa_ed_dev.npz"
    if not path.exists():
        pytest.skip("lv_mesa_pca is missing: set MEDGEN_DATA to the data folder")
    hearts = read_ventricles(path, np.arange(0, 1400, 100))
    for heart in hearts:
        labels, affine = heart.voxelise(1.0)
        voxel = abs(np.linalg.det(affine)) / 1000
        assert (labels == 2).sum() * voxel == pytest.approx(heart.cavity_volume, rel=0.005)
        assert (labels == 1).sum() * voxel == pytest.approx(heart.wall_volume, rel=0.02)  # the closed bases cross a little
        maps = heart.label_maps((np.arange(8) + 0.5) / 8, 64, 1.75)
        assert ((maps == 1).sum((1, 2)) > 0).all()
        assert ((maps == 2).sum((1, 2)) > 0).all()
        # the cavity never touches the background: the wall is whole
        cavity = maps == 2
        for axis in (1, 2):
            for step in (-1, 1):
                assert not (cavity & (np.roll(maps, step, axis) == 0)).any()
    volumes = [heart.cavity_volume for heart in hearts]
    indices = np.load(path.with_name("lv_clinical_indices_dev.npz"))["clinical_indices"]
    assert np.corrcoef(volumes, indices[::100, 0])[0, 1] > 0.7  # EDV and EDV per body surface
