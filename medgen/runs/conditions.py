"""The condition of sample i when sampling a run: a function of (seed, i), so that any part of a sampling can be repeated."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from medgen.data import Dataset
from medgen.errors import ConditionError, MedgenError
from medgen.interfaces import Condition, Noise
from medgen.registry import ConditionSpec, suggestion
from medgen.runs.run import Run

__all__ = ["ConditionSource"]

_STREAM = 0xC0DE  # of the noise that picks a training sample's condition


class ConditionSource:
    """Conditions for samples i = 0, 1, ...: what the user fixes, and for the rest those of a training sample drawn by (seed, i).

    Args:
        run: its model says which slots there are.
        label: a class by name or number; "cycle" goes through all classes in turn.
        attributes: attribute name -> value in the units of the data.

    Raises:
        ConditionError: no such class or attribute, or the model takes none.
    """

    def __init__(self, run: Run, *, label: str | int | None = None, attributes: Mapping[str, float] | None = None) -> None:
        self._run = run
        self._specs = {spec.name: spec for spec in run.model.conditions}
        self._label = None if label is None else self._class(self._slot("label", "--label"), str(label))
        self._attributes = None if not attributes else self._standardised(self._slot("attributes", "--attributes"), attributes)

    @property
    def text(self) -> str:
        """What the conditions of sample i depend on beside (seed, i), the same however it was asked for."""
        parts = []
        if self._label is not None:
            parts.append("label=" + ("cycle" if self._label < 0 else self._specs["label"].names[self._label]))
        if self._attributes is not None:
            parts.append(f"attributes={self._attributes[0].tolist()}")
        if self._open:
            parts.append(f"{', '.join(sorted(self._open))} of training samples {self._data().fingerprint[:12]}")
        return "; ".join(parts)

    @property
    def _open(self) -> set[str]:
        """Slots that nobody fixed."""
        fixed = {"label": self._label is not None, "attributes": self._attributes is not None}
        return {name for name in self._specs if not fixed.get(name, False)}

    def __call__(self, noise: Noise) -> Condition:
        """The conditions of the samples of `noise`."""
        values = self.fixed(noise)
        if not self._open:
            return Condition(values)
        data = self._data()
        rows = torch.from_numpy(data.splits["train"])
        drawn = data.fetch(rows[noise.integers(len(rows), stream=_STREAM).cpu()]).condition.only(self._open)
        return Condition({**drawn.values, **values}, drawn.present)

    def fixed(self, noise: Noise) -> dict[str, Tensor]:
        """What the user fixed of the conditions of the samples of `noise`."""
        values: dict[str, Tensor] = {}
        if self._label is not None:
            size = self._specs["label"].size
            values["label"] = noise.index % size if self._label < 0 else torch.full_like(noise.index, self._label)
        if self._attributes is not None:
            values["attributes"] = self._attributes.expand(len(noise), -1)
        return values

    def _data(self) -> Dataset:
        try:
            return self._run.dataset
        except MedgenError as error:
            raise ConditionError(
                f"the model takes the conditions {sorted(self._open)}; give them (--label, --attributes), since they cannot be drawn from "
                f"the training data: {error}"
            ) from error

    def _slot(self, name: str, option: str) -> ConditionSpec:
        if name not in self._specs:
            raise ConditionError(f"{option} is for models with the condition {name!r}; this one has {sorted(self._specs) or 'none'}.")
        return self._specs[name]

    @staticmethod
    def _class(spec: ConditionSpec, label: str) -> int:
        if label == "cycle":
            return -1
        if label in spec.names:
            return spec.names.index(label)
        if label.isdigit() and int(label) < spec.size:
            return int(label)
        raise ConditionError(f"there is no class {label!r}{suggestion(label, spec.names)}")

    @staticmethod
    def _standardised(spec: ConditionSpec, given: Mapping[str, float]) -> Tensor:
        if stray := [name for name in given if name not in spec.names]:
            raise ConditionError(f"there is no attribute {stray[0]!r}{suggestion(stray[0], spec.names)}")
        if missing := [name for name in spec.names if name not in given]:
            raise ConditionError(f"--attributes must give every attribute; missing: {missing}.")
        if bad := [name for name, value in given.items() if not math.isfinite(value)]:
            raise ConditionError(f"attribute {bad[0]!r} must be a finite number; got {given[bad[0]]}.")
        raw = torch.tensor([float(given[name]) for name in spec.names])
        mean, sd = torch.tensor(spec.mean or (0.0,) * spec.size), torch.tensor(spec.sd or (1.0,) * spec.size)
        return ((raw - mean) / sd)[None]
