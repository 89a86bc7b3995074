"""What a criterion is, and a set of them: data, without the code that measures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from medgen.errors import ConfigError, UnknownNameError
from medgen_anatomy.reference import MEASURES

__all__ = ["Criteria", "Criterion"]


@dataclass(frozen=True, kw_only=True)
class Criterion:
    """One number of a label map, and the values it may have.

    Args:
        name: such as "holes_in_lv".
        measure: key of `medgen_anatomy.reference.MEASURES`, which says what each is.
        of: the structures whose union is measured.
        other: those it is measured against, for a measure of two.
        limit: the last value that is valid.
        side: whether larger ("above") or smaller ("below") values violate the criterion.
        unit: of the value.
        meaning: one line.
    """

    name: str
    measure: str
    of: tuple[str, ...]
    other: tuple[str, ...] = ()
    limit: float = 0.0
    side: Literal["above", "below"] = "above"
    unit: str = "pixels"
    meaning: str = ""

    def __post_init__(self) -> None:
        if self.measure not in MEASURES:
            raise ConfigError(f"`measure` of criterion {self.name!r} must be one of {', '.join(MEASURES)}; got {self.measure!r}.")
        if not self.of or bool(self.other) != MEASURES[self.measure].pair:
            needed = "`of` and `other`" if MEASURES[self.measure].pair else "`of` alone"
            raise ConfigError(f"criterion {self.name!r} must name the structures in {needed}; got {self.of!r} and {self.other!r}.")
        if self.side not in ("above", "below"):
            raise ConfigError(f"`side` of criterion {self.name!r} must be 'above' or 'below'; got {self.side!r}.")
        if math.isnan(self.limit):
            raise ConfigError(f"`limit` of criterion {self.name!r} must be a number; got nan.")

    @property
    def structures(self) -> tuple[str, ...]:
        """All that it looks at."""
        return (*self.of, *self.other)


@dataclass(frozen=True, kw_only=True)
class Criteria:
    """A set of criteria over named structures. A value like any other: changes make a new set.

    Args:
        name: of the set.
        labels: structure -> its number in the maps; "background" is one of them. A map may hold no other number.
        items: the criteria, in the order of the columns of `measure`.
        missing: whether a criterion whose structure is absent counts as violated ("invalid") or not ("allowed").

    >>> from medgen_anatomy.criteria import mri_criteria
    >>> strict = mri_criteria().with_limits(lv_concavity=2.5)
    >>> strict["lv_concavity"].limit, len(strict.only("holes_in_lv", "holes_in_rv"))
    (2.5, 2)
    """

    name: str
    labels: Mapping[str, int]
    items: tuple[Criterion, ...]
    missing: Literal["invalid", "allowed"] = "invalid"
    _index: Mapping[str, Criterion] = field(init=False, repr=False, compare=False, default_factory=dict)

    def __post_init__(self) -> None:
        numbers = list(self.labels.values())
        if any(isinstance(n, bool) or not isinstance(n, int | np.integer) or not 0 <= n <= 255 for n in numbers):
            raise ConfigError(f"labels of {self.name!r} must be whole numbers from 0 to 255; got {dict(self.labels)}.")
        if len(set(numbers)) < len(numbers) or "background" not in self.labels:
            raise ConfigError(f"labels of {self.name!r} must differ and include 'background'; got {dict(self.labels)}.")
        index = {criterion.name: criterion for criterion in self.items}
        if len(index) < len(self.items) or not self.items:
            raise ConfigError(f"{self.name!r} must have at least one criterion and no name twice; got {[c.name for c in self.items]}.")
        for criterion in self.items:
            if unknown := [s for s in criterion.structures if s not in self.labels]:
                raise ConfigError(
                    f"criterion {criterion.name!r} names the structures {unknown}; {self.name!r} has the labels {sorted(self.labels)}."
                )
        object.__setattr__(self, "labels", MappingProxyType({name: int(n) for name, n in self.labels.items()}))
        object.__setattr__(self, "_index", MappingProxyType(index))

    def __len__(self) -> int:
        return len(self.items)

    def __hash__(self) -> int:
        return hash((self.name, tuple(self.labels.items()), self.items, self.missing))

    def __reduce__(self) -> tuple[Any, ...]:
        return _criteria, (self.name, dict(self.labels), self.items, self.missing)

    def __getitem__(self, name: str) -> Criterion:
        if name not in self._index:
            raise UnknownNameError(f"{self.name!r} has no criterion {name!r}; it has {', '.join(self._index)}.")
        return self._index[name]

    @property
    def names(self) -> tuple[str, ...]:
        """Of the criteria, in order."""
        return tuple(self._index)

    def with_limits(self, **limits: float) -> Criteria:
        """The same set with other limits of some criteria."""
        changed = {name: replace(self[name], limit=float(limit)) for name, limit in limits.items()}
        return replace(self, items=tuple(changed.get(c.name, c) for c in self.items))

    def only(self, *names: str) -> Criteria:
        """Some of the criteria, in the order of the set."""
        chosen = {self[name].name for name in names}
        return replace(self, items=tuple(c for c in self.items if c.name in chosen))

    def without(self, *structures: str) -> Criteria:
        """The criteria that do not look at these structures, which then are not labels of the maps any more."""
        if unknown := [s for s in structures if s not in self.labels or s == "background"]:
            raise UnknownNameError(f"{self.name!r} has no structures {unknown} to leave out; it has {sorted(self.labels)}.")
        items = tuple(c for c in self.items if not set(structures) & set(c.structures))
        return replace(self, labels={s: n for s, n in self.labels.items() if s not in structures}, items=items)


def _criteria(name: str, labels: dict[str, int], items: tuple[Criterion, ...], missing: Any) -> Criteria:
    return Criteria(name=name, labels=labels, items=items, missing=missing)
