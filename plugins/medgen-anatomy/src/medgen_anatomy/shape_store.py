"""Points of a latent space on disk, with what the criteria say of the map that each decodes to."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from medgen.errors import RunError
from medgen.files import atomic_path, make_folder, sweep, write_json
from medgen.ops import parzen_topk
from medgen_anatomy.choice import criteria_from_json
from medgen_anatomy.criterion import Criteria

__all__ = ["FAILED", "ShapeStore"]

FAILED = np.uint32(1 << 31)
"""Flag of a point whose map could not be decoded or measured."""

_BLOCK = 1 << 18  # points searched at once
_EVERY = 2.0  # seconds between notes


class ShapeStore:
    """N latents of FOLDER/points/points.npy [N, D] and their flags in FOLDER/flags.npy, uint32 [N].

    Bit c of a flag says that criterion c is violated, bit 31 that there was no map to look at; the valid points have the flag 0. What was
    asked, how far it has come and the summary are in FOLDER/densify.json, which is written atomically and after the flags it speaks of: a
    run that is killed goes on from the last note to the same bytes.

    Args:
        folder: holds a densify.json.

    Raises:
        RunError: it does not, or the note is broken.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)
        try:
            self.note: dict[str, Any] = json.loads((self.folder / "densify.json").read_text(encoding="utf-8"))
            self.asked, self.done = dict(self.note["asked"]), int(self.note["done"])
            self.criteria: Criteria = criteria_from_json(self.asked["criteria"])
        except FileNotFoundError:
            raise RunError(f"{folder} holds no valid shapes (no densify.json). Make them: medgen anatomy densify RUN") from None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RunError(f"{self.folder / 'densify.json'} is not what medgen wrote ({error}); delete the folder {folder}.") from None
        self._last = time.monotonic()

    @classmethod
    def begin(cls, folder: Path, asked: Mapping[str, Any]) -> ShapeStore:
        """The store in a folder that is new, or that was made for the same.

        Raises:
            RunError: the folder holds something else.
        """
        file, asked = folder / "densify.json", json.loads(json.dumps(dict(asked)))
        if not file.is_file():
            with atomic_path(folder / "flags.npy") as temporary:
                np.lib.format.open_memmap(temporary, "w+", np.uint32, (asked["points"],)).flush()
            write_json(file, {"asked": asked, "done": 0, "seconds": {}, "summary": None})
        store = cls(folder)
        if different := sorted(key for key in {*asked, *store.asked} if asked.get(key) != store.asked.get(key)):
            what = ", ".join(f"{key} ({_short(store.asked.get(key))}, not {_short(asked.get(key))})" for key in different)
            raise RunError(f"{folder} holds shapes with another {what}; choose another --out, or delete it.")
        return store

    def __len__(self) -> int:
        return int(self.asked["points"])

    @property
    def spacing(self) -> tuple[float, float]:
        """mm per pixel of the model's maps, as they were measured."""
        dy, dx = self.asked["spacing"]
        return float(dy), float(dx)

    @property
    def finished(self) -> bool:
        """Whether every point has its flag."""
        return self.done >= len(self)

    @property
    def points(self) -> NDArray[np.float32]:
        """[N, D], memory-mapped."""
        rows: NDArray[np.float32] = np.load(self.folder / "points" / "points.npy", mmap_mode="r")
        return rows

    def flags(self, mode: Any = "r") -> NDArray[np.uint32]:
        """[N], memory-mapped; those from `done` on mean nothing yet."""
        flags: NDArray[np.uint32] = np.load(self.folder / "flags.npy", mmap_mode=mode)
        return flags

    def add_note(self, done: int, seconds: Mapping[str, float], summary: Mapping[str, Any] | None = None, *, now: bool = False) -> None:
        """How far it has come; at most every two seconds unless `now`."""
        self.done = done
        if now or time.monotonic() - self._last > _EVERY:
            self.note |= {"done": done, "seconds": dict(seconds), "summary": None if summary is None else dict(summary)}
            write_json(self.folder / "densify.json", self.note)
            self._last = time.monotonic()

    def valid(self) -> Iterator[Tensor]:
        """The valid points, in blocks [<= 2^18, D]."""
        points, flags = self.points, self.flags()[: self.done]
        for start in range(0, len(flags), _BLOCK):
            rows = np.flatnonzero(flags[start : start + _BLOCK] == 0)
            if len(rows):
                yield torch.from_numpy(points[start : start + _BLOCK][rows])

    def nearest(self, z: Tensor, k: int = 1) -> Tensor:
        """The k valid points nearest to each of z [B, D] by |y - z|, exactly: [B, k, D], nearest first; fewer where there are fewer.

        Raises:
            RunError: there is none.
        """
        found, far = z.new_empty(len(z), 0, z.shape[1]), z.new_empty(len(z), 0)
        for block in self.valid():
            distance, number = parzen_topk(z, block, min(k, len(block)))
            far, found = torch.cat([far, distance], 1), torch.cat([found, block[number]], 1)
            far, order = far.sort(dim=1, stable=True)
            far, found = far[:, :k], found.take_along_dim(order[:, :k, None], 1)
        if not found.shape[1]:
            raise RunError(f"{self.folder} holds no valid shape among {self.done} points; look at its densify.json for what they violate.")
        return found

    def counts(self) -> dict[str, Any]:
        """How many points are valid, failed, and violate each criterion."""
        names, flags = self.criteria.names, self.flags()[: self.done]
        violated = np.zeros(len(names), np.int64)
        valid = failed = 0
        for start in range(0, len(flags), _BLOCK):
            part = np.asarray(flags[start : start + _BLOCK])
            lost = (part & FAILED) > 0
            valid, failed = valid + int((part == 0).sum()), failed + int(lost.sum())
            violated += [int(((part >> c) & 1)[~lost].sum()) for c in range(len(names))]
        share = valid / max(1, self.done)
        return {"valid": valid, "valid_share": share, "failed": failed, "violations": dict(zip(names, violated.tolist(), strict=True))}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """The folder, made where missing, while no other process may write to it.

    Raises:
        RunError: another does.
    """
    make_folder(folder)
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(f"another process is writing to {folder}; wait for it, or choose another folder.") from None
        except OSError:  # some network file systems have no locks
            pass
        sweep(folder)
        yield
    finally:
        os.close(handle)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 40 else f"{text[:37]}..."
