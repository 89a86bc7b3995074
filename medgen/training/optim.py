"""Optimizers and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from medgen.errors import ConfigError
from medgen.interfaces import Phase
from medgen.runs import TrainConfig

__all__ = ["lr_factor", "make_optimizer"]

_OVERRIDES = ("optimizer", "lr", "betas", "weight_decay")


def make_optimizer(phase: Phase, config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer of one phase: the training configuration, with what the phase overrides.

    Raises:
        ConfigError: the phase overrides something unknown.
    """
    if stray := set(phase.optimizer) - set(_OVERRIDES):
        raise ConfigError(f"phase {phase.name!r} may override {_OVERRIDES}; got {sorted(stray)}.")
    chosen: dict[str, Any] = {name: phase.optimizer.get(name, getattr(config, name)) for name in _OVERRIDES}
    parameters = [p for p in phase.parameters if p.requires_grad]
    common = {"lr": chosen["lr"], "weight_decay": chosen["weight_decay"]}
    one_pass = _one_pass(parameters, config.precision)
    match chosen["optimizer"]:
        case "adam":
            return torch.optim.Adam(parameters, betas=tuple(chosen["betas"]), **one_pass, **common)
        case "adamw":
            return torch.optim.AdamW(parameters, betas=tuple(chosen["betas"]), **one_pass, **common)
        case "rmsprop":
            return torch.optim.RMSprop(parameters, foreach=True, **common)
        case "sgd":
            return torch.optim.SGD(parameters, momentum=chosen["betas"][0], foreach=True, **common)
        case unknown:
            raise ConfigError(f"phase {phase.name!r} asks for the optimizer {unknown!r}; use adam, adamw, rmsprop or sgd.")


def _one_pass(parameters: Sequence[Tensor], precision: str) -> dict[str, bool]:
    """Adam's whole update in one kernel where there is one: a quarter of the time of one operation after the other."""
    # A fused step undoes the scale of float16 gradients by itself, too late for clipping.
    fused = precision != "float16" and all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters)
    return {"fused": True} if fused else {"foreach": True}


def lr_factor(step: int, total: int, *, schedule: str, warmup: int) -> float:
    """Factor on the peak learning rate at `step` of `total`: linear warm-up, then constant, half a cosine or a line to 0.

    constant_linear is constant for half of the steps after warm-up and then falls on a line to 0 (CycleGAN).

    >>> [round(lr_factor(s, 100, schedule="cosine", warmup=10), 3) for s in (0, 4, 9, 54, 99)]
    [0.1, 0.5, 1.0, 0.5, 0.0]
    >>> [round(lr_factor(s, 100, schedule="constant_linear", warmup=0), 3) for s in (0, 49, 74, 99)]
    [1.0, 1.0, 0.5, 0.0]
    """
    warmup = min(warmup, total // 10)
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup + 1) / max(1, total - warmup)
    if schedule == "cosine":
        return 0.5 * (1.0 + math.cos(math.pi * progress))
    if schedule == "constant_linear":
        return min(1.0, 2.0 * (1.0 - progress))
    return 1.0 - progress if schedule == "linear" else 1.0
