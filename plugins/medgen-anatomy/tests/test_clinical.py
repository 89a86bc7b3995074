"""Clinical indices against closed forms, the published report, and the command."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from medgen.cli.main import main
from medgen.errors import DataError
from medgen_anatomy.clinical import UNITS, Indices, indices, indices_from, structure_volume, wall_thickness

nibabel = pytest.importorskip("nibabel")


def shell(inner, outer, spacing, shape, cut=False):
    """A hollow sphere, or its upper half."""
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(shape, spacing, strict=True)]
    radius = np.sqrt(sum(x**2 for x in np.meshgrid(*axes, indexing="ij")))
    labels = np.where(radius < inner, 3, np.where(radius < outer, 2, 0)).astype(np.int16)
    return labels[:, :, : shape[2] // 2] if cut else labels


def ball(radius):
    return 4 / 3 * math.pi * radius**3 / 1000


@pytest.mark.parametrize(("spacing", "shape"), [((1.0, 1.0, 1.0), (84, 84, 84)), ((1.4, 1.4, 2.0), (60, 60, 42))])
def test_volumes_mass_and_thickness_of_spheres(spacing, shape):
    ed, es = shell(25, 35, spacing, shape), shell(18, 31, spacing, shape)
    found = indices(ed, es, spacing, heart_rate=60)
    error = 4 * math.pi * 25**2 * max(spacing) / 1000  # a voxel all over the surface
    assert found.edv == pytest.approx(ball(25), abs=error)
    assert found.edv == pytest.approx(ball(25), rel=0.01)
    assert found.esv == pytest.approx(ball(18), rel=0.02)
    assert found.ef == pytest.approx(100 * (1 - (18 / 25) ** 3), abs=0.5)
    assert found.mass == pytest.approx(1.05 * (ball(35) - ball(25)), rel=0.01)
    assert found.co == pytest.approx(60 * found.sv)
    thickness = wall_thickness(ed, spacing)
    assert np.abs(thickness - 10).max() <= max(spacing)
    assert found.thickness_mean == pytest.approx(thickness.mean())


def test_the_open_base_is_no_epicardium():
    whole, half = (wall_thickness(shell(25, 35, (1.0,) * 3, (84,) * 3, cut=c), (1.0,) * 3) for c in (False, True))
    assert half.min() > 9
    assert half.mean() == pytest.approx(whole.mean(), rel=1e-6)


def test_without_a_wall_there_is_no_thickness():
    only = np.zeros((8, 8, 8), np.uint8)
    only[2:5] = 3
    assert wall_thickness(only, (1, 1, 1)).shape == (0,)


def test_the_published_report():
    """The printed numbers, rounded half up, of inputs that round to the printed inputs."""
    found = indices_from(119.2, 41.7, 96.0, heart_rate=62, height=1.86, bsa=2.02)
    printed = {
        "edv": 119, "esv": 42, "sv": 78, "ef": 65, "co": 4805, "ci": 2, "heart_rate": 62, "mass": 96,
        "edv_height": 64, "edv_bsa": 59, "esv_height": 22, "esv_bsa": 21, "sv_height": 42, "sv_bsa": 38, "mass_height": 52, "mass_bsa": 48,
    }  # fmt: skip
    assert {name: math.floor(value + 0.5) for name, value in found.known().items()} == printed


def test_every_index_has_a_unit():
    assert set(UNITS) == set(Indices.__dataclass_fields__)


def test_impossible_inputs_are_said():
    ed, es = shell(6, 9, (1.0,) * 3, (24,) * 3), shell(4, 8, (1.0,) * 3, (24,) * 3)
    with pytest.raises(DataError, match="larger at end-systole"):
        indices(es, ed, (1, 1, 1))
    with pytest.raises(DataError, match=r"must hold label cavity 1; it holds \[0, 2, 3\]"):
        indices(ed, es, (1, 1, 1), cavity=1)
    with pytest.raises(DataError, match="must be in metres"):
        indices(ed, es, (1, 1, 1), height=178)
    with pytest.raises(DataError, match="`bsa` must be a positive number"):
        indices(ed, es, (1, 1, 1), bsa=0)
    with pytest.raises(DataError, match=r"integers \[X, Y, Z\]; got float64"):
        structure_volume(ed.astype(float), (1, 1, 1), 3)
    with pytest.raises(DataError, match="three positive numbers"):
        structure_volume(ed, (1, 1), 3)


@pytest.fixture
def files(tmp_path):
    """ED and ES on different grids, ES saved as floats."""
    paths = []
    for name, radii, spacing, dtype in (("ED", (12, 18), (1.5, 1.5, 2.0), np.uint8), ("ES", (9, 16), (1.0, 1.0, 2.0), np.float32)):
        labels = shell(*radii, spacing, tuple(round(40 / s) for s in spacing)).astype(dtype)
        paths.append(str(tmp_path / f"{name}.nii.gz"))
        nibabel.Nifti1Image(labels, np.diag([*spacing, 1])).to_filename(paths[-1])
    return paths


def test_the_command_reads_voxel_sizes_from_headers(files, capsys):
    assert main(["anatomy", "indices", *files, "--heart-rate", "70", "--bsa", "1.9", "--json"]) == 0
    out = json.loads(capsys.readouterr().out)
    assert out["edv"] == pytest.approx(ball(12), rel=0.03)
    assert out["esv"] == pytest.approx(ball(9), rel=0.05)
    assert out["ci"] == pytest.approx(70 * out["sv"] / 1.9 / 1000)
    assert out["edv_height"] is None
    assert main(["anatomy", "indices", *files]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["INDEX", "VALUE", "UNIT"]
    assert any(line.split() == ["ef", f"{out['ef']:.1f}", "%"] for line in lines)
    assert main(["anatomy", "indices", *files, "--labels", "LV=3", "MYO=2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["edv"] == out["edv"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--labels", "LV=2", "MYO=1"], "must hold label myocardium 1"),
        (["--labels", "LV=2"], "must be different labels; got 2"),
        (["--labels", "LV=1", "MYO=1"], "LV and MYO must differ"),
        (["--labels", "RV=1"], "must be given as LV=NUMBER"),
        (["--height", "-1"], "`height` must be a positive number"),
    ],
)
def test_mistakes_of_the_command_are_one_line(files, words, message, capsys):
    assert main(["anatomy", "indices", *files, *words]) == 2
    assert message in capsys.readouterr().err


def test_files_that_are_no_label_volumes(files, tmp_path, capsys):
    np.savez(tmp_path / "flat.npz", x=np.zeros((4, 8, 8), np.uint8))
    nibabel.Nifti1Image(np.random.default_rng(0).normal(size=(6, 6, 6)), np.eye(4)).to_filename(tmp_path / "grey.nii.gz")
    for path, message in (("flat.npz", ""), ("grey.nii.gz", "whole numbers"), ("none.nii.gz", "no file")):
        assert main(["anatomy", "indices", files[0], str(tmp_path / path)]) == 2
        assert message in capsys.readouterr().err
    assert main(["anatomy", "indices", files[1], files[0]]) == 2
    assert "swap them" in capsys.readouterr().err
