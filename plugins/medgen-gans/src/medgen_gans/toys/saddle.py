"""The saddle min_x max_y xy: why two players who descend at the same time never arrive."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgen.registry import require

__all__ = ["alternating", "draw_saddle", "simultaneous"]

Path = NDArray[np.float64]


def simultaneous(eta: float, steps: int, start: tuple[float, float] = (1.0, 0.0)) -> Path:
    """x <- x - eta y, y <- y + eta x, both from the old values: the norm grows by sqrt(1 + eta^2) at each step. [steps + 1, 2].

    >>> path = simultaneous(0.1, 50)
    >>> bool(np.allclose(np.linalg.norm(path[1:], axis=1) / np.linalg.norm(path[:-1], axis=1), np.sqrt(1.01)))
    True
    """
    return _path(np.array([[1.0, -eta], [eta, 1.0]]), steps, start)


def alternating(eta: float, steps: int, start: tuple[float, float] = (1.0, 0.0)) -> Path:
    """x <- x - eta y, then y <- y + eta x of the new x: x^2 + y^2 - eta x y stays what it was, so that for eta < 2 the path is bounded.

    >>> x, y = alternating(0.5, 10_000).T
    >>> bool(np.allclose(x * x + y * y - 0.5 * x * y, 1.0))
    True
    """
    return _path(np.array([[1.0, -eta], [eta, 1.0 - eta * eta]]), steps, start)


def _path(step: Path, steps: int, start: tuple[float, float]) -> Path:
    path = np.empty((steps + 1, 2))
    path[0] = start
    for number in range(steps):
        path[number + 1] = step @ path[number]
    return path


def draw_saddle(eta: float, steps: int) -> Any:
    """Both paths over the saddle, and their distance from the equilibrium (0, 0): a `matplotlib.figure.Figure`."""
    figure = require("matplotlib.figure", "eval").Figure(figsize=(9, 4), layout="constrained")
    plane, distance = figure.subplots(1, 2)
    paths = {"simultaneous": simultaneous(eta, steps), "alternating": alternating(eta, steps)}
    reach = 1.1 * max(float(np.abs(path).max()) for path in paths.values())
    grid = np.linspace(-reach, reach, 101)
    plane.contourf(grid, grid, grid[None] * grid[:, None], levels=21, cmap="RdBu", alpha=0.35)
    for name, path in paths.items():
        plane.plot(*path.T, ".-", ms=3, lw=0.7, label=name)
        distance.plot(np.linalg.norm(path, axis=1), label=name)
    distance.plot((1 + eta * eta) ** (np.arange(steps + 1) / 2), "k:", label=r"$(1+\eta^2)^{t/2}$")
    plane.set(xlabel="x (minimises xy)", ylabel="y (maximises xy)", aspect="equal", title=f"step {eta:g}")
    distance.set(xlabel="steps t", ylabel="distance from (0, 0)", yscale="log")
    for axes in (plane, distance):
        axes.legend(frameon=False, loc="upper left")
    return figure
