"""Files that are either whole or absent: write beside the target, then rename."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from medgen.errors import MedgenError

__all__ = ["atomic_dir", "atomic_path", "make_folder", "sweep", "write_json", "write_text"]

_TEMPORARY = ".tmp-"


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path that becomes `path` when the block ends well, and vanishes when it does not.

    The temporary name keeps the suffixes of `path`, because writers choose formats by them.

    Raises:
        MedgenError: nothing can be written there.
    """
    target = Path(path)
    with _writable(target):
        make_folder(target.parent)
        if target.is_dir():
            raise MedgenError(f"cannot write the file {target}: it is a folder.")
        handle, name = tempfile.mkstemp(prefix=_TEMPORARY, suffix=target.name, dir=target.parent)
    temporary = Path(name)
    try:
        _lock(handle)
        yield temporary
        with temporary.open("rb") as written:  # a power cut after the rename must not leave an empty file
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def atomic_dir(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary folder that becomes `path`, which must not exist yet, when the block ends well.

    Raises:
        MedgenError: nothing can be written there.
    """
    target = Path(path)
    with _writable(target):
        make_folder(target.parent)
        temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=target.parent))
    handle = os.open(temporary, os.O_RDONLY)
    try:
        _lock(handle)
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        os.replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        os.close(handle)


def make_folder(path: str | os.PathLike[str]) -> None:
    """Make a folder and its parents, where missing.

    Raises:
        MedgenError: it cannot be made.
    """
    with _writable(Path(path)):
        Path(path).mkdir(parents=True, exist_ok=True)


def sweep(folder: str | os.PathLike[str]) -> None:
    """Remove what killed processes left half-written in `folder`. Their locks ended with them; a living writer's file is kept."""
    for left in Path(folder).glob(f"{_TEMPORARY}*"):
        with suppress(OSError):  # still locked, or another process was faster
            handle = os.open(left, os.O_RDONLY)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left) if left.is_dir() else left.unlink()
            finally:
                os.close(handle)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write JSON atomically; NaN and infinity become null, as JSON has no word for them."""
    write_text(path, json.dumps(_finite(value), indent=2, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not -float("inf") < value < float("inf"):
        return None
    return value


@contextmanager
def _writable(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise MedgenError(f"cannot write {target}: {error.strerror or error}.") from error


def _lock(handle: int) -> None:
    with suppress(OSError):  # some network file systems have no locks; then nothing is ever swept there
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
