"""Every verb that a model has, called with the same input: for laws that hold whatever the verb."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from medgen.interfaces import Condition, DensityModel, Generator, Inpainter, LatentModel, Model, Noise, Translator, evaluating
from medgen.testing.subject import Case, Subject

__all__ = ["Inputs", "call", "inputs_of", "known_of", "verbs_of"]

_MASK = 0x3A5C  # noise stream


@dataclass(frozen=True)
class Inputs:
    """What the verbs are called with.

    Args:
        x: [B, C, *S].
        z: [B, *latent_shape], or empty.
        condition: every slot, a translator's "source" among them.
        seed: of the noise of samples 0..B-1.
    """

    x: Tensor
    z: Tensor
    condition: Condition
    seed: int = 0

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: slice) -> Inputs:
        return replace(self, x=self.x[rows], z=self.z[rows], condition=self.condition[rows])

    def to(self, target: torch.device | torch.dtype | str) -> Inputs:
        """Elsewhere, or in another floating type."""
        values = {
            k: v.to(target) if v.is_floating_point() or not isinstance(target, torch.dtype) else v for k, v in self.condition.values.items()
        }
        return replace(self, x=self.x.to(target), z=self.z.to(target), condition=Condition(values))


def inputs_of(subject: Subject, model: Model, case: Case, n: int, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Inputs:
    """Deterministic input for every verb of a model."""
    z = subject.latent(model, n, seed=seed).to(dtype) if isinstance(model, LatentModel) else torch.empty(n, 0)
    slots = {slot.name for slot in model.conditions}  # a configuration may leave some of the case's out
    values = {k: v for k, v in subject.condition(case, n, seed=seed, dtype=dtype).values.items() if k in slots}
    return Inputs(subject.x(case, n, seed=seed, dtype=dtype), z, Condition(values), seed)


def verbs_of(model: Model) -> list[str]:
    """Names of the verbs that a model has."""
    by_class = {
        Generator: ("sample",),
        Inpainter: ("inpaint",),
        DensityModel: ("log_prob",),
        Translator: ("translate",),
        LatentModel: ("encode", "decode"),
    }
    return [verb for interface, verbs in by_class.items() if isinstance(model, interface) for verb in verbs]


def known_of(model: Model, noise: Noise) -> Tensor:
    """A mask in which about half of all positions are known, bool [B, 1, *S]; half of the values of vectors, [B, C]."""
    spec = model.image_spec
    size = (1, *spec.shape) if spec.dim or spec.content == "labels" else spec.size
    return noise.uniform(*size, stream=_MASK) < 0.5


def call(model: Any, verb: str, given: Inputs, *, first: int = 0) -> Tensor:
    """One verb on samples `first`, `first + 1`, ..., without gradients; `encode` gives the mean."""
    noise = Noise(given.seed, torch.arange(first, first + len(given), device=given.x.device))
    with evaluating(model):
        match verb:
            case "sample":
                found = model.sample(len(given), condition=given.condition, noise=noise)
            case "inpaint":
                found = model.inpaint(given.x, known_of(model, noise), condition=given.condition, noise=noise)
            case "log_prob":
                found = model.log_prob(given.x, condition=given.condition, noise=noise)
            case "translate":
                values, present = dict(given.condition.values), given.condition.present
                source = values.pop("source")
                found = model.translate(source, condition=Condition(values, {k: v for k, v in present.items() if k in values}))
            case "encode":
                found = model.encode(given.x, condition=given.condition).mean
            case _:
                found = model.decode(given.z, condition=given.condition)
    assert isinstance(found, Tensor), f"`{verb}` must give a tensor; got {type(found).__name__}."
    return found
