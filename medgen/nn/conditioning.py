"""`ConditionEmbedding`: any set of condition slots, some missing, as one vector."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medgen.interfaces import Condition
from medgen.nn.encoder import Encoder
from medgen.registry import ConditionSpec

__all__ = ["ConditionEmbedding"]


class ConditionEmbedding(nn.Module):
    """Condition of B samples -> [B, size], the concatenation of one embedding per slot.

    A missing slot or a missing value has a learned vector of its own; what stands in its place, -1 or NaN, is never looked at.

    Args:
        specs: the slots.
        width: features per slot.
        required: slots that are never missing, and so have no vector for that case (a parameter that nothing can train).
    """

    def __init__(self, specs: Sequence[ConditionSpec], width: int, *, required: Sequence[str] = ()) -> None:
        super().__init__()
        self.names = [spec.name for spec in specs]
        self.width = width
        self.embed = nn.ModuleDict({spec.name: _embedder(spec, width) for spec in specs})
        self.missing = nn.ParameterDict({spec.name: nn.Parameter(torch.zeros(width)) for spec in specs if spec.name not in required})

    @property
    def size(self) -> int:
        """Features of the embedding; 0 without slots."""
        return self.width * len(self.names)

    def forward(self, condition: Condition, n: int) -> Tensor | None:
        """[n, size], or None without slots."""
        return torch.cat([self._slot(name, condition, n) for name in self.names], 1) if self.names else None

    def _slot(self, name: str, condition: Condition, n: int) -> Tensor:
        value = condition.values.get(name)
        if value is not None and (name not in condition.present or name not in self.missing):
            return self.embed[name](value)
        missing = self.missing[name].expand(n, -1)
        if value is None:
            return missing
        mask = condition.mask(name)
        known = torch.where(mask.view(-1, *[1] * (value.dim() - 1)), value, 0)
        return torch.where(mask[:, None], self.embed[name](known), missing)


def _embedder(spec: ConditionSpec, width: int) -> nn.Module:
    if spec.kind == "label":
        return nn.Embedding(spec.size, width)
    if spec.image is None:
        return nn.Linear(spec.size, width)
    levels = [min(width, 16 * 2**level) for level in range(3)]
    return Encoder(spec.image.channels, spec.image.shape, levels, width)
