"""Validation losses, the same way each time: averaged weights where there are any, and the same noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from medgen.data import Dataset
from medgen.interfaces import Model, Noise, Phase

__all__ = ["validation_losses"]

_SEED = 0x76616C  # no training noise: training's keys are below 2^63 and its sample numbers count from 0


@torch.no_grad()
def validation_losses(
    fabric: Any, model: Model, phases: Sequence[Phase], dataset: Dataset, *, batch_size: int, number: int, total: int
) -> dict[tuple[str, str], float]:
    """Mean of every loss of `phases` over the validation split, over all ranks.

    Args:
        fabric: launched; its ranks share the batches.
        model: in evaluation mode.
        phases: those whose loss needs no gradients.
        dataset: whose split "val" is used.
        batch_size: per rank.
        number, total: steps done and planned.

    Returns:
        (phase, name) -> value.
    """
    rows, ranks = dataset.splits["val"], fabric.world_size
    sums: dict[tuple[str, str], float] = {}
    for start in range(fabric.global_rank * batch_size, len(rows), ranks * batch_size):
        batch = model.select(dataset.fetch(rows[start : start + batch_size])).to(fabric.device)
        noise = Noise(_SEED, batch.index)
        for phase in phases:
            # Not through the distributed wrapper: ranks may have different numbers of batches.
            with fabric.autocast():
                losses = phase.loss(batch, phase.step(number, total, noise))
            for name, value in losses.items():
                sums[phase.name, name] = sums.get((phase.name, name), 0.0) + value.item() * len(batch)
    if ranks == 1:
        return {key: value / len(rows) for key, value in sums.items()}
    gathered: list[dict[tuple[str, str], float]] = [{} for _ in range(ranks)]
    torch.distributed.all_gather_object(gathered, sums)
    keys = dict.fromkeys(key for part in gathered for key in part)
    return {key: sum(part.get(key, 0.0) for part in gathered) / len(rows) for key in keys}
