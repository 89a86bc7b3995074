"""Short-axis hearts: label maps and cine-MR-like images whose areas, wall thickness and orientation are known in closed form.

Frame of the heart: u points from the left to the right ventricle, v is u turned towards the anterior wall. All curves are ellipses with
axes u and v: the endocardium (a, b), the epicardium (a + w, b + w) shifted by d along u, and the outer border of the right ventricle,
which is a circle in the frame where the epicardium is the unit circle, so that the crescent has the area of a circle minus a lens.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from medgen.data.phantoms.drawing import Array, Waves, bounded, coverage, ellipsoid_distance, grid, paint, rician

__all__ = ["CLASSES", "STRUCTURES", "CardiacShape", "cardiac_image", "cardiac_label_map", "draw_cardiac"]

CLASSES = ("normal", "dilated", "hypertrophic")
"""Of the subject: normal, dilated cardiomyopathy, hypertrophic cardiomyopathy."""

STRUCTURES = ("background", "RV", "MYO", "LV")
"""Of a label map, in the order of the ACDC challenge."""

# class -> mean and sd of the end-diastolic cavity radius, mean and sd of the wall, range of the septal excess; all mm
_SIZES = {
    "normal": (23.5, 1.8, 8.5, 0.8, (0.0, 1.0)),
    "dilated": (31.0, 2.0, 7.0, 0.7, (0.0, 1.0)),
    "hypertrophic": (20.5, 1.8, 13.0, 1.0, (1.0, 4.0)),
}


@dataclass(frozen=True, kw_only=True)
class CardiacShape:
    """The truth about one short-axis heart; lengths in mm, angles in rad.

    Args:
        disease: one of `CLASSES`.
        centre: of the left cavity, (row, column) from the centre of the image.
        orientation: of the direction u from left to right ventricle; 0 points to the left edge of the image, positive towards the top.
        a, b: semi-axes of the left cavity along u and v.
        wall_thickness: w, mean of the septal and the lateral thickness.
        septal_excess: d; the septum is w + d thick, the lateral wall w - d.
        rv_width: extent of the right ventricle beyond the epicardium, along u.
        rv_radius: of its outer border, in units of the epicardial semi-axes.
        blood, contrast: signal of blood, and blood minus myocardium, on a scale of 0 to 1.

    >>> heart = CardiacShape(disease="normal", centre=(0, 0), orientation=0, a=20, b=20, wall_thickness=10, septal_excess=0,
    ...                      rv_width=20, rv_radius=1, blood=0.8, contrast=0.5)
    >>> round(heart.lv_area, 2), round(heart.myo_area, 2)  # 400 pi, 500 pi
    (1256.64, 1570.8)
    """

    disease: str
    centre: tuple[float, float]
    orientation: float
    a: float
    b: float
    wall_thickness: float
    septal_excess: float
    rv_width: float
    rv_radius: float
    blood: float
    contrast: float

    @property
    def axes(self) -> Array:
        """Rows u and v, as (row, column) directions."""
        s, c = math.sin(self.orientation), math.cos(self.orientation)
        return np.array([[-s, -c], [-c, s]])

    @property
    def epicardium(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Centre and semi-axes of the epicardium."""
        return self._along(self.septal_excess), (self.a + self.wall_thickness, self.b + self.wall_thickness)

    @property
    def rv_border(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Centre and semi-axes of the outer border of the right ventricle."""
        big_a, big_b = self.epicardium[1]
        centre = self._along(self.septal_excess + big_a * self._rv_distance)
        return centre, (big_a * self.rv_radius, big_b * self.rv_radius)

    @property
    def lv_area(self) -> float:
        """Of the left cavity, pi a b, in mm^2."""
        return math.pi * self.a * self.b

    @property
    def myo_area(self) -> float:
        """Of the left ventricular myocardium, pi ((a + w)(b + w) - a b), in mm^2."""
        return math.pi * ((self.a + self.wall_thickness) * (self.b + self.wall_thickness) - self.a * self.b)

    @property
    def rv_area(self) -> float:
        """Of the right cavity: (circle minus lens) in the epicardial frame times its area factor, in mm^2."""
        big_a, big_b = self.epicardium[1]
        return big_a * big_b * (math.pi * self.rv_radius**2 - _lens(1.0, self.rv_radius, self._rv_distance))

    @property
    def septal_thickness(self) -> float:
        """Wall thickness at the middle of the septum, w + d, in mm."""
        return self.wall_thickness + self.septal_excess

    @property
    def lateral_thickness(self) -> float:
        """Wall thickness opposite the septum, w - d, in mm."""
        return self.wall_thickness - self.septal_excess

    @property
    def _rv_distance(self) -> float:
        return 1.0 + self.rv_width / self.epicardium[1][0] - self.rv_radius

    def _along(self, distance: float) -> tuple[float, float]:
        u = self.axes[0]
        return self.centre[0] + distance * float(u[0]), self.centre[1] + distance * float(u[1])


def _lens(r1: float, r2: float, distance: float) -> float:
    """Area common to two discs."""
    if distance >= r1 + r2:
        return 0.0
    if distance <= abs(r1 - r2):
        return math.pi * min(r1, r2) ** 2
    cos1 = (distance**2 + r1**2 - r2**2) / (2 * distance * r1)
    cos2 = (distance**2 + r2**2 - r1**2) / (2 * distance * r2)
    root = (-distance + r1 + r2) * (distance + r1 - r2) * (distance - r1 + r2) * (distance + r1 + r2)
    return r1**2 * math.acos(cos1) + r2**2 * math.acos(cos2) - 0.5 * math.sqrt(root)


def draw_cardiac(rng: np.random.Generator, disease: Literal["normal", "dilated", "hypertrophic"] | None = None) -> CardiacShape:
    """A random heart at end-diastole; the disease is drawn, each with probability 1/3, unless given."""
    drawn = CLASSES[int(rng.integers(3))]
    radius, radius_sd, wall, wall_sd, excess = _SIZES[disease or drawn]
    r = bounded(rng, radius, radius_sd)
    flattening = math.sqrt(rng.uniform(1.05, 1.2))
    orientation = bounded(rng, 0.35, 0.18)
    u = np.array([-math.sin(orientation), -math.cos(orientation)])
    # The left cavity lies away from the right ventricle, so that the heart as a whole is in the middle.
    row, column = -15.0 * u + rng.normal(0.0, 2.0, 2)
    return CardiacShape(
        disease=disease or drawn,
        centre=(float(row), float(column)),
        orientation=orientation,
        a=r / flattening,
        b=r * flattening,
        wall_thickness=bounded(rng, wall, wall_sd),
        septal_excess=float(rng.uniform(*excess)),
        rv_width=bounded(rng, 21.0, 2.5),
        rv_radius=float(rng.uniform(0.86, 1.0)),
        blood=bounded(rng, 0.8, 0.04),
        contrast=bounded(rng, 0.55, 0.05),
    )


def cardiac_label_map(shape: CardiacShape, size: int, spacing: float) -> NDArray[np.uint8]:
    """Label map [size, size]: each pixel has the structure at its centre, an index into `STRUCTURES`.

    Args:
        shape: the heart.
        size: pixels per side.
        spacing: mm per pixel.
    """
    points, axes = grid((size, size), spacing), shape.axes
    labels = np.zeros((size, size), dtype=np.uint8)
    labels[ellipsoid_distance(points, *shape.rv_border, axes) < 0] = 1
    labels[ellipsoid_distance(points, *shape.epicardium, axes) < 0] = 2
    labels[ellipsoid_distance(points, shape.centre, (shape.a, shape.b), axes) < 0] = 3
    return labels


def cardiac_image(shape: CardiacShape, rng: np.random.Generator, size: int, spacing: float, noise: float = 0.02) -> NDArray[np.float32]:
    """Cine-MR-like image [size, size] in [0, 1]: the heart with papillary muscles among lung, fat, liver, chest wall and aorta.

    Args:
        shape: the heart.
        rng: of texture, surroundings, bias field and noise; the heart itself is given by `shape`.
        size: pixels per side.
        spacing: mm per pixel.
        noise: sigma of the Rician noise.
    """
    points = grid((size, size), spacing)
    image = _surroundings(shape, rng, points, spacing)
    _paint_heart(image, shape, rng, points, spacing)
    texture = 1.0 + 0.04 * Waves.draw(rng, 2, 14.0, 16)(points) + 0.03 * Waves.draw(rng, 2, 6.0, 16)(points)
    bias = np.exp(0.10 * Waves.draw(rng, 2, 220.0, 4)(points))
    blurred = gaussian_filter(image * texture * bias, 0.9 / spacing)  # point spread of about 2 mm
    return np.clip(rician(rng, blurred, noise), 0.0, 1.0).astype(np.float32)


def _surroundings(shape: CardiacShape, rng: np.random.Generator, points: list[Array], spacing: float) -> Array:
    rows, columns = points
    image = np.full(np.broadcast_shapes(rows.shape, columns.shape), 0.06)
    vessels = Waves.draw(rng, 2, 16.0, 16)(points)
    paint(image, 0.15, coverage((1.9 - vessels) * 4.0, spacing))  # lung vessels

    def disc(centre: tuple[float, float], semi: tuple[float, float], jitter: float = 3.0) -> Array:
        moved = tuple(c + bounded(rng, 0.0, jitter) for c in centre)
        return ellipsoid_distance(points, moved, semi)

    paint(image, bounded(rng, 0.36, 0.03), coverage(disc((88.0, -42.0), (44.0, 74.0), 4.0), spacing))  # liver
    thorax = disc((34.0, 8.0), (92.0, 104.0))
    paint(image, 0.30, coverage(-thorax, spacing))  # muscle of the chest wall
    paint(image, bounded(rng, 0.72, 0.04), coverage(bounded(rng, 9.0, 2.0) - thorax, spacing))  # fat under the skin
    aorta = disc((47.0, 47.0), (10.5, 10.5))
    paint(image, 0.25, coverage(aorta - 2.0, spacing))
    paint(image, shape.blood * 0.97, coverage(aorta, spacing))
    outline = np.minimum(
        ellipsoid_distance(points, *shape.rv_border, shape.axes), ellipsoid_distance(points, *shape.epicardium, shape.axes)
    )
    thickness = 4.0 + 2.5 * Waves.draw(rng, 2, 55.0, 8)(points)
    paint(image, bounded(rng, 0.62, 0.04), coverage(outline - thickness, spacing))  # epicardial fat
    return image


def _paint_heart(image: Array, shape: CardiacShape, rng: np.random.Generator, points: list[Array], spacing: float) -> None:
    axes, myocardium = shape.axes, shape.blood - shape.contrast
    rv = ellipsoid_distance(points, *shape.rv_border, axes)
    paint(image, myocardium, coverage(rv - 3.0, spacing))  # free wall
    trabeculae = coverage((1.6 - Waves.draw(rng, 2, 12.0, 16)(points)) * 3.0, spacing) * np.clip(1.0 + rv / 10.0, 0.0, 1.0)
    paint(image, shape.blood * 0.95 - 0.5 * shape.contrast * trabeculae, coverage(rv, spacing))
    paint(image, myocardium, coverage(ellipsoid_distance(points, *shape.epicardium, axes), spacing))
    cavity = coverage(ellipsoid_distance(points, shape.centre, (shape.a, shape.b), axes), spacing)
    paint(image, shape.blood, cavity)
    for angle in (2.3, 4.0):  # papillary muscles, on the lateral side; label maps count them as cavity
        phi = angle + bounded(rng, 0.0, 0.15)
        reach = rng.uniform(0.58, 0.7)
        place = np.array([shape.a * math.cos(phi), shape.b * math.sin(phi)]) * reach @ axes + np.array(shape.centre)
        muscle = ellipsoid_distance(points, place, (bounded(rng, 3.2, 0.5), bounded(rng, 2.6, 0.4)), axes)
        paint(image, myocardium, coverage(muscle, spacing) * cavity * 0.9)
