"""Label maps from files, and back into files of the same form: NIfTI volumes, npz archives, pictures, folders of them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgen.data import DataConfig
from medgen.data.dispatch import listed
from medgen.data.readers.npz import load
from medgen.data.writers import write_nifti, write_npz
from medgen.errors import DataError
from medgen.files import atomic_path, make_folder
from medgen.registry import require

__all__ = ["MapFile", "read_maps"]

_KEYS = ("masks", "mask", "labels_map", "label_maps", "labels", "segmentations", "x", "images", "")


@dataclass(frozen=True)
class MapFile:
    """The label maps of one file.

    Args:
        path: of the file.
        name: below the folder that was read.
        maps: [n, H, W], bytes.
        dtype: in which they are stored.
        spacing: mm per pixel, where the file says so.
        store: writes other maps [n, H, W] to a path, in the form of the file.
    """

    path: Path
    name: Path
    maps: NDArray[np.uint8]
    dtype: np.dtype[Any]
    spacing: tuple[float, float] | None
    store: Callable[[NDArray[Any], Path], None]

    def write(self, maps: NDArray[Any], folder: Path) -> Path:
        """The file with these maps, in a folder; a copy where they are the same.

        Raises:
            DataError: it would replace itself.
        """
        target = folder / self.name
        if target.resolve() == self.path.resolve():
            raise DataError(f"{target} is the input, which is never replaced; choose another --out.")
        make_folder(target.parent)
        if np.array_equal(maps, self.maps) and target.suffix == self.path.suffix:
            with atomic_path(target) as temporary:
                shutil.copyfile(self.path, temporary)
        else:
            self.store(maps.astype(self.dtype), target)
        return target


def read_maps(path: Path, *, axis: int = 2, key: str | None = None, select: str | None = None) -> list[MapFile]:
    """Every label map of a file, folder or pattern.

    Args:
        path: what to read.
        axis: voxel axis of NIfTI volumes across which the maps lie.
        key: array of an npz; by default "masks" and the like.
        select: pattern of file names.

    Raises:
        DataError: nothing there, or no whole numbers, naming the file.
    """
    kind, root, files = listed(path.expanduser(), DataConfig.parse({"select": select}))
    if kind == "nifti":
        return [_nifti(file, file.relative_to(root), axis) for file in files]
    if kind == "npz":
        return [_npz(file, file.relative_to(root), key) for file in files]
    if kind == "image":
        return [_picture(file, file.relative_to(root)) for file in files]
    raise DataError(f"{path}: label maps must be NIfTI, npz, npy or pictures; got {kind}.")


def _nifti(path: Path, name: Path, axis: int) -> MapFile:
    nibabel = require("nibabel", "imaging")
    try:
        image = nibabel.load(path)
        values = np.asanyarray(image.dataobj)
    except Exception as error:  # nibabel raises many kinds
        raise DataError(f"{path}: cannot be read as NIfTI; {type(error).__name__}: {error}") from error
    if values.ndim not in (2, 3):
        raise DataError(f"{path}: must be a 2-D or 3-D label volume; got shape {values.shape}.")
    volume = _whole(values if values.ndim == 3 else values[..., None], path)
    across = axis if values.ndim == 3 else 2
    sizes = [float(v) for k, v in enumerate(np.linalg.norm(image.affine[:3, :3], axis=0)) if k != across]

    def store(maps: NDArray[Any], target: Path) -> None:
        write_nifti(np.moveaxis(maps, 0, across)[None], image.affine, target, image.header)

    return MapFile(path, name, np.ascontiguousarray(np.moveaxis(volume, across, 0)), values.dtype, (sizes[0], sizes[1]), store)


def _npz(path: Path, name: Path, key: str | None) -> MapFile:
    arrays = load(path)
    keys = [key] if key is not None else [k for k in _KEYS if k in arrays] or (list(arrays) if len(arrays) == 1 else [])
    if not keys or keys[0] not in arrays:
        raise DataError(f"{path}: must hold label maps; its arrays are {', '.join(arrays)}. Name one with --key.")
    values = arrays[keys[0]]
    maps = values[:, 0] if values.ndim == 4 and values.shape[1] == 1 else values[None] if values.ndim == 2 else values
    if maps.ndim != 3:
        raise DataError(f"{path} array {keys[0]!r}: must be label maps [N, H, W]; got shape {values.shape}.")

    def store(corrected: NDArray[Any], target: Path) -> None:
        whole = corrected.reshape(values.shape)
        if path.suffix == ".npy":
            with atomic_path(target) as temporary, temporary.open("wb") as file:
                np.lib.format.write_array(file, whole, allow_pickle=False)
        else:
            write_npz({**arrays, keys[0]: whole}, target)

    return MapFile(path, name, _whole(maps, path), values.dtype, None, store)


def _picture(path: Path, name: Path) -> MapFile:
    pillow = require("PIL.Image", "imaging")
    with pillow.open(path) as image:
        values, palette = np.array(image), image.getpalette() if image.mode == "P" else None
    if values.ndim != 2:
        raise DataError(f"{path}: a label picture must have one channel; got shape {values.shape}.")

    def store(maps: NDArray[Any], target: Path) -> None:
        made = pillow.fromarray(maps[0])
        if palette is not None:
            made.putpalette(palette)
        with atomic_path(target) as temporary:
            made.save(temporary)

    return MapFile(path, name.with_suffix(".png"), _whole(values, path)[None], values.dtype, None, store)


def _whole(values: NDArray[Any], path: Path) -> NDArray[np.uint8]:
    """Whole numbers from 0 to 255 as bytes.

    Raises:
        DataError: others.
    """
    if not values.size or not (values.min() >= 0 and values.max() <= 255 and (values == np.floor(values)).all()):
        raise DataError(f"{path}: labels must be whole numbers from 0 to 255; got {values.dtype} of shape {values.shape}.")
    return values.astype(np.uint8)
