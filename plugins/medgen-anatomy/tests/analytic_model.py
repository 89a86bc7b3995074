"""A latent model in closed form: a round left ventricle whose four latent values are the areas of its discs and its place."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.distributions import Independent, Normal

from medgen import Config, ImageSpec, Intensity, LatentModel

SIZE, LV, MYO = 64, 2, 1
SPEC = ImageSpec(
    channels=3,
    shape=(SIZE, SIZE),
    content="labels",
    channel_names=("background", "MYO", "LV"),
    intensity=Intensity(low=(0.0, 1.0, 2.0), high=(1.0, 2.0, 3.0), clip=False, dtype="uint8", rule="labels"),
)


def discs(lv_area, heart_area, x, y):
    """Label maps [T, 64, 64] of discs of given areas (pixels) around (x, y)."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    values = np.broadcast_arrays(*(np.asarray(v, float).reshape(-1, 1, 1) for v in (lv_area, heart_area, x, y)))
    distance = math.pi * ((columns - values[2]) ** 2 + (rows - values[3]) ** 2)
    return np.where(distance < values[0], LV, np.where(distance < values[1], MYO, 0)).astype(np.uint8)


def beating(frames=24, *, lv=500.0, swing=150.0, heart=1000.0, phase=0.0, x=31.0, y=32.0, spikes=(), scale=0.64):
    """One cycle of smooth areas; the cavity of the frames `spikes` has `scale` times its area."""
    t = np.arange(frames)
    area = lv + swing * np.cos(2 * math.pi * t / frames + phase)
    area[list(spikes)] *= scale
    sway = np.sin(2 * math.pi * t / frames)
    return discs(area, heart + 0 * t, x + sway, y + 0.5 * sway)


class Discs(LatentModel):
    """z = (LV area, heart area, x, y) / 100."""

    def __init__(self):
        super().__init__(Config(), SPEC)

    def phases(self):
        return ()

    @property
    def latent_shape(self):
        return (4,)

    def _encode(self, x, condition):
        heart = x[:, MYO] + x[:, LV]
        area = heart.sum((1, 2)).clamp(min=1)
        place = torch.arange(SIZE, dtype=x.dtype)
        centre = [(heart.sum(1) * place).sum(1) / area, (heart.sum(2) * place).sum(1) / area]
        mean = torch.stack([x[:, LV].sum((1, 2)), area, *centre], 1) / 100
        return Independent(Normal(mean, 1e-3), 1)

    def _decode(self, z, condition):
        maps = torch.from_numpy(discs(*(100 * z.double().cpu().numpy()).T).astype(np.int64))
        return torch.nn.functional.one_hot(maps, 3).movedim(-1, 1).to(torch.float32)


class RegularisedDiscs(Discs):
    """The same, which says what its latent values stand for."""

    @property
    def attribute_dimensions(self):
        return {"lv_area": 0, "epi_center_x": 2, "epi_center_y": 3}
