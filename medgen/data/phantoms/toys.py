"""Two-dimensional toy densities with exact log-densities: Gaussian mixtures, two moons, the banana; and datasets of
their points.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.special import logsumexp

from medgen.data.arrays import from_arrays
from medgen.data.dataset import Dataset
from medgen.data.phantoms.drawing import Array, check_count, generator
from medgen.errors import DataError
from medgen.registry import Intensity

__all__ = [
    "Banana",
    "GaussianMixture",
    "ToyDensity",
    "TwoMoons",
    "banana",
    "eight_gaussians",
    "gaussians8",
    "gaussians25",
    "twenty_five_gaussians",
    "two_moons",
]

_LOG_2PI = math.log(2.0 * math.pi)


class ToyDensity(ABC):
    """A density on the plane that can be drawn from and evaluated."""

    @abstractmethod
    def _draw(self, rng: np.random.Generator) -> tuple[Array, int]:
        """One point [2] and the number of the component it came from."""

    @abstractmethod
    def log_prob(self, x: Array) -> Array:
        """ln p(x) in nats, [N], of points x [N, 2]."""

    def sample(self, n: int, seed: int = 0) -> Array:
        """n points [n, 2]; point i depends on (seed, i) only."""
        return self.sample_with_component(n, seed)[0]

    def sample_with_component(self, n: int, seed: int = 0) -> tuple[Array, np.ndarray]:
        """n points [n, 2] and the component of each, int64 [n]."""
        check_count(n=n)
        pairs = [self._draw(generator(seed, i)) for i in range(n)]
        return np.array([point for point, _ in pairs]), np.array([component for _, component in pairs], dtype=np.int64)


@dataclass(frozen=True)
class GaussianMixture(ToyDensity):
    """p(x) = 1/K sum_k N(x; mean_k, sd^2 I).

    Args:
        means: K points.
        sd: of each component, along each axis.

    >>> bool(np.isclose(GaussianMixture(((0.0, 0.0),), 1.0).log_prob(np.zeros((1, 2)))[0], -np.log(2 * np.pi)))
    True
    """

    means: tuple[tuple[float, float], ...]
    sd: float

    def __post_init__(self) -> None:
        _check_sd(self.sd)

    def _draw(self, rng: np.random.Generator) -> tuple[Array, int]:
        k = int(rng.integers(len(self.means)))
        return np.array(self.means[k]) + self.sd * rng.standard_normal(2), k

    def log_prob(self, x: Array) -> Array:
        """ln p(x) in nats, [N], exact."""
        return _log_isotropic(x, np.array(self.means), self.sd, np.full(len(self.means), -math.log(len(self.means))))

    def captured(self, x: Array, at_least: int = 1) -> tuple[int, float]:
        """Modes with at least so many points of x [N, 2] within 3 sd, and the share of points within 3 sd of their nearest mean."""
        distance = np.linalg.norm(x[:, None] - np.array(self.means), axis=-1)
        near = distance.min(1) <= 3.0 * self.sd
        counts = np.bincount(distance.argmin(1)[near], minlength=len(self.means))
        return int((counts >= at_least).sum()), float(near.mean())


def eight_gaussians(radius: float = 2.0, sd: float = 0.02) -> GaussianMixture:
    """Eight components on a circle, at angles 2 pi k / 8 (Metz et al., Unrolled Generative Adversarial Networks, 2016).

    The end point 2 pi is left out: with it two of the eight means would coincide.

    >>> len({tuple(np.round(m, 9)) for m in eight_gaussians().means})
    8
    """
    angles = 2.0 * np.pi * np.arange(8) / 8
    return GaussianMixture(tuple((float(radius * np.cos(t)), float(radius * np.sin(t))) for t in angles), sd)


def twenty_five_gaussians(spacing: float = 2.0, sd: float = 0.05, scale: float = 2.828) -> GaussianMixture:
    """A 5 x 5 grid, means {-2..2} * spacing / scale, standard deviation sd / scale, as in the WGAN-GP paper's toy.

    >>> len(set(twenty_five_gaussians().means))
    25
    """
    ticks = [k * spacing / scale for k in range(-2, 3)]
    return GaussianMixture(tuple((a, b) for a in ticks for b in ticks), sd / scale)


@dataclass(frozen=True)
class TwoMoons(ToyDensity):
    """p(x) = 1/2 sum_k 1/pi int_0^pi N(x; c_k(t), sd^2 I) dt, c_0 = (cos t, sin t), c_1 = (1 - cos t, 1/2 - sin t).

    The distribution of scikit-learn's `make_moons`. The integral has no elementary form; it is computed by Gauss-Legendre quadrature with
    nodes closer than sd, whose relative error is below 1e-8 within 6 sd of the moons.

    Args:
        sd: of the noise around the arcs, at least 0.005.
    """

    sd: float = 0.1

    def __post_init__(self) -> None:
        _check_sd(self.sd, 0.005)

    def _draw(self, rng: np.random.Generator) -> tuple[Array, int]:
        moon = int(rng.integers(2))
        centre = _arcs(np.array([rng.uniform(0.0, np.pi)]))[moon, 0]
        return centre + self.sd * rng.standard_normal(2), moon

    def log_prob(self, x: Array) -> Array:
        """ln p(x) in nats, [N], by quadrature as above."""
        nodes, weights = np.polynomial.legendre.leggauss(32 + math.ceil(8.0 / self.sd))
        means = _arcs(0.5 * np.pi * (nodes + 1.0)).reshape(-1, 2)
        log_weights = np.tile(np.log(0.25 * weights), 2)  # 1/2 moon, 1/pi, and the interval's factor pi/2
        return _log_isotropic(x, means, self.sd, log_weights)


def _arcs(t: Array) -> Array:
    """Centres of both moons at angles t [M]: [2, M, 2]."""
    upper = np.stack([np.cos(t), np.sin(t)], axis=-1)
    return np.stack([upper, np.array([1.0, 0.5]) - upper])


@dataclass(frozen=True)
class Banana(ToyDensity):
    """x = (u_1, u_2 - u_1^2 - 1) with u standard normal; ln p(x) = ln N(x_1) + ln N(x_2 + x_1^2 + 1).

    >>> Banana().log_prob(np.array([[0.0, 0.0], [1.0, -2.0]])).round(6).tolist()
    [-2.337877, -2.337877]
    """

    def _draw(self, rng: np.random.Generator) -> tuple[Array, int]:
        u1, u2 = rng.standard_normal(2)
        return np.array([u1, u2 - u1**2 - 1.0]), 0

    def log_prob(self, x: Array) -> Array:
        """ln p(x) in nats, [N], exact."""
        return np.asarray(-_LOG_2PI - 0.5 * (x[:, 0] ** 2 + (x[:, 1] + x[:, 0] ** 2 + 1.0) ** 2))


def _log_isotropic(x: Array, means: Array, sd: float, log_weights: Array) -> Array:
    """ln sum_k w_k N(x; mean_k, sd^2 I), [N], in blocks of bounded memory."""
    result = np.empty(len(x))
    for start in range(0, len(x), 4096):
        block = x[start : start + 4096]
        squares = (block[:, :1] - means[:, 0]) ** 2 + (block[:, 1:] - means[:, 1]) ** 2
        result[start : start + 4096] = logsumexp(log_weights - 0.5 * squares / sd**2, axis=1)
    return result - _LOG_2PI - 2.0 * math.log(sd)


def _check_sd(sd: float, least: float = 0.0) -> None:
    if not (math.isfinite(sd) and sd > 0 and sd >= least):
        raise DataError(f"`sd` must be positive{f' and at least {least}' if least else ''}; got {sd}.")


def gaussians8(*, n: int = 10000, seed: int = 0, radius: float = 2.0, sd: float = 0.02, **data: Any) -> Dataset:
    """Points of `eight_gaussians(radius, sd)`, in the plane's own units; the class is the component."""
    return _toy(eight_gaussians(radius, sd), 8, n, seed, name="gaussians8", data=data)


