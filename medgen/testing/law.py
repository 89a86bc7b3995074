"""`Law`: one sentence that every family of a kind must keep, as a function that raises where it does not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from medgen.errors import ConfigError
from medgen.registry import FamilySpec, suggestion

if TYPE_CHECKING:
    from medgen.testing.subject import Subject

__all__ = ["GROUPS", "LAWS", "Law", "Outcome", "SkipLaw", "check_law", "check_waivers", "law", "laws_for"]

GROUPS = (
    "plugin",
    "config",
    "sampling",
    "inpainting",
    "density",
    "flow",
    "translation",
    "training",
    "persistence",
    "numerics",
    "integration",
)

Check = Callable[["Subject"], None]


class SkipLaw(Exception):  # noqa: N818 (not an error)
    """Raised by a law that cannot be judged here, with the reason: no CUDA device, no golden folder."""


@dataclass(frozen=True)
class Law:
    """A law.

    Args:
        name: unique; its test is called `test_<name>`.
        group: one of `GROUPS`.
        summary: what holds, in one line.
        check: raises AssertionError, with what was expected and what came; any other exception is a failure too.
        applies: whether a family with these capabilities must keep it.
    """

    name: str
    group: str
    summary: str
    check: Check
    applies: Callable[[FamilySpec], bool]


LAWS: dict[str, Law] = {}
"""Every law by name."""


def law(group: str, *, applies: Callable[[FamilySpec], bool] = lambda _: True) -> Callable[[Check], Check]:
    """Register a function `(subject) -> None` as the law of its name; the first line of its docstring is the summary."""

    def register(check: Check) -> Check:
        name, lines = check.__name__, (check.__doc__ or "").strip().splitlines()
        if group not in GROUPS:
            raise ConfigError(f"`group` of law {name!r} must be one of {GROUPS}; got {group!r}.")
        if not lines:
            raise ConfigError(f"law {name!r} must have a docstring that says what holds.")
        if name in LAWS:
            raise ConfigError(f"there are two laws called {name!r}.")
        LAWS[name] = Law(name, group, lines[0].rstrip("."), check, applies)
        return check

    return register


def laws_for(spec: FamilySpec) -> list[Law]:
    """The laws that the declared capabilities of a family call for, group by group."""
    return sorted((law for law in LAWS.values() if law.applies(spec)), key=lambda law: GROUPS.index(law.group))


@dataclass(frozen=True)
class Outcome:
    """What became of one law.

    Args:
        law: the law.
        state: "waived" where it failed as its waiver says; a law that passes in spite of a waiver has "failed".
        reason: why, in words; empty where it passed.
        seconds: how long it took.
        error: what it raised.
    """

    law: Law
    state: Literal["passed", "failed", "waived", "skipped"]
    reason: str = ""
    seconds: float = 0.0
    error: Exception | None = None


def check_law(name: str, subject: Subject, waiver: str = "") -> Outcome:
    """Check one law.

    Args:
        name: of the law; it need not apply to the family.
        subject: the family under test.
        waiver: why the family may break it; then it must.

    Raises:
        ConfigError: there is no such law.
    """
    if name not in LAWS:
        raise ConfigError(f"there is no law {name!r}{suggestion(name, LAWS)}")
    found, start = LAWS[name], time.perf_counter()
    try:
        found.check(subject)
    except SkipLaw as skip:
        return Outcome(found, "skipped", str(skip), time.perf_counter() - start)
    except Exception as error:
        seconds = time.perf_counter() - start
        if waiver:
            return Outcome(found, "waived", waiver, seconds, error)
        text = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
        return Outcome(found, "failed", text.strip() or repr(error), seconds, error)
    seconds = time.perf_counter() - start
    if waiver:
        return Outcome(found, "failed", f"it holds: remove the waiver ({waiver!r}).", seconds)
    return Outcome(found, "passed", "", seconds)


def check_waivers(spec: FamilySpec, waivers: Mapping[str, str], laws: Iterable[Law]) -> None:
    """Refuse waivers that waive nothing.

    Raises:
        ConfigError: an unknown law, one that the family need not keep, or no reason.
    """
    applicable = [law.name for law in laws]
    for name, reason in waivers.items():
        if name not in LAWS:
            raise ConfigError(f"a waiver of family {spec.name!r} names no law: {name!r}{suggestion(name, applicable)}")
        if name not in applicable:
            raise ConfigError(f"family {spec.name!r} waives {name!r}, which its capabilities do not call for; remove the waiver.")
        if not isinstance(reason, str) or not reason.strip():
            raise ConfigError(f"the waiver of {name!r} of family {spec.name!r} must say why, in words; got {reason!r}.")
