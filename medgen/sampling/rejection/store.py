"""Accepted points on disk: one memory-mapped array, and a note of how far it goes that is written after it."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from medgen.errors import RunError
from medgen.files import atomic_path, make_folder, sweep, write_json

__all__ = ["Store", "Tally"]

_EVERY = 2.0  # seconds between notes


@dataclass
class Tally:
    """How far a run has come. Sums over cells 0 to `cells` - 1.

    Args:
        cells: done.
        rows: points kept, at most n.
        proposed, passed, accepted, violations, excess: as in `Cell`; `accepted` counts what conditions kept, beyond n too.
    """

    cells: int = 0
    rows: int = 0
    proposed: int = 0
    passed: int = 0
    accepted: int = 0
    violations: int = 0
    excess: float = -float("inf")


class Store:
    """n points [n, D], float32, in memory or in FOLDER/points.npy, with the tally in FOLDER/rejection.json.

    The note is written atomically, and after the rows it speaks of: a run that is killed goes on from the last note to the same bytes.

    Args:
        n, dim: of the array.
        folder: None for memory.
        asked: everything that the points depend on; a folder that was made for something else is refused.

    Raises:
        RunError: the folder holds something else, or another process writes to it.
    """

    def __init__(self, n: int, dim: int, folder: Path | None, asked: Mapping[str, Any]) -> None:
        self.n, self.folder, self.asked = n, folder, {"n": n, "dim": dim, **asked}
        self.tally, self._last, self._lock = Tally(), time.monotonic(), -1
        if folder is None:
            self._rows: Any = np.empty((n, dim), np.float32)
            return
        make_folder(folder)
        self._lock = os.open(folder, os.O_RDONLY)
        try:
            self._open(folder, (n, dim))
        except BaseException:
            self.close()
            raise

    def _open(self, folder: Path, shape: tuple[int, int]) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"another process is writing to {folder}; wait for it, or choose another folder.") from None
        except OSError:  # some network file systems have no locks
            pass
        sweep(folder)
        if self.note.is_file():
            self._resume()
        elif any(folder.iterdir()):
            raise RunError(f"{folder} is not empty and holds no rejection.json; choose another folder.")
        else:
            with atomic_path(self.file) as temporary:
                np.lib.format.open_memmap(temporary, "w+", np.float32, shape).flush()
            self.write_note()
        self._rows = np.load(self.file, mmap_mode="r+")
        if self._rows.shape != shape:
            raise RunError(f"{self.file} must hold {shape} values; it holds {self._rows.shape}. Delete the folder, or choose another.")

    @property
    def file(self) -> Path:
        """The array."""
        assert self.folder is not None
        return self.folder / "points.npy"

    @property
    def note(self) -> Path:
        """The tally."""
        assert self.folder is not None
        return self.folder / "rejection.json"

    def _resume(self) -> None:
        try:
            known = json.loads(self.note.read_text(encoding="utf-8"))
            asked, tally = dict(known["asked"]), dict(known["tally"])
            self.tally = Tally(**{**tally, "excess": -float("inf") if tally["excess"] is None else tally["excess"]})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RunError(f"{self.note} is not what medgen wrote ({error}); choose another folder, or delete it.") from None
        mine = json.loads(json.dumps(self.asked))
        if different := sorted(key for key in {*asked, *mine} if asked.get(key) != mine.get(key)):
            what = ", ".join(f"{key} ({_short(asked.get(key))}, not {_short(mine.get(key))})" for key in different)
            raise RunError(f"{self.folder} holds points with another {what}; choose another folder, or delete it.")

    @property
    def full(self) -> bool:
        """Whether all n points are there."""
        return self.tally.rows >= self.n

    def add(self, points: Tensor, proposed: int, passed: int, violations: int, excess: float) -> None:
        """The next cell."""
        t = self.tally
        new = points[: self.n - t.rows]
        self._rows[t.rows : t.rows + len(new)] = new.numpy()
        self.tally = Tally(
            cells=t.cells + 1,
            rows=t.rows + len(new),
            proposed=t.proposed + proposed,
            passed=t.passed + passed,
            accepted=t.accepted + len(points),
            violations=t.violations + violations,
            excess=max(t.excess, excess),
        )
        if self.folder is not None and (self.full or time.monotonic() - self._last > _EVERY):
            self._rows.flush()
            self.write_note()

    def write_note(self) -> None:
        """How far the array goes."""
        write_json(self.note, {"asked": self.asked, "tally": asdict(self.tally)})
        self._last = time.monotonic()

    def points(self) -> Tensor:
        """[rows, D]; of a folder, read as needed, and changes to it stay in memory."""
        rows = self._rows if self.folder is None else np.load(self.file, mmap_mode="c")
        return torch.from_numpy(rows[: self.tally.rows])

    def close(self) -> None:
        """Let others write to the folder."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 40 else f"{text[:37]}..."
