"""A first stage whose latents are known: blocks of 2 pixels per axis become channels, shifted and scaled."""

from __future__ import annotations

import math

import torch
from pydantic import Field

import medgen
from medgen import factory, parts
from medgen.interfaces import LatentModel
from medgen.maths import Delta
from medgen.registry import Declared, find_family


class BlocksConfig(medgen.Config):
    """Of `Blocks`."""

    shift: float = Field(3.0, description="Added to every latent.")


class Blocks(LatentModel):
    """[B, C, *S] <-> [B, C 2^n, *S / 2]."""

    def __init__(self, config, image_spec, conditions=()):
        super().__init__(config, image_spec, conditions)
        self.scale = torch.nn.Parameter(torch.tensor(5.0))

    @property
    def latent_shape(self):
        spec = self.image_spec
        return (spec.channels * 2**spec.dim, *(side // 2 for side in spec.shape))

    def _encode(self, x, condition):
        dim, halves = x.dim() - 2, [side // 2 for side in x.shape[2:]]
        split = x.reshape(*x.shape[:2], *(part for half in halves for part in (half, 2)))
        order = [0, 1, *range(3, 2 * dim + 3, 2), *range(2, 2 * dim + 2, 2)]
        return Delta(self.config.shift + self.scale * split.permute(order).reshape(len(x), -1, *halves))

    def _decode(self, z, condition):
        dim, halves = z.dim() - 2, z.shape[2:]
        split = ((z - self.config.shift) / self.scale).reshape(len(z), -1, *[2] * dim, *halves)
        order = [0, 1, *(axis for k in range(dim) for axis in (2 + dim + k, 2 + k))]
        return split.permute(order).reshape(len(z), -1, *(2 * half for half in halves))

    def phases(self):
        return []


BLOCKS = Declared(
    medgen.FamilySpec(
        name="blocks",
        interfaces=("latent",),
        model="latent_stages:Blocks",
        config="latent_stages:BlocksConfig",
        capabilities=medgen.Capabilities(spatial_dims=(1, 2, 3), training="none"),
    ),
    "tests",
    "1",
)


def install(monkeypatch):
    """Let `blocks` be found by name."""

    def find(name):
        return BLOCKS if name in ("blocks", "tests/blocks") else find_family(name)

    for module in (factory, parts):
        monkeypatch.setattr(module, "find_family", find)


def check_inverse():
    """decode undoes encode."""
    for shape in ((6,), (4, 6), (2, 4, 6)):
        model = Blocks(BlocksConfig(), medgen.ImageSpec(channels=2, shape=shape))
        x = torch.rand(3, 2, *shape)
        z = model.encode(x).mean
        assert tuple(z.shape[1:]) == model.latent_shape
        assert math.prod(model.latent_shape) == x[0].numel()
        torch.testing.assert_close(model.decode(z), x)
