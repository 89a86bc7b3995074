"""Meshes whose volumes and sections are known in closed form. The long axis runs from the origin, the base, along -x, with poles and seams
of doubled vertices like those of real models.
"""

from __future__ import annotations

import math

import numpy as np

RINGS, SECTORS = 96, 128


def revolved(x, radius, *, y=1.0, z=1.0):
    """Rings of a surface of revolution around x, in an order from base to apex: vertices [P, 3] and faces."""
    phi = np.linspace(0, 2 * math.pi, SECTORS + 1)  # the seam is doubled
    x, radius = np.asarray(x, dtype=float), np.asarray(radius, dtype=float)
    ring = np.stack([np.zeros_like(phi), y * np.cos(phi), z * np.sin(phi)], 1)
    ring[-1] = ring[0]
    vertices = radius[:, None, None] * ring + np.stack([x, 0 * x, 0 * x], 1)[:, None]
    grid = np.arange(vertices.shape[0] * (SECTORS + 1)).reshape(-1, SECTORS + 1)
    a, b, c, d = grid[:-1, :-1].ravel(), grid[:-1, 1:].ravel(), grid[1:, :-1].ravel(), grid[1:, 1:].ravel()
    return vertices.reshape(-1, 3), np.concatenate([np.stack([a, b, c], 1), np.stack([b, d, c], 1)])


def half_ellipsoid(length, y, z):
    """Open at x = 0, apex at -length; semi-axes y and z at the base. Volume 2/3 pi length y z."""
    theta = np.linspace(0, math.pi / 2, RINGS)
    return revolved(-length * np.sin(theta), np.where(theta < theta[-1], np.cos(theta), 0.0), y=y, z=z)


def ellipsoid(a, b, c):
    """Closed, semi-axes a, b, c along x, y, z. Volume 4/3 pi a b c."""
    theta = np.linspace(0, math.pi, RINGS)
    radius = np.sin(theta)
    radius[[0, -1]] = 0.0
    return revolved(a * np.cos(theta), radius, y=b, z=c)


def cup(length, radius):
    """A cylinder with a flat bottom at -length, open at x = 0. Volume pi radius^2 length."""
    return revolved(np.array([0, -length, -length]), np.array([radius, radius, 0.0]))
