"""Stores made of other stores: some of their samples, several as channels, masks as one map of regions, patches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch

from medgen.data.readers.volumes import MEMORY_LIMIT
from medgen.data.samples import Array, ArrayStore, Store
from medgen.errors import DataError
from medgen.interfaces import Noise

__all__ = ["IndexedStore", "JoinedStore", "PatchStore", "Patches", "RegionStore", "held", "region_map"]

_STREAM = 0x9A7C  # of the noise that places patches
_FIXED = 0x7061  # seed of patches that are the same each time
_POINTS = 1 << 16  # foreground positions that are remembered of a sample


@dataclass(frozen=True)
class IndexedStore:
    """Samples `rows` of another store, in their order."""

    store: Store
    rows: Array

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, *S)."""
        return (len(self.rows), *self.store.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stored values."""
        return self.store.dtype

    def gather(self, rows: Array) -> Array:
        """The samples `rows` [B, C, *S]."""
        return self.store.gather(self.rows[rows])


@dataclass(frozen=True)
class JoinedStore:
    """The channels of several stores, one after the other."""

    stores: Sequence[Store]

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, C, *S)."""
        first = self.stores[0].shape
        return (first[0], sum(store.shape[1] for store in self.stores), *first[2:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stored values."""
        return np.result_type(*(store.dtype for store in self.stores))

    def gather(self, rows: Array) -> Array:
        """The samples `rows` [B, C, *S]."""
        return np.concatenate([store.gather(rows) for store in self.stores], 1).astype(self.dtype, copy=False)


@dataclass(frozen=True)
class RegionStore:
    """Masks as one map; see `region_map`."""

    masks: Sequence[Store]
    names: Sequence[str]

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, 1, *S)."""
        return self.masks[0].shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the map."""
        return np.dtype(np.uint8)

    def gather(self, rows: Array) -> Array:
        """The samples `rows` [B, 1, *S]."""
        return region_map([mask.gather(rows) for mask in self.masks], self.names, "regions")


def region_map(masks: Sequence[Array], names: Sequence[str], where: str) -> Array:
    """0 everywhere else, 1 in the first mask, 2 in the second where it is not in the first, and so on: uint8 [N, 1, *S].

    Raises:
        DataError: a mask of several channels, or of another shape than the first.

    >>> lesion, brain = np.array([[[0, 1, 0]]]), np.array([[[0, 1, 1]]])
    >>> region_map([lesion, brain], ["lesion", "brain"], "x")
    array([[[0, 1, 2]]], dtype=uint8)
    """
    out = np.zeros(masks[0].shape, np.uint8)
    for number, (mask, name) in reversed(list(enumerate(zip(masks, names, strict=True), 1))):
        if mask.shape[1] != 1 or mask.shape != out.shape:
            raise DataError(f"{where}: the mask {name!r} must have one channel and the shape {out.shape}; got {mask.shape}.")
        out[mask != 0] = number
    return out


def held(store: Store) -> Store:
    """The same samples, in memory where they are few."""
    size = int(np.prod(store.shape)) * store.dtype.itemsize
    return store if isinstance(store, ArrayStore) or size > MEMORY_LIMIT else ArrayStore(store.gather(np.arange(store.shape[0])))


class Patches:
    """Where the patches of samples lie: patch number i is one of sample i // each.

    A start is uniform over all that keep the patch within the sample; a share of the patches is centred on a foreground position instead,
    as far as the border allows.

    Args:
        shape: S of a whole sample.
        size: of a patch.
        each: patches per sample.
        share: of patches centred on the foreground.
        foreground: sample number -> bool [*S].

    Raises:
        DataError: a patch with another number of axes, or larger than a sample.
    """

    def __init__(
        self, shape: Sequence[int], size: Sequence[int], each: int, *, share: float = 0.0, foreground: Callable[[int], Array] | None = None
    ) -> None:
        self.shape, self.size, self.each, self.share = tuple(shape), tuple(size), each, share
        if len(self.size) != len(self.shape) or any(s > whole for s, whole in zip(self.size, self.shape, strict=False)):
            raise DataError(f"`patch` must have {len(self.shape)} numbers, at most {self.shape}, the shape of a sample; got {self.size}.")
        self._foreground = foreground
        self._points = lru_cache(maxsize=None)(self._points_of)

    def starts(self, rows: Array, noise: Noise | None = None) -> Array:
        """First position of patches `rows` along each axis, int64 [B, dim].

        Args:
            rows: numbers of patches.
            noise: of these rows; None for places that depend on the number only.
        """
        draw = noise or Noise(_FIXED, torch.from_numpy(np.asarray(rows, np.int64)))
        dim, last = len(self.size), np.array(self.shape) - np.array(self.size)
        u = draw.to("cpu").uniform(dim + 2, stream=_STREAM, dtype=torch.float64).numpy()
        starts: Array = np.floor(u[:, :dim] * (last + 1)).astype(np.int64)
        for k in np.flatnonzero(u[:, dim] < self.share) if self._foreground is not None else ():
            points = self._points(int(rows[k]) // self.each)
            if len(points):
                centre = points[int(u[k, dim + 1] * len(points))]
                starts[k] = np.clip(centre - np.array(self.size) // 2, 0, last)
        return starts

    def _points_of(self, sample: int) -> Array:
        assert self._foreground is not None
        points = np.argwhere(self._foreground(sample)).astype(np.int32)
        return points[:: max(1, len(points) // _POINTS)]


class PatchStore:
    """Patches of the samples of another store.

    Args:
        store: the whole samples.
        patches: where they lie; the same for all stores of a dataset, so that source, target and regions stay together.
    """

    def __init__(self, store: Store, patches: Patches) -> None:
        self._store, self.patches = store, patches

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """(N, C, *S)."""
        return (self._store.shape[0] * self.patches.each, self._store.shape[1], *self.patches.size)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the stored values."""
        return self._store.dtype

    def gather(self, rows: Array, noise: Noise | None = None) -> Array:
        """The patches `rows` [B, C, *S]; with noise, others of the same samples."""
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        samples = np.asarray(rows) // self.patches.each
        starts = self.patches.starts(rows, noise)
        for number in np.unique(samples):
            whole = self._whole(int(number))
            for k in np.flatnonzero(samples == number):
                place = tuple(slice(a, a + n) for a, n in zip(starts[k], self.patches.size, strict=True))
                out[k] = whole[(slice(None), *place)]
        return out

    def _whole(self, number: int) -> Array:
        if isinstance(self._store, ArrayStore):
            return self._store.values[number]
        return self._store.gather(np.array([number]))[0]
