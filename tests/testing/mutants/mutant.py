"""`Sound`: a small family that keeps every law; `Mutant`: the same with one fault, and the laws that must notice."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from medgen.interfaces import Model
from medgen.registry import Capabilities, FamilySpec, Reference
from medgen.testing import Subject, laws_for

C = TypeVar("C", bound=type)

OF_CONFIG_ALONE = frozenset(
    {
        "import_is_torch_free",
        "tiny_is_valid",
        "defaults_are_valid",
        "config_round_trip",
        "unknown_keys_are_refused",
        "values_out_of_range_are_refused",
    }
)
"""Laws that look at the configuration and the plugin module only: those of a mutant with its parent's need no second look."""

DEAR = frozenset({"compiles"})
"""Laws that take a second: checked for the mutants that must fail them, and for sound families."""


@dataclass(frozen=True)
class Mutant:
    """A family with one fault.

    Args:
        spec: the family.
        fault: in words.
        fails: names of the laws that must fail; every other law that applies must hold.
        parent: the sound family.
    """

    spec: FamilySpec
    fault: str
    fails: frozenset[str]
    parent: FamilySpec

    def subject(self, golden: Path) -> Subject:
        """The family under test; a newer version of its parent, which has the parent's name, must keep the parent's golden file."""
        return Subject(self.spec, golden=golden if self.spec.name == self.parent.name else None)

    def laws(self) -> list[str]:
        """The laws to check."""
        same = (self.spec.config, self.spec.tiny) == (self.parent.config, self.parent.tiny)
        left_out = (OF_CONFIG_ALONE if same else frozenset()) | (DEAR - self.fails)
        return [law.name for law in laws_for(self.spec) if law.name not in left_out]


@dataclass
class Sound:
    """A family without a known fault, and its mutants."""

    spec: FamilySpec
    mutants: list[Mutant] = field(default_factory=list)

    @classmethod
    def of(cls, model: type[Model], interfaces: tuple[str, ...], config: type, tiny: dict[str, Any], **capabilities: Any) -> Sound:
        """The family of a class in this package."""
        return cls(
            FamilySpec(
                name=_snake(model.__name__),
                interfaces=interfaces,
                model=_target(model),
                config=_target(config),
                capabilities=Capabilities(**capabilities),
                tiny=tiny,
                summary=str(model.__doc__).splitlines()[0],
                references=(Reference(title="Auto-Encoding Variational Bayes", authors="D. P. Kingma, M. Welling", year=2014),),
            )
        )

    def mutant(self, *fails: str, can: dict[str, Any] | None = None, config: type | None = None, **changes: Any) -> Callable[[C], C]:
        """Declare a class, or a change of the spec, as a mutant. Its docstring says what is wrong.

        Args:
            fails: the laws that notice.
            can: changed capabilities.
            config: another configuration.
            changes: of other parts of the spec.
        """

        def register(model: C) -> C:
            capabilities = replace(self.spec.capabilities, **(can or {}))
            targets = {"model": _target(model), "config": self.spec.config if config is None else _target(config)}
            spec = replace(self.spec, **{"name": _snake(model.__name__), "capabilities": capabilities, **targets, **changes})
            self.mutants.append(Mutant(spec, str(model.__doc__), frozenset(fails), self.spec))
            return model

        return register

    def laws(self) -> Iterator[str]:
        """The laws to keep."""
        return (law.name for law in laws_for(self.spec))


def _target(found: type) -> str:
    return f"{found.__module__}:{found.__qualname__}"


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
