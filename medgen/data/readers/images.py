"""Folders of PNG, TIFF, JPEG or BMP files, 8- and 16-bit; sub-folders are classes, or train/val/test."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medgen.data.config import DataConfig
from medgen.data.readers.volumes import MEMORY_LIMIT, subject_of
from medgen.data.resize import resize
from medgen.data.samples import Array, ArrayStore, LazyStore, Samples
from medgen.data.splits import SPLITS
from medgen.errors import DataError
from medgen.registry import require

__all__ = ["SUFFIXES", "picture_shape", "read"]

SUFFIXES = (".png", ".tif", ".tiff", ".jpg", ".jpeg", ".bmp")

_MODES = {
    **dict.fromkeys(("1", "L", "RGB", "RGBA"), np.uint8),
    **dict.fromkeys(("I;16", "I;16B"), np.uint16),
    "I": np.int32,
    "F": np.float32,
}


def read(paths: Sequence[Path], root: Path, config: DataConfig) -> Samples:
    """All images below `root`; the first folder below it is the class (or the split, and the next the class).

    Raises:
        DataError: corrupt, or another mode or size than the first, naming the file.
    """
    first, mode = _pixels(paths[0], config)
    keep = None if config.channels is None else list(config.channels)
    lazy = len(paths) * first.nbytes > MEMORY_LIMIT
    out = np.empty((0 if lazy else len(paths), *first.shape), first.dtype)
    for k, path in enumerate(paths):
        image, found = _pixels(path, config)
        if found != mode:
            raise DataError(f"{path}: must have mode {mode} like {paths[0].name}; got {found}.")
        if image.shape != first.shape:
            raise DataError(
                f"{path}: must be {first.shape[1]} x {first.shape[2]} like {paths[0].name}; got {image.shape[1]} x {image.shape[2]}. "
                "Give `size` to resize all."
            )
        if not lazy:
            out[k] = image
    folders = [path.relative_to(root).parts[:-1] for path in paths]
    splits = _splits(folders)
    classes = [f[1:] if splits else f for f in folders]
    labels, names = _classes(classes, config)
    subjects = None if config.subjects in ("auto", "none") else np.array([subject_of(path, config) for path in paths])
    return Samples(
        store=_lazy(paths, config, first) if lazy else ArrayStore(out if keep is None else out[:, keep]),
        origins=lambda i: str(paths[i].relative_to(root)),
        source=str(root),
        labels=labels,
        class_names=names,
        splits=splits,
        subjects=subjects,
        geometry=("images", tuple(paths), root),
        warnings=_warnings(paths, splits, subjects),
    )


def _lazy(paths: Sequence[Path], config: DataConfig, first: Array) -> LazyStore:
    keep = slice(None) if config.channels is None else list(config.channels)
    shape = first[keep].shape
    number = np.arange(len(paths))
    return LazyStore(
        lambda k: _pixels(paths[k], config)[0][keep][None], file=number, place=0 * number, shape=shape, dtype=first.dtype, keep=256
    )


def _pixels(path: Path, config: DataConfig) -> tuple[Array, str]:
    """[C, H, W] and the mode of one image."""
    pillow = require("PIL.Image", "imaging")
    try:
        with pillow.open(path) as image:
            if getattr(image, "n_frames", 1) > 1:
                raise DataError(f"{path}: must hold one image; got {image.n_frames} pages. Convert stacks to NIfTI.")
            image.load()
            opened = image.convert("RGB") if image.mode == "P" else image
            mode = str(opened.mode)
            if mode not in _MODES:
                raise DataError(f"{path}: must be grey (8, 16 or 32 bit), RGB or RGBA; got mode {mode}.")
            values = np.asarray(opened, dtype=_MODES[mode])
    except DataError:
        raise
    except Exception as error:  # Pillow raises many kinds on damaged files
        raise DataError(f"{path}: must be a readable image; {type(error).__name__}: {error}") from error
    values = values[None] if values.ndim == 2 else np.moveaxis(values, 2, 0)
    if config.size is not None:
        few = values.dtype.kind in "iu" and len(values) == 1 and 0 < int(values.max()) <= 31 and int(values.min()) >= 0
        labels = config.content == "labels" or (config.content == "auto" and few)
        values = resize(np.ascontiguousarray(values[None]), config.size, labels=labels)[0]
    return values, mode


def picture_shape(path: Path) -> tuple[int, int]:
    """(H, W) of a picture file."""
    with require("PIL.Image", "imaging").open(path) as image:
        return int(image.height), int(image.width)


def _splits(folders: Sequence[tuple[str, ...]]) -> dict[str, Array] | None:
    names = [f[0] if f else "" for f in folders]
    if not set(names) <= set(SPLITS) or "train" not in names:
        return None
    return {s: np.flatnonzero(np.array(names) == s) for s in SPLITS if s in names}


def _classes(folders: Sequence[tuple[str, ...]], config: DataConfig) -> tuple[Array | None, tuple[str, ...]]:
    if config.labels == "none" or not any(folders) or not all(folders):
        return None, ()
    names = tuple(sorted({f[0] for f in folders}))
    return np.array([names.index(f[0]) for f in folders], dtype=np.int64), names


def _warnings(paths: Sequence[Path], splits: dict[str, Array] | None, subjects: Array | None) -> list[str]:
    """File names such as p01_001, p01_002 look like several images of one patient."""
    if splits is not None or subjects is not None:
        return []
    stems = {re.sub(r"\d+$", "", path.stem) for path in paths}
    if 1 < len(stems) <= len(paths) // 2:
        example = sorted(stems)[0]
        return [
            f"leakage likely: {len(paths)} file names share {len(stems)} beginnings (e.g. {example!r}); "
            "if these are patients, give `subjects`, a regex with one group."
        ]
    return []
