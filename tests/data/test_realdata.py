from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from medgen.data import open_data, open_like, save_like

ROOT = Path(os.environ.get("MEDGEN_DATA", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))
pytestmark = pytest.mark.realdata


def real(name):
    path = ROOT / name
    if not path.exists():
        pytest.skip(f"{name} is missing: set MEDGEN_DATA to the data folder")
    return path


def sizes(data):
    return [len(rows) for rows in data.splits.values()]


def test_pneumoniamnist():
    data = open_data(real("pneumoniamnist/pneumoniamnist_trainval.npz"))
    assert data.image_spec.size == (1, 28, 28)
    assert sizes(data) == [4708, 524, 0]
    assert data.summary()["labels"]["train"] == {"0": 1214, "1": 3494}
    assert data.warnings == ("leakage: 8 of 524 samples of val are exact duplicates of training samples.",)


def test_mednist64():
    data = open_data(real("mednist64/mednist64_dev.npz"))
    assert data.conditions[0].names == ("AbdomenCT", "CXR", "ChestCT", "Hand")
    assert sizes(data) == [3200, 400, 400]


def test_adrenalmnist3d():
    data = open_data(real("adrenalmnist3d/adrenalmnist3d.npz"))
    assert data.image_spec.size == (1, 28, 28, 28)
    assert sizes(data) == [1188, 98, 298]
    assert set(data.fetch(data.splits["test"][:50]).x.unique().tolist()) == {0.0, 1.0}


def test_sunnybrook_masks_by_patient():
    data = open_data(real("sunnybrook_lv/sunnybrook_lv.npz"), key="masks", source="images", size=(64, 64))
    assert data.image_spec.size == (3, 64, 64)
    parts = [set(data.subjects[rows]) for rows in data.splits.values()]
    assert [len(p) for p in parts] == [3, 1, 1]


def test_open_ms_channels():
    data = open_data(real("open_ms_mri/open_ms_axial.npz"))
    assert data.image_spec.channel_names == ("T1", "T1POST", "T2", "FLAIR")
    assert sizes(data) in ([96, 95, 0], [95, 96, 0])


def test_a_nifti_volume_goes_in_and_out(tmp_path):
    nibabel = pytest.importorskip("nibabel")
    path = real("open_ms_mri/nifti_patient07/T1.nii.gz")
    data = open_data(path, axis=2)
    assert data.image_spec.size == (1, 182, 218)
    like = open_like(path, data.image_spec)
    (out,) = save_like(like.fetch(np.arange(len(like))).x, like, tmp_path)
    before, after = nibabel.load(path), nibabel.load(out)
    np.testing.assert_array_equal(before.affine, after.affine)
    low, high = data.image_spec.intensity.low[0], data.image_spec.intensity.high[0]
    np.testing.assert_allclose(after.get_fdata(), np.clip(before.get_fdata(), low, high), atol=1e-3)
    assert after.header["sform_code"] == before.header["sform_code"]


def test_lesion_masks_are_labels():
    data = open_data(real("ms_lesion_masks"), size=(32, 32, 32))
    assert data.image_spec.size == (2, 32, 32, 32)
    assert sizes(data) == [16, 2, 2]


def test_ecg_in_millivolts():
    data = open_data(real("ecg_mitbih/100.hea"), length=650)
    assert data.image_spec.size == (2, 650)
    assert data.image_spec.channel_names == ("MLII", "V5")
    # The header's 16-bit checksum over all 650000 samples of each lead; zero is 1024, the gain 200 per mV.
    codes = np.rint(data.stored(np.arange(1000)).astype(np.float64) * 200 + 1024).astype(np.int64).sum((0, 2))
    assert (codes & 0xFFFF).tolist() == [-22131 & 0xFFFF, 20052]


@pytest.mark.parametrize(("name", "shape"), [("protein", (45730, 10)), ("gas", (2565, 129)), ("parkinsons", (5875, 21))])
def test_tables(name, shape):
    data = open_data(real(f"uci_tabular/{name}.csv.gz"))
    assert (len(data), data.image_spec.channels) == shape


def test_pca_scores():
    data = open_data(real("lv_mesa_pca/lv_mesa_ed_dev.npz"))
    assert (len(data), data.image_spec.size) == (1400, (10,))
