"""Masks beside images: which values are known, on the grid of the model and on that of the files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from medgen.data.config import DataConfig
from medgen.data.dataset import Dataset
from medgen.data.dispatch import listed, read, volume_files
from medgen.data.geometry import check_grids
from medgen.data.intensity import cast_like
from medgen.data.readers import images, npz
from medgen.data.readers.volumes import Volumes
from medgen.data.resize import resize
from medgen.data.samples import Array, Samples
from medgen.errors import DataError

__all__ = ["Mask", "open_mask"]

_TOUCHED = 1e-3  # share of a value that may come from what is not known

Loads = Sequence[Callable[[], Array]]


def open_mask(path: str | os.PathLike[str], dataset: Dataset, *, invert: bool = False) -> Mask:
    """Open a mask for the samples of `dataset`: NIfTI beside volumes, pictures beside pictures, npz beside all else.

    Args:
        path: one mask for each file (volumes, pictures) or sample (npz) in the same order, or one for all; of the same grid.
        dataset: of `open_like`.
        invert: the mask marks what is to be filled in; by default what is known is not zero.

    Raises:
        DataError: another grid, number of masks, or kind of file; a mask that leaves nothing to fill in, or nothing known.
    """
    spec, location = dataset.image_spec, Path(path).expanduser()
    if not location.exists() and not any(c in str(path) for c in "*?["):
        raise DataError(f"there is no mask at {path}.")
    config = DataConfig(content="intensity", labels="none", subjects="none", dim=spec.dim)
    found, root, files = listed(location, config)
    volumes = volume_files(found, files, config) if found in ("nifti", "dicom") else []
    if volumes:
        loads: Loads = [file.load for file in volumes]
    elif found == "image":
        loads = [partial(_picture, file, root, config) for file in files]
    else:
        loads = _loads(read(location, config), config)
    place = dataset.samples.geometry
    if isinstance(place, Volumes) != bool(volumes):
        raise DataError(f"{path}: a mask must be of the kind of its images, {dataset.source}; got {found} files.")
    if isinstance(place, Volumes):
        pairs = zip(list(volumes) * (len(place.files) if len(volumes) == 1 else 1), place.files, strict=False)  # numbers are compared later
        check_grids(pairs)
    mask = Mask(dataset, str(path), loads, invert)
    mask.check()
    return mask


class Mask:
    """Which values of the samples of a dataset are known. Made by `open_mask`.

    A value on the model's grid is known where everything is that it was interpolated from: nothing unknown leaks into what is known.

    Args:
        dataset: the images.
        source: of the mask, for messages.
        loads: each gives the mask of a volume [1 or C, X, Y, Z], of a picture [1 or C, H, W], or of all samples [N or 1, 1 or C, *S].
        invert: of `open_mask`.
    """

    def __init__(self, dataset: Dataset, source: str, loads: Loads, invert: bool) -> None:
        self._data, self._source, self._loads, self._invert = dataset, source, loads, invert
        self._originals = _loads(dataset.samples, dataset.config)
        self._cut = lru_cache(maxsize=4)(self._cut_volume)

    def __call__(self, rows: Array) -> Tensor:
        """True where the samples `rows` are known, bool [B, 1 or C, *S]."""
        place = self._data.samples.geometry
        if isinstance(place, Volumes):
            return torch.from_numpy(np.stack([self._cut(int(place.file[i]))[place.place[i]] for i in rows]))
        return torch.from_numpy(self._whole[rows if len(self._whole) > 1 else np.zeros_like(rows)])

    def paste(self, number: int, values: Array) -> Array:
        """Results for file `number` on its own grid, with the file's own values, in its own type, where they are known."""
        original = self._originals[number]()
        return np.where(self._known(number), original, cast_like(values, original.dtype))

    def check(self) -> None:
        """Whether the mask fits the images.

        Raises:
            DataError: it does not.
        """
        count, spec = len(self._originals), self._data.image_spec
        if len(self._loads) not in (1, count):
            raise DataError(f"{self._source}: there must be a mask for each of {count} files, or one for all; got {len(self._loads)}.")
        some, every = False, True
        for number in range(count):
            known, wanted = self._known(number), self._shape(number)
            first = len(wanted) - (3 if isinstance(self._data.samples.geometry, Volumes) else spec.dim)  # spatial axis
            counts = [{1, n} for n in wanted[:first]]
            fits = known.ndim == len(wanted) and known.shape[first:] == wanted[first:]
            if not fits or any(n not in allowed for n, allowed in zip(known.shape, counts, strict=False)):
                sizes = [" or ".join(map(str, sorted(allowed))) for allowed in counts] + [str(n) for n in wanted[first:]]
                raise DataError(f"{self._source}: a mask must have shape ({', '.join(sizes)}), like its images; got {known.shape}.")
            some, every = some or bool(known.any()), every and bool(known.all())
        if every:
            raise DataError(f"{self._source}: all is known, nothing is left to fill in. Does the mask mark what to fill in? See --invert.")
        if not some:
            raise DataError(f"{self._source}: nothing is known; `medgen sample` draws whole samples. See --invert.")

    def _shape(self, number: int) -> tuple[int, ...]:
        """Of a file's values."""
        place = self._data.samples.geometry
        if isinstance(place, Volumes):
            return (place.files[number].channels, *place.files[number].grid.shape)
        return self._originals[number]().shape

    def _known(self, number: int) -> Array:
        known: Array = (self._loads[number if len(self._loads) > 1 else 0]() != 0) ^ self._invert
        return known

    def _cut_volume(self, number: int) -> Array:
        """[n, 1 or C, *S] of one volume."""
        place, unknown = self._data.samples.geometry, (~self._known(number)).astype(np.float32)
        file = replace(place.files[number], load=lambda: unknown, channels=len(unknown), dtype=unknown.dtype)
        cut: Array = replace(place.plan, labels=False).cut(file)[0] <= _TOUCHED
        return cut

    @cached_property
    def _whole(self) -> Array:
        """[N or 1, 1 or C, *S] of what is no volume."""
        pictures = len(self._shape(0)) == len(self._data.image_spec.size)
        known = np.stack([self._known(k) for k in range(len(self._loads))]) if pictures else self._known(0)
        return resize((~known).astype(np.float32), self._data.image_spec.shape, labels=False) <= _TOUCHED


def _loads(samples: Samples, config: DataConfig) -> Loads:
    """How each file is read, on its own grid."""
    place = samples.geometry
    if isinstance(place, Volumes):
        return [file.load for file in place.files]
    kind, where, root = place if isinstance(place, tuple) else ("", None, None)
    if kind == "images":
        return [partial(_picture, path, root, config) for path in where]
    if kind == "npz":
        return [lambda: _all(npz.read(where, config.model_copy(update={"size": None})))]
    return [lambda: _all(samples)]


def _picture(path: Path, root: Path, config: DataConfig) -> Array:
    return _all(images.read([path], root, config.model_copy(update={"size": None})))[0]


def _all(samples: Samples) -> Array:
    return samples.store.gather(np.arange(len(samples)))
