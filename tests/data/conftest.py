"""Small files to read: written with nibabel, pydicom and Pillow, not with medgen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture
def write_nifti(tmp_path):
    nibabel = pytest.importorskip("nibabel")

    def write(name, values, affine=None):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine, dtype=values.dtype).to_filename(path)
        return path

    return write


@pytest.fixture
def write_png(tmp_path):
    image = pytest.importorskip("PIL.Image")

    def write(name, values):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.fromarray(values).save(path)
        return path

    return write


@pytest.fixture
def write_dicom(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    def write(name, pixels, position, *, series="1.2.3", cosines=(1, 0, 0, 0, 1, 0), spacing=(2.0, 0.5), slope=1, intercept=-1024, **more):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
        meta.MediaStorageSOPInstanceUID = generate_uid()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        data.SeriesInstanceUID, data.PatientID, data.Modality = series, "p1", "CT"
        data.Rows, data.Columns = pixels.shape
        data.PixelSpacing, data.ImagePositionPatient, data.ImageOrientationPatient = list(spacing), list(position), list(cosines)
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.RescaleSlope, data.RescaleIntercept = slope, intercept
        for key, value in more.items():
            setattr(data, key, value)
        data.PixelData = pixels.astype(np.uint16).tobytes()
        data.save_as(path, enforce_file_format=True)
        return path

    assert pydicom
    return write


@pytest.fixture
def rng():
    return np.random.Generator(np.random.Philox(1))


@pytest.fixture
def save_npz(tmp_path):
    def save(name="data.npz", **arrays) -> Path:
        path = tmp_path / name
        np.savez(path, **arrays)
        return path

    return save
