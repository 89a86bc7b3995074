"""Which reader a path needs: by suffix, then by the first bytes, then by what a folder holds."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from medgen.data.config import DataConfig
from medgen.data.geometry import Plan, VolumeFile
from medgen.data.readers import dicom, images, nifti, npz, signals, tables
from medgen.data.readers.volumes import gather_volumes
from medgen.data.samples import Samples
from medgen.errors import DataError

__all__ = ["listed", "read", "volume_files"]

KINDS = ".npz, .npy, .nii(.gz), DICOM, PNG, TIFF, JPEG, .csv(.gz), WFDB .hea/.dat"


def read(path: Path, config: DataConfig, plan: Plan | None = None) -> Samples:
    """Read a file, folder or glob pattern.

    Args:
        path: what to read.
        config: how.
        plan: for volumes, instead of what the config says.

    Raises:
        DataError: nothing there that medgen reads, naming it.
    """
    found, root, files = listed(path, config)
    if found in ("nifti", "dicom"):
        return gather_volumes(volume_files(found, files, config), str(path), config, plan)
    if found == "image":
        return images.read(files, root, config)
    if len(files) > 1:
        raise DataError(f"{path}: holds {len(files)} {found} files; name one of them: {', '.join(f.name for f in files[:5])}.")
    if found == "npz":
        return npz.read(files[0], config)
    return tables.read(files[0], config) if found == "table" else signals.read(files[0], config)


def listed(path: Path, config: DataConfig) -> tuple[str, Path, list[Path]]:
    """The kind of the files, the folder that their names are relative to, and the files, in order of their names.

    Raises:
        DataError: none that medgen reads, or several kinds.
    """
    root, files = _listed(path, config)
    kinds = {kind(file) for file in files}
    if len(kinds) > 1 or "" in kinds:
        names = ", ".join(f"{f.name} ({kind(f) or 'unknown'})" for f in files[:5])
        raise DataError(f"{path}: files must be of one kind ({KINDS}); got {names}. Use `select`, e.g. '*.nii.gz'.")
    return kinds.pop(), root, files


def volume_files(found: str, files: Sequence[Path], config: DataConfig) -> list[VolumeFile]:
    """NIfTI: one volume per file. DICOM: one per folder."""
    if found == "nifti":
        return nifti.read_files(files, config)
    folders: dict[Path, list[Path]] = {}
    for file in files:
        folders.setdefault(file.parent, []).append(file)
    return dicom.read_folders([folders[key] for key in sorted(folders)], config)


def kind(path: Path) -> str:
    """One of "npz", "nifti", "dicom", "image", "table", "wfdb", or the empty string for none of them."""
    name = path.name.lower()
    by_suffix = {"npz": (".npz", ".npy"), "nifti": nifti.SUFFIXES, "image": images.SUFFIXES, "table": tables.SUFFIXES}
    for found, suffixes in by_suffix.items():
        if name.endswith(suffixes):
            return found
    with path.open("rb") as file:
        head = file.read(4)
    if head == b"PK\x03\x04":  # an .npz by another name
        return "npz"
    if dicom.is_dicom(path):
        return "dicom"
    return "wfdb" if name.endswith((".hea", ".dat")) else ""


def _listed(path: Path, config: DataConfig) -> tuple[Path, list[Path]]:
    """The folder that names are relative to, and the files, in order of their names."""
    if path.is_file():
        return path.parent, [path]
    if path.is_dir():
        every = [f for f in sorted(path.rglob("*")) if f.is_file() and not any(p.startswith(".") for p in f.relative_to(path).parts)]
        chosen = [f for f in every if config.select is None or _selected(f, path, config.select)]
        chosen = chosen if config.select is not None else _main_kind(chosen)
        if not chosen:
            what = f"no file that matches {config.select!r}" if config.select else f"no file that medgen reads ({KINDS})"
            raise DataError(f"{path}: holds {what}; it has {len(every)} files{': ' + every[0].name + ', ...' if every else ''}.")
        return path, chosen
    found = [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
    files = [f for f in found if f.is_file()]
    if not files:
        raise DataError(f"{path}: no file matches this pattern.")
    return _common(files), files


def _selected(file: Path, root: Path, pattern: str) -> bool:
    return fnmatchcase(file.name, pattern) or fnmatchcase(file.relative_to(root).as_posix(), pattern)


def _main_kind(files: list[Path]) -> list[Path]:
    """Without the notes (README, LICENSE, tables, annotations) that lie beside volumes, images or records."""
    kinds = {f: kind(f) for f in files}
    real = [f for f in files if f.name != "DICOMDIR" and (kinds[f] in ("nifti", "dicom", "image", "npz") or f.suffix == ".hea")]
    return real or [f for f in files if kinds[f] == "table"]


def _common(files: list[Path]) -> Path:
    folder = files[0].parent
    while not all(f.is_relative_to(folder) for f in files):
        folder = folder.parent
    return folder
