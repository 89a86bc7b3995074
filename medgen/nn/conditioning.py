"""Any set of condition slots, some missing: `ConditionEmbedding` as one vector, `ConditionImages` as channels beside an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from medgen.errors import ConfigError
from medgen.interfaces import Condition
from medgen.nn.encoder import Encoder
from medgen.nn.units import Units
from medgen.registry import ConditionSpec, ImageSpec

__all__ = ["ConditionEmbedding", "ConditionImages"]


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


class ConditionImages(nn.Module):
    """Image slots of B samples on the grid of the target -> [B, channels, *S], to be concatenated to a network's input.

    Values with bounds are mapped from there to [-1, 1]. A slot that may be missing has one more channel, 1 where it is there; where it is
    not, all its channels are 0, and what stands in its place is never looked at.

    Args:
        specs: the slots; those of other kinds are left to `ConditionEmbedding`.
        shape: S.
        required: slots that are never missing.

    Raises:
        ConfigError: an image slot on another grid.

    >>> from medgen.registry import ImageSpec
    >>> mask = ConditionSpec(name="mask", kind="image", image=ImageSpec(channels=1, shape=(2,)))
    >>> ConditionImages([mask], (2,))(Condition({"mask": torch.tensor([[[0.0, 1.0]]])}), torch.zeros(1, 3, 2))
    tensor([[[-1.,  1.],
             [ 1.,  1.]]])
    """

    def __init__(self, specs: Sequence[ConditionSpec], shape: Sequence[int], *, required: Sequence[str] = ()) -> None:
        super().__init__()
        self.slots = [(spec.name, spec.image) for spec in specs if spec.image is not None]
        self.required = frozenset(required)
        for name, image in self.slots:
            if image.shape != tuple(shape):
                raise ConfigError(f"image condition {name!r} must lie on the grid {tuple(shape)} of the target; got {image.shape}.")

    @property
    def channels(self) -> int:
        """Channels of the result; 0 without image slots."""
        return sum(image.channels + (name not in self.required) for name, image in self.slots)

    def forward(self, condition: Condition, like: Tensor) -> Tensor | None:
        """[B, channels, *S] of the type and batch of `like` [B, C, *S]; None without image slots."""
        parts = [part for name, image in self.slots for part in self._slot(name, image, condition, like)]
        return torch.cat(parts, 1) if parts else None

    def _slot(self, name: str, image: ImageSpec, condition: Condition, like: Tensor) -> list[Tensor]:
        value, optional = condition.values.get(name), name not in self.required
        if value is None:
            return [like.new_zeros(len(like), image.channels + 1, *image.shape)]
        scaled = Units(image).to_net(value.to(like.dtype))
        if not optional:
            return [scaled]
        mask = condition.mask(name).view(-1, *[1] * (value.dim() - 1))
        return [torch.where(mask, scaled, 0.0), mask.to(like.dtype).expand(-1, 1, *image.shape)]


def _embedder(spec: ConditionSpec, width: int) -> nn.Module:
    if spec.kind == "label":
        return nn.Embedding(spec.size, width)
    if spec.image is None:
        return nn.Linear(spec.size, width)
    levels = [min(width, 16 * 2**level) for level in range(3)]
    return Encoder(spec.image.channels, spec.image.shape, levels, width)
