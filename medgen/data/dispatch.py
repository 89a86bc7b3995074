"""Which reader a path needs: by suffix, then by the first bytes, then by what a folder holds."""

from __future__ import annotations

from pathlib import Path

from medgen.data.config import DataConfig
from medgen.data.readers import npz, signals
from medgen.data.samples import Samples
from medgen.errors import DataError

__all__ = ["read"]


def read(path: Path, config: DataConfig) -> Samples:
    """Read a file, folder or glob pattern.

    Raises:
        DataError: nothing there that medgen reads.
    """
    kind = _kind(path)
    if kind == "npz":
        return npz.read(path, config)
    if kind == "wfdb":
        return signals.read(path, config)
    raise DataError(f"{path}: no reader for this kind of file.")


def _kind(path: Path) -> str:
    name = path.name.lower()
    with path.open("rb") as file:
        head = file.read(132)
    if head[:4] == b"PK\x03\x04" or head[:6] == b"\x93NUMPY" or name.endswith((".npz", ".npy")):
        return "npz"
    if name.endswith((".hea", ".dat")):
        return "wfdb"
    return ""
