"""`Condition`: named tensors that steer a model, each of which may be missing for some samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from medgen.errors import ConditionError
from medgen.registry import ConditionSpec

__all__ = ["Condition", "check_condition"]


@dataclass(frozen=True)
class Condition:
    """The conditions of B samples.

    Args:
        values: slot name -> tensor: label int64 [B], attributes float [B, A], image float [B, C, *S]. An absent slot is missing for all.
        present: slot name -> bool [B]; where False the sample's value is missing (its content is ignored). Absent means all present.

    >>> c = Condition({"label": torch.tensor([0, 1, 1])})
    >>> len(c), c[1:].values["label"].tolist()
    (3, [1, 1])
    """

    values: Mapping[str, Tensor] = field(default_factory=dict)
    present: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        sizes = {name: len(value) for name, value in self.values.items()}
        sizes |= {f"present[{name}]": len(value) for name, value in self.present.items()}
        if len(set(sizes.values())) > 1:
            raise ConditionError(f"every slot of a condition must have the same number of samples; got {sizes}.")
        if stray := set(self.present) - set(self.values):
            raise ConditionError(f"`present` must name slots of `values`; got {sorted(stray)}.")

    def __len__(self) -> int:
        return next((len(value) for value in self.values.values()), 0)

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def __getitem__(self, rows: Any) -> Condition:
        """The conditions of some of the samples: a slice, a mask, numbers, or one number."""
        return self._map(lambda value: value[rows : rows + 1 or None] if isinstance(rows, int) else value[rows])

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Condition:
        """The same condition elsewhere; floating slots take `dtype`."""
        return self._map(lambda value: value.to(device, dtype if value.is_floating_point() else None))

    def only(self, names: Iterable[str]) -> Condition:
        """The slots called so, as far as they are here.

        >>> Condition({"label": torch.tensor([0]), "mask": torch.zeros(1, 1, 4)}).only(["label"]).values
        {'label': tensor([0])}
        """
        chosen = set(names)
        return Condition({k: v for k, v in self.values.items() if k in chosen}, {k: v for k, v in self.present.items() if k in chosen})

    def repeat(self, n: int) -> Condition:
        """Each sample n times in a row: [B] -> [B * n]."""
        return self._map(lambda value: value.repeat_interleave(n, 0))

    def mask(self, name: str) -> Tensor:
        """Which samples have slot `name`: bool [B]."""
        value = self.values[name]
        return self.present.get(name, torch.ones(len(value), dtype=torch.bool, device=value.device))

    def _map(self, function: Callable[[Tensor], Tensor]) -> Condition:
        return Condition({k: function(v) for k, v in self.values.items()}, {k: function(v) for k, v in self.present.items()})


def check_condition(condition: Condition | None, specs: Sequence[ConditionSpec], required: Sequence[str], n: int) -> Condition:
    """`condition` if it fits the slots of a model and n samples.

    Raises:
        ConditionError: an unknown or missing slot, a wrong shape, a label out of range, or another number of samples.
    """
    condition = Condition() if condition is None else condition
    known = {spec.name: spec for spec in specs}
    if stray := sorted(set(condition.values) - set(known)):
        raise ConditionError(f"this model takes the conditions {sorted(known) or 'none'}; got {stray}.")
    if missing := sorted(set(required) - set(condition.values)):
        raise ConditionError(f"this model needs the conditions {sorted(required)}; missing: {missing}.")
    if condition.values and len(condition) != n:
        raise ConditionError(f"`condition` must be for {n} samples; got {len(condition)}.")
    for name, value in condition.values.items():
        _check_slot(known[name], value, condition)
        if name in required and not bool(condition.mask(name).all()):
            raise ConditionError(f"condition {name!r} must be present for every sample.")
    return condition


def _check_slot(spec: ConditionSpec, value: Tensor, condition: Condition) -> None:
    if spec.kind == "label":
        if value.dim() != 1 or value.is_floating_point():
            raise ConditionError(f"label {spec.name!r} must be integers [B]; got {value.dtype} {tuple(value.shape)}.")
        used = value[condition.mask(spec.name)]
        if used.numel() and not bool(((used >= 0) & (used < spec.size)).all()):
            names = ", ".join(spec.names)
            raise ConditionError(f"label {spec.name!r} must be in 0..{spec.size - 1} ({names}); got {used.unique().tolist()}.")
        return
    expected = (spec.size,) if spec.image is None else spec.image.size
    if tuple(value.shape[1:]) != expected:
        raise ConditionError(f"condition {spec.name!r} must have shape [B, {', '.join(map(str, expected))}]; got {tuple(value.shape)}.")
    if not value.is_floating_point():
        raise ConditionError(f"condition {spec.name!r} must be floating, in model units; got {value.dtype}.")
