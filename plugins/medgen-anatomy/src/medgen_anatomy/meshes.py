"""Ventricles given by the surfaces of endocardium and epicardium, as short-axis label maps, as label volumes, and as a dataset."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgen.data import Dataset, from_arrays
from medgen.errors import DataError
from medgen_anatomy.surfaces import Array, Frame, Surface, cut, fill, long_axis, surface, volume

__all__ = ["STRUCTURES", "Ventricle", "lv_meshes", "read_ventricles", "ventricle"]

STRUCTURES = ("background", "MYO", "LV")
"""Of a label map, in the order of their numbers: background, myocardium, cavity."""

_FILE = "lv_mesa_pca/lv_mesa_ed_dev.npz"


@dataclass(frozen=True)
class Ventricle:
    """Endocardium and epicardium of a left ventricle, in mm, and the heart's own axes; `ventricle` finds these from the mesh."""

    endocardium: Surface
    epicardium: Surface
    frame: Frame

    @property
    def cavity_volume(self) -> float:
        """Inside the endocardium, its base closed by a fan, in ml."""
        return volume(self.endocardium) / 1000.0

    @property
    def wall_volume(self) -> float:
        """Between the surfaces, in ml."""
        return volume(self.epicardium) / 1000.0 - self.cavity_volume

    @property
    def base_and_apex(self) -> tuple[float, float]:
        """Where slices begin and end on the long axis, in mm from the base's centre: behind both open ends, and at the endocardial apex."""
        rims = [self.frame(s.vertices[s.rim])[:, 0].max() for s in (self.endocardium, self.epicardium) if len(s.rim)]
        inner = self.frame(self.endocardium.vertices)[:, 0]
        return float(max(rims, default=inner.min())), float(inner.max())

    def label_maps(self, positions: Sequence[float] | Array, size: int, spacing: float) -> NDArray[np.uint8]:
        """Short-axis label maps [K, size, size], numbers into `STRUCTURES`: each pixel has the structure at its centre.

        The long axis passes through the middle of every map.

        Args:
            positions: [K] in [0, 1], from base to apex.
            size: pixels per side.
            spacing: mm per pixel.

        Raises:
            DataError: positions outside [0, 1], or the heart does not fit into the maps.
        """
        where = np.asarray(positions, dtype=np.float64).reshape(-1)
        if not (np.isfinite(where).all() and where.min(initial=0) >= 0 and where.max(initial=1) <= 1):
            raise DataError(f"`positions` must lie in [0, 1], from base to apex; got {where.tolist()}.")
        if size < 1 or not spacing > 0:
            raise DataError(f"`size` must be at least 1 and `spacing` positive; got {size} and {spacing}.")
        base, apex = self.base_and_apex
        across = (np.arange(size) - (size - 1) / 2) * spacing
        return self._labels(base + where * (apex - base), across, across)

    def voxelise(self, spacing: float | Sequence[float]) -> tuple[NDArray[np.uint8], Array]:
        """The label volume [D, H, W] that encloses the heart, slices from base to apex, and its 4x4 voxel-to-mesh matrix in mm.

        Args:
            spacing: size of a voxel in mm: one number, or between slices, rows and columns.
        """
        step = np.broadcast_to(np.asarray(spacing, dtype=np.float64), (3,))
        if not (step > 0).all():
            raise DataError(f"`spacing` must be positive; got {spacing}.")
        points = np.concatenate([self.frame(s.vertices) for s in (self.endocardium, self.epicardium)])
        low = np.floor(points.min(0) / step) - 1
        count = (np.ceil(points.max(0) / step) + 2 - low).astype(int)
        s, v, u = ((low[k] + np.arange(count[k])) * step[k] for k in range(3))
        affine = np.eye(4)
        affine[:3, :3] = self.frame.axes.T * step
        affine[:3, 3] = self.frame.origin + (low * step) @ self.frame.axes
        return self._labels(s, v, u), affine

    def _labels(self, levels: Array, rows: Array, columns: Array) -> NDArray[np.uint8]:
        labels = np.zeros((len(levels), len(rows), len(columns)), np.uint8)
        for number, shape in ((1, self.epicardium), (2, self.endocardium)):
            vertices, faces = shape.closed()
            level, segments = cut(self.frame(vertices), faces, levels)
            reach = np.abs(segments).max((0, 1), initial=0.0)
            if (reach > [max(-rows[0], rows[-1]), max(-columns[0], columns[-1])]).any():
                raise DataError(
                    f"the heart reaches {reach.max():.1f} mm from its long axis, beyond maps of {len(rows)} x {len(columns)} pixels "
                    f"that end at {max(-rows[0], rows[-1]):.1f} mm. Use a larger `spacing` or `size`."
                )
            labels[fill(level, segments, len(levels), rows, columns)] = number
        return labels


