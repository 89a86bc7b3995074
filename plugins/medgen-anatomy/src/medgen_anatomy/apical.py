"""Apical label maps of the left ventricle whose seven attributes are known in closed form.

Frame of the heart: t runs from the middle of the base to the apex, s across. The cavity is |s| <= (w / 2) (1 - (t / L)^p)^(1/p), t >= 0:
half an ellipse where p = 2, more pointed below, squarer above. The epicardium is the same with w + 2 T and L + T, and the myocardium what
lies between; both are cut off at the base.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgen.data import Dataset, from_arrays
from medgen.data.phantoms.drawing import check_count, generator
from medgen_anatomy.attributes import ATTRIBUTES

__all__ = ["ApicalShape", "apical_label_map", "apical_labels", "draw_apical"]

STRUCTURES = ("background", "LV", "MYO", "LA")


@dataclass(frozen=True, kw_only=True)
class ApicalShape:
    """One left ventricle; lengths in pixels.

    Args:
        base: middle of the base, (row, column).
        orientation: of the axis from base to apex to the vertical, in degrees; positive leans to the right.
        width, length: w and L.
        wall: T.
        power: p.

    >>> heart = ApicalShape(base=(200.0, 128.0), orientation=0.0, width=80.0, length=120.0, wall=20.0, power=2.0)
    >>> round(heart.attributes["lv_area"], 2)  # pi 40 120 / 2
    7539.82
    """

    base: tuple[float, float]
    orientation: float
    width: float
    length: float
    wall: float
    power: float

    @property
    def axes(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Directions (row, column) of t and s."""
        s, c = math.sin(math.radians(self.orientation)), math.cos(math.radians(self.orientation))
        return (-c, s), (s, c)

    @property
    def attributes(self) -> dict[str, float]:
        """The truth of `medgen_anatomy.attributes`, in pixels and degrees."""
        p = self.power
        # of the profile (1 - u^p)^(1/p) over [0, 1]: its area, and its first moment
        area = math.gamma(1 + 1 / p) ** 2 / math.gamma(1 + 2 / p)
        moment = math.gamma(2 / p) * math.gamma(1 + 1 / p) / (p * math.gamma(1 + 3 / p))
        inner, outer = self.width * self.length * area, (self.width + 2 * self.wall) * (self.length + self.wall) * area
        along, (up, right) = (self.length + self.wall) * moment / area, self.axes[0]
        values = (
            inner,
            self.width,
            self.length,
            self.orientation,
            outer - inner,
            self.base[1] + along * right,
            self.base[0] + along * up,
        )
        return dict(zip(ATTRIBUTES, values, strict=True))


def draw_apical(rng: np.random.Generator, size: int) -> ApicalShape:
    """A random ventricle that fits in an image of `size` pixels per side."""
    return ApicalShape(
        base=(size * float(rng.uniform(0.76, 0.84)), size * float(rng.uniform(0.42, 0.54))),
        orientation=float(rng.uniform(-8.0, 16.0)),
        width=size * float(rng.uniform(0.20, 0.34)),
        length=size * float(rng.uniform(0.38, 0.54)),
        wall=size * float(rng.uniform(0.06, 0.11)),
        power=float(rng.uniform(1.6, 2.8)),
    )


def apical_label_map(shape: ApicalShape, size: int, *, atrium: bool = False) -> NDArray[np.uint8]:
    """Label map [size, size]: each pixel has the structure at its centre, an index into `STRUCTURES`.

    Args:
        shape: the ventricle.
        size: pixels per side.
        atrium: add the left atrium, half an ellipse below the base.
    """
    rows, columns = np.mgrid[:size, :size]
    down, right = rows - shape.base[0], columns - shape.base[1]
    (t0, t1), (s0, s1) = shape.axes
    t, s = down * t0 + right * t1, np.abs(down * s0 + right * s1)

    def within(half: float, length: float, power: float, along: NDArray[np.float64]) -> NDArray[np.bool_]:
        return (along >= 0) & ((np.maximum(along, 0.0) / length) ** power + (s / half) ** power <= 1.0)

    labels = np.zeros((size, size), dtype=np.uint8)
    if atrium:
        labels[within(0.45 * shape.width, 0.3 * shape.length, 2.0, -t)] = 3
    labels[within(shape.width / 2 + shape.wall, shape.length + shape.wall, shape.power, t)] = 2
    labels[within(shape.width / 2, shape.length, shape.power, t)] = 1
    return labels


def apical_labels(*, n: int = 2000, size: int = 64, seed: int = 0, atrium: bool = False, **data: Any) -> Dataset:
    """Label maps (background, LV, MYO, and LA on request) with the seven attributes of `medgen_anatomy.attributes`.

    Args:
        n: number of maps; map i depends on (seed, i) alone.
        size: pixels per side.
        seed: of all randomness.
        atrium: add the left atrium.
        data: passed to `medgen.data.from_arrays`.
    """
    check_count(n=n, size=size)
    shapes = [draw_apical(generator(seed, i), size) for i in range(n)]
    truths = [shape.attributes for shape in shapes]
    return from_arrays(
        np.stack([apical_label_map(shape, size, atrium=atrium) for shape in shapes]),
        attributes={name: np.array([truth[name] for truth in truths]) for name in ATTRIBUTES},
        channel_names=STRUCTURES if atrium else STRUCTURES[:3],
        name="apical_labels",
        **{"content": "labels", **data},
    )
