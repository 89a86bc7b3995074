"""A model of rings whose validity is known in closed form, and the data of a run that learns such rings."""

from __future__ import annotations

import numpy as np
import torch

import medgen
from medgen.interfaces import LatentModel
from medgen.maths import Delta

SIZE = 41
SPEC = medgen.ImageSpec(channels=3, shape=(SIZE, SIZE), spacing=(1.0, 1.0), content="labels", channel_names=("background", "MYO", "LV"))
_RADIUS = np.hypot(*(np.mgrid[:SIZE, :SIZE] - SIZE // 2))


class RingConfig(medgen.Config):
    """Nothing to choose."""


class Rings(LatentModel):
    """Latent (a, b): a wall of inner radius b around a cavity, which has a hole of radius 5 - a: valid where a >= 5."""

    @property
    def latent_shape(self):
        return (2,)

    def phases(self):
        return []

    def _encode(self, x, condition):
        hole = ((x[:, 0] == 1) & (torch.from_numpy(_RADIUS) < 7)).sum((1, 2))
        a = 5.0 - (hole / np.pi).sqrt()
        b = ((x[:, 2].sum((1, 2)) + hole) / np.pi).sqrt()
        return Delta(torch.stack([a, b], 1))

    def _decode(self, z, condition):
        radius = torch.from_numpy(_RADIUS)[None]
        a, b = z.double()[:, 0, None, None], z.double()[:, 1, None, None]
        cavity = (radius < b) & (radius >= 5.0 - a)
        wall = (radius >= b) & (radius < b + 5)
        return torch.stack([~(cavity | wall), wall, cavity], 1).float()


def rings():
    return Rings(RingConfig(), SPEC)


def ring(a, b):
    """One map [41, 41]."""
    return rings().decode(torch.tensor([[a, b]])).argmax(1)[0].numpy().astype(np.uint8)


def ring_data(count=80, size=24, seed=0):
    """Maps of rings of many radii and places [count, size, size]."""
    rng = np.random.default_rng(seed)
    row, column = np.mgrid[:size, :size]
    out = np.zeros((count, size, size), np.uint8)
    for one in out:
        middle, radius, wall = size / 2 - 0.5 + rng.normal(0, 0.7, 2), rng.uniform(3, 5), rng.uniform(2, 3)
        distance = np.hypot(row - middle[0], column - middle[1])
        one[distance < radius + wall], one[distance < radius] = 1, 2
    return out