def ventricle(endocardium: Surface, epicardium: Surface, up: tuple[float, float, float] = (0.0, 0.0, 1.0)) -> Ventricle:
    """A ventricle whose long axis is found from the endocardium's open base and apex (see `long_axis`)."""
    return Ventricle(endocardium, epicardium, long_axis(endocardium, up))


def read_ventricles(path: str | os.PathLike[str], numbers: Array | None = None) -> list[Ventricle]:
    """Ventricles of an .npz file: shapes of one mesh.

    The file holds `faces_endo` and `faces_epi` [F, 3], each over the vertices of its own surface (numbers of the second may go on where
    the first ends), `n_points_endo`, and either `vertices` [N, P, 3] in mm, or a linear shape model `mean` [P, 3], `components`
    [J, P, 3], `scores` [N, J]: shape = mean + scores . components.

    Args:
        path: the file.
        numbers: which of the N shapes; all by default.

    Raises:
        DataError: no such file, or other arrays.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise DataError(f"{file}: there is no such file. It must be an .npz of meshes, with faces_endo, faces_epi and vertices or scores.")
    try:
        with np.load(file, allow_pickle=False) as arrays:
            held = {name: arrays[name] for name in arrays.files}
        shapes = _shapes(held, numbers)
        endo, epi = held["faces_endo"], held["faces_epi"]
        split = int(held["n_points_endo"])
    except (KeyError, ValueError, OSError, EOFError) as error:
        raise DataError(
            f"{file}: must be an .npz with faces_endo, faces_epi, n_points_endo and vertices, or mean, components and scores; "
            f"{type(error).__name__}: {error}"
        ) from error
    first = surface(shapes[0][:split], endo)
    second = surface(shapes[0][split:], epi - split if epi.min() >= split else epi)
    return [ventricle(replace(first, vertices=x[:split]), replace(second, vertices=x[split:])) for x in shapes]


def _shapes(held: dict[str, Array], numbers: Array | None) -> Array:
    chosen = slice(None) if numbers is None else np.asarray(numbers)
    if "vertices" in held:
        vertices: Array = held["vertices"][chosen].astype(np.float64)
    else:
        vertices = held["mean"].astype(np.float64) + np.tensordot(held["scores"][chosen], held["components"].astype(np.float64), 1)
    if vertices.ndim != 3 or vertices.shape[2] != 3 or not len(vertices):
        raise ValueError(f"shapes must be [N, P, 3]; got {vertices.shape}")
    return vertices


def lv_meshes(*, path: str = "", size: int = 64, spacing: float = 1.75, slices: int = 8, hearts: int = 0, **data: Any) -> Dataset:
    """Short-axis label maps (background, MYO, LV) cut from meshes of left ventricles; the slices of one heart are one subject.

    Slice k of a heart lies at (k + 1/2) / slices from base to apex. Attributes: slice_position (0 base, 1 apex), lv_area and myo_area
    (mm^2), and of the heart lv_volume and myo_volume (ml), from the mesh.

    Args:
        path: .npz file of meshes (see `read_ventricles`); by default lv_mesa_pca/lv_mesa_ed_dev.npz below the folder MEDGEN_DATA.
        size: pixels per side.
        spacing: mm per pixel.
        slices: per heart.
        hearts: how many, the first of the file; 0 for all.
        data: passed to `from_arrays`.

    Raises:
        DataError: no file, other arrays, or a heart that does not fit into the maps.
    """
    if slices < 1 or hearts < 0:
        raise DataError(f"`slices` must be at least 1 and `hearts` at least 0; got {slices} and {hearts}.")
    if not path and not os.environ.get("MEDGEN_DATA"):
        raise DataError("`path` must name an .npz of meshes: --data 'lv_meshes?path=FILE'. Or let MEDGEN_DATA name the data folder.")
    file = Path(path) if path else Path(os.environ["MEDGEN_DATA"]) / _FILE
    positions = (np.arange(slices) + 0.5) / slices
    found = read_ventricles(file)
    if hearts > len(found):
        raise DataError(f"`hearts` must be at most {len(found)}, the number in {file}; got {hearts}.")
    found = found[: hearts or None]
    maps = []
    for number, heart in enumerate(found):
        try:
            maps.append(heart.label_maps(positions, size, spacing))
        except DataError as error:
            raise DataError(f"{file}, heart {number}: {error}") from error
    x = np.concatenate(maps)
    own = {
        "slice_position": np.tile(positions, len(found)),
        "lv_area": (x == 2).sum((1, 2)) * spacing**2,
        "myo_area": (x == 1).sum((1, 2)) * spacing**2,
        "lv_volume": np.repeat([heart.cavity_volume for heart in found], slices),
        "myo_volume": np.repeat([heart.wall_volume for heart in found], slices),
    }
    return from_arrays(
        x,
        attributes=own,
        subjects=[f"{number:05d}" for number in range(len(found)) for _ in range(slices)],
        spacing=(spacing, spacing),
        channel_names=STRUCTURES,
        name="lv_meshes",
        source=str(file),
        **{"content": "labels", **data},
    )
