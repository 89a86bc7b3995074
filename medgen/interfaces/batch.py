"""`Batch`: what a model trains on; `Step`: where the training is."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from medgen.interfaces.condition import Condition
from medgen.interfaces.noise import Noise

__all__ = ["Batch", "Step"]


@dataclass(frozen=True)
class Batch:
    """B training samples.

    Args:
        x: what the model learns, [B, C, *S], in model units.
        condition: the slots that the model takes; for translators the source image is slot "source".
        index: number of each sample in the dataset, int64 [B].
        targets: the slots that only the training sees, as in `Capabilities.targets`.
    """

    x: Tensor
    condition: Condition = field(default_factory=Condition)
    index: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    targets: Condition = field(default_factory=Condition)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: slice) -> Batch:
        return Batch(self.x[rows], self.condition[rows], self.index[rows], self.targets[rows])

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        return Batch(self.x.to(device, non_blocking=True), self.condition.to(device), self.index.to(device), self.targets.to(device))


@dataclass(frozen=True)
class Step:
    """Where the training is, for losses that need noise or a schedule.

    Args:
        number: optimizer steps done so far.
        total: optimizer steps planned.
        noise: one sample number per row of the batch, never used before in this training; the same rows get the same
            noise however the batch is divided among ranks or micro-batches.
    """

    number: int
    total: int
    noise: Noise

    @property
    def fraction(self) -> float:
        """number / total, in [0, 1]."""
        return min(1.0, self.number / max(1, self.total))
