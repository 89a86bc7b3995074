"""`Samples`: what every reader hands over, still in stored units. `Store`: where the values lie."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "ArrayStore", "LazyStore", "Samples", "Store", "chunks"]

Array = npt.NDArray[Any]

_CHUNK_BYTES = 64 << 20


class Store(Protocol):
    """N samples [C, *S] of one dtype."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, *S)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stored values."""

    def gather(self, rows: Array) -> Array:
        """The samples `rows` [B, C, *S], writable."""


@dataclass(frozen=True)
class ArrayStore:
    """Samples held in memory."""

    values: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, *S)."""
        return self.values.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stored values."""
        return self.values.dtype

    def gather(self, rows: Array) -> Array:
        """The samples `rows` [B, C, *S], a copy."""
        taken: Array = self.values[rows]
        return taken


class LazyStore:
    """Samples read from their files when asked for, the last few files kept.

    Args:
        read: file number -> its samples [n, C, *S].
        file, place: for each sample, the number of its file and its place therein.
        shape: (C, *S).
        dtype: stored type.
        keep: files held in memory.
    """

    def __init__(
        self, read: Callable[[int], Array], *, file: Array, place: Array, shape: tuple[int, ...], dtype: np.dtype[Any], keep: int = 8
    ) -> None:
        self._read = lru_cache(maxsize=keep)(read)
        self._file, self._place = file, place
        self.shape = (len(file), *shape)
        self.dtype = dtype

    def gather(self, rows: Array) -> Array:
        """The samples `rows` [B, C, *S]; each file is opened once per call."""
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        files, places = self._file[rows], self._place[rows]
        for number in np.unique(files):
            here = files == number
            out[here] = self._read(int(number))[places[here]]
        return out


def chunks(store: Store, rows: Array | None = None) -> Iterator[tuple[Array, Array]]:
    """(row numbers, values) of a pass over the store, some 64 MiB at a time."""
    rows = np.arange(store.shape[0]) if rows is None else rows
    size = max(1, _CHUNK_BYTES // max(1, int(np.prod(store.shape[1:])) * store.dtype.itemsize))
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        yield part, store.gather(part)


@dataclass(frozen=True)
class Samples:
    """N samples and all that is known about them.

    Args:
        store: the values, [N, C, *S].
        origins: i -> file name and slice of sample i, for messages.
        source: path or name of the whole.
        labels: class of each sample, int64 [N], with `class_names`.
        attributes: name -> float [N]; NaN where missing.
        splits: the file's own division, "train"/"val"/"test" -> int64.
        subjects: name of each sample's subject, [N].
        source_subjects: name of the subject of each sample's source, [N], where source and target are not pairs.
        ordered: samples of one subject are neighbours in space or time, so that it must be cut into slabs, never shuffled.
        guard: neighbours at a cut that share values and must be dropped (windows that overlap).
        images: name -> values of an image condition, [N, C', *S'].
        image_names: name -> names of its channels, or of its classes.
        geometry: what a writer needs to put results back (see `medgen.data.like`).
    """

    store: Store
    origins: Callable[[int], str]
    source: str
    labels: Array | None = None
    class_names: tuple[str, ...] = ()
    attributes: Mapping[str, Array] = field(default_factory=dict)
    splits: Mapping[str, Array] | None = None
    subjects: Array | None = None
    source_subjects: Array | None = None
    ordered: bool = False
    guard: int = 0
    images: Mapping[str, Store] = field(default_factory=dict)
    image_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    spacing: tuple[float, ...] | None = None
    affine: tuple[float, ...] | None = None
    slice_axis: int | None = None
    channel_names: tuple[str, ...] = ()
    unit: str = ""
    geometry: Any = None
    warnings: Sequence[str] = ()

    def __len__(self) -> int:
        return self.store.shape[0]
