"""Clinical indices of the left ventricle from label volumes at end-diastole (ED) and end-systole (ES)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from medgen.errors import DataError

__all__ = ["MYOCARDIAL_DENSITY", "UNITS", "Indices", "indices", "indices_from", "structure_volume", "wall_thickness"]

MYOCARDIAL_DENSITY = 1.05
"""Of heart muscle, g/ml."""

Array = NDArray[Any]

UNITS = {
    "edv": "ml",
    "esv": "ml",
    "sv": "ml",
    "ef": "%",
    "mass": "g",
    "heart_rate": "/min",
    "co": "ml/min",
    "ci": "l/min/m^2",
    "edv_height": "ml/m",
    "esv_height": "ml/m",
    "sv_height": "ml/m",
    "mass_height": "g/m",
    "edv_bsa": "ml/m^2",
    "esv_bsa": "ml/m^2",
    "sv_bsa": "ml/m^2",
    "mass_bsa": "g/m^2",
    "thickness_mean": "mm",
    "thickness_max": "mm",
}
"""Index -> unit, in the order of a report."""


@dataclass(frozen=True, kw_only=True)
class Indices:
    """The indices of one heart; None where an input is not known.

    Args:
        edv, esv: end-diastolic and end-systolic volume of the cavity, ml.
        sv: stroke volume, EDV - ESV, ml.
        ef: ejection fraction, 100 SV / EDV, %.
        mass: of the myocardium at ED, 1.05 g/ml times its volume, g.
        heart_rate: per minute.
        co, ci: cardiac output SV . HR, ml/min, and CO / BSA / 1000, l/min/m^2.
        edv_height ... mass_height: divided by the body height, per m.
        edv_bsa ... mass_bsa: divided by the body surface area, per m^2.
        thickness_mean, thickness_max: of the wall at ED (see `wall_thickness`), mm.
    """

    edv: float
    esv: float
    sv: float
    ef: float
    mass: float
    heart_rate: float | None = None
    co: float | None = None
    ci: float | None = None
    edv_height: float | None = None
    esv_height: float | None = None
    sv_height: float | None = None
    mass_height: float | None = None
    edv_bsa: float | None = None
    esv_bsa: float | None = None
    sv_bsa: float | None = None
    mass_bsa: float | None = None
    thickness_mean: float | None = None
    thickness_max: float | None = None

    def known(self) -> dict[str, float]:
        """Index -> value, without those that are None."""
        return {name: value for name, value in asdict(self).items() if value is not None}


def indices_from(
    edv: float, esv: float, mass: float, *, heart_rate: float | None = None, height: float | None = None, bsa: float | None = None
) -> Indices:
    """The indices that follow from two volumes in ml and the mass in g.

    Args:
        edv, esv, mass: measured.
        heart_rate: per minute.
        height: of the body, m.
        bsa: body surface area, m^2.

    Raises:
        DataError: a cavity that is empty at ED or larger at ES, or a size that is not positive.

    >>> found = indices_from(edv=119.2, esv=41.7, mass=96, heart_rate=62, height=1.86, bsa=2.02)
    >>> round(found.ef), found.co, round(found.edv_bsa)
    (65, 4805.0, 59)
    """
    for name, value in {"heart_rate": heart_rate, "height": height, "bsa": bsa}.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise DataError(f"`{name}` must be a positive number; got {value}.")
    if height is not None and height > 3:
        raise DataError(f"`height` must be in metres; got {height}.")
    if not edv > 0:
        raise DataError(f"the cavity must not be empty at end-diastole; got {edv:g} ml. Check the label numbers.")
    if esv > edv:
        raise DataError(f"the cavity must not be larger at end-systole ({esv:.1f} ml) than at end-diastole ({edv:.1f} ml); swap them?")
    sv = edv - esv
    co = None if heart_rate is None else sv * heart_rate
    measured = {"edv": edv, "esv": esv, "sv": sv, "mass": mass}
    per_height = {} if height is None else {f"{name}_height": value / height for name, value in measured.items()}
    per_bsa = {} if bsa is None else {f"{name}_bsa": value / bsa for name, value in measured.items()}
    ci = None if co is None or bsa is None else co / bsa / 1000.0
    return Indices(**measured, ef=100.0 * sv / edv, heart_rate=heart_rate, co=co, ci=ci, **per_height, **per_bsa)


def indices(
    ed: Array,
    es: Array,
    spacing: Sequence[float],
    es_spacing: Sequence[float] | None = None,
    *,
    cavity: int = 3,
    myocardium: int = 2,
    heart_rate: float | None = None,
    height: float | None = None,
    bsa: float | None = None,
) -> Indices:
    """Indices from label volumes.

    Args:
        ed, es: integer volumes [X, Y, Z] at end-diastole and end-systole.
        spacing: size of a voxel of `ed` in mm, per axis.
        es_spacing: of `es`; by default the same.
        cavity, myocardium: their label numbers; by default those of the ACDC challenge.
        heart_rate, height, bsa: see `indices_from`.

    Raises:
        DataError: not a label volume, a structure that is missing, or sizes as in `indices_from`.
    """
    if cavity == myocardium:
        raise DataError(f"`cavity` and `myocardium` must be different labels; got {cavity} for both.")
    sizes = [structure_volume(ed, spacing, cavity), structure_volume(es, es_spacing or spacing, cavity)]
    muscle = structure_volume(ed, spacing, myocardium)
    if not sizes[0] or not muscle:
        missing = f"cavity {cavity}" if not sizes[0] else f"myocardium {myocardium}"
        raise DataError(
            f"the volume at end-diastole must hold label {missing}; it holds {np.unique(ed).tolist()[:20]}. Give the right numbers."
        )
    found = indices_from(sizes[0], sizes[1], MYOCARDIAL_DENSITY * muscle, heart_rate=heart_rate, height=height, bsa=bsa)
    thickness = wall_thickness(ed, spacing, cavity=cavity, myocardium=myocardium)
    if not len(thickness):
        return found
    return Indices(**{**asdict(found), "thickness_mean": float(thickness.mean()), "thickness_max": float(thickness.max())})


def structure_volume(labels: Array, spacing: Sequence[float], label: int) -> float:
    """Voxels of `label` times the size of a voxel, in ml.

    >>> structure_volume(np.full((10, 10, 10), 3), (1.0, 1.0, 8.0), 3)
    8.0
    """
    _check(labels, spacing)
    return float((labels == label).sum()) * math.prod(spacing) / 1000.0


def wall_thickness(labels: Array, spacing: Sequence[float], *, cavity: int = 3, myocardium: int = 2) -> Array:
    """Distance from each point of the endocardium to the epicardium, [N] in mm.

    The points are the midpoints between neighbouring voxels of different structures, which are the vertices of marching cubes on a
    binary map. Endocardium: between cavity and myocardium. Epicardium: between myocardium and all else, without the plane in which the
    cavity itself is cut off: that is the base.

    Args:
        labels: integer volume [X, Y, Z].
        spacing: size of a voxel in mm, per axis.
        cavity, myocardium: their label numbers.

    Returns:
        Empty where there is no endocardium or no epicardium.
    """
    _check(labels, spacing)
    kinds = np.pad(np.where(labels == cavity, 2, np.where(labels == myocardium, 1, 0)), 1)
    inner, outer = list[Array](), list[Array]()
    for axis in range(3):
        before, after = np.moveaxis(kinds, axis, 0)[:-1], np.moveaxis(kinds, axis, 0)[1:]
        inner.append(_midpoints((before + after == 3) & (before * after == 2), axis, spacing))
        for one, other in ((before, after), (after, before)):
            base = ((one == 2) & (other == 0)).any((1, 2), keepdims=True)
            outer.append(_midpoints((one == 1) & (other == 0) & ~base, axis, spacing))
    endo, epi = np.concatenate(inner), np.concatenate(outer)
    if not len(endo) or not len(epi):
        return np.empty(0)
    distance: Array = cKDTree(epi).query(endo)[0]
    return distance


def _midpoints(boundary: Array, axis: int, spacing: Sequence[float]) -> Array:
    """Where voxels k and k + 1 along `axis` differ, in mm."""
    index = np.argwhere(boundary).astype(np.float64)
    index[:, 0] += 0.5
    order = np.argsort([axis, *(k for k in range(3) if k != axis)])
    points: Array = index[:, order] * np.asarray(spacing)
    return points


def _check(labels: Array, spacing: Sequence[float]) -> None:
    if labels.ndim != 3 or labels.dtype.kind not in "biu":
        raise DataError(f"label volumes must be integers [X, Y, Z]; got {labels.dtype} of shape {labels.shape}.")
    if len(spacing) != 3 or not all(math.isfinite(s) and s > 0 for s in spacing):
        raise DataError(f"`spacing` must be three positive numbers in mm; got {tuple(spacing)}.")