def gaussians25(*, n: int = 10000, seed: int = 0, sd: float = 0.05, **data: Any) -> Dataset:
    """Points of `twenty_five_gaussians(sd=sd)`, in the plane's own units; the class is the component."""
    return _toy(twenty_five_gaussians(sd=sd), 25, n, seed, name="gaussians25", data=data)


def two_moons(*, n: int = 10000, seed: int = 0, sd: float = 0.1, **data: Any) -> Dataset:
    """Points of `TwoMoons(sd)`, in the plane's own units; the class is the moon."""
    return _toy(TwoMoons(sd), 2, n, seed, name="two_moons", data=data)


def banana(*, n: int = 10000, seed: int = 0, **data: Any) -> Dataset:
    """Points of `Banana()`, in the plane's own units."""
    return _toy(Banana(), 1, n, seed, name="banana", data=data)


def _toy(density: ToyDensity, components: int, n: int, seed: int, *, name: str, data: dict[str, Any]) -> Dataset:
    points, component = density.sample_with_component(n, seed)
    labels = component if components > 1 else None
    names = [str(k) for k in range(components)] if components > 1 else None
    made = from_arrays(points, labels=labels, class_names=names, channel_names=("x1", "x2"), name=name, **{"dim": 0, **data})
    # Tables are standardised; here model units are the plane's own, so that a model's log_prob is that of the formula.
    return replace(made, image_spec=replace(made.image_spec, intensity=Intensity(clip=False, rule="identity")))
