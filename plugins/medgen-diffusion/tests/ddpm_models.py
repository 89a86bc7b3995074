"""Small `ddpm` models with random weights, their batches and steps."""

from __future__ import annotations

import torch

import medgen
from medgen.interfaces import Batch, Condition, Noise, Step
from medgen.registry import ConditionSpec
from medgen.testing.subject import perturb

LABEL = ConditionSpec(name="label", kind="label", names=("a", "b"))
TINY = {"width": 8, "multipliers": [1, 2], "steps": 8}
SHAPES = {0: (), 1: (13,), 2: (9, 12), 3: (5, 6, 7)}


def spec_of(dim, channels=2):
    return medgen.ImageSpec(channels=channels, shape=SHAPES[dim], content="intensity" if dim else "features")


def random_model(dim=2, conditions=(), **config):
    model = medgen.create("ddpm", spec_of(dim), conditions, **{**TINY, **config}).eval()
    perturb(model)
    return model


def batch_of(model, n, seed=0):
    noise = Noise.of(seed, range(n))
    x = noise.uniform(*model.image_spec.size)
    values = {"label": noise.integers(2, stream=1)} if model.conditions else {}
    return model.select(Batch(x, Condition(values), torch.arange(n)))


def step_of(n, number=0):
    return Step(number, 100, Noise.of(100 + number, range(n)))
