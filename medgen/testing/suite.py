"""`FamilySuite`: the laws of one family as a pytest class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from medgen.registry import find_family, require
from medgen.testing.law import LAWS, check_law, check_waivers, laws_for
from medgen.testing.subject import Subject

__all__ = ["FamilySuite"]

_PREFIX = "test_"


class _Guard(type):
    """A law's test cannot be replaced or deleted after the class is made."""

    def __setattr__(cls, name: str, value: Any) -> None:
        _refuse(cls.__name__, name)
        super().__setattr__(name, value)

    def __delattr__(cls, name: str) -> None:
        _refuse(cls.__name__, name)
        super().__delattr__(name)


class FamilySuite(metaclass=_Guard):
    """Every law that the capabilities of a family call for, one test each.

        class TestMine(FamilySuite):
            family = "mine"
            waivers = {"compiles": "its solver loops until it converges"}
            golden = Path(__file__).parent / "golden"

    Tests of one's own may be added; a method or attribute in the place of a law's test is an error. `subject` is for them too.
    """

    family: ClassVar[str] = ""
    """Name of the family; a class without one is a base for others."""

    waivers: ClassVar[Mapping[str, str]] = {}
    """Law -> why the family breaks it. Strict: the law must fail, and the test says so when it no longer does."""

    golden: ClassVar[Path | None] = None
    """Folder of golden files, written by `medgen check NAME --write-golden DIR`."""

    subject: ClassVar[Subject]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for owner in cls.__mro__:
            for name, value in vars(owner).items():
                if not hasattr(value, "__medgen_law__"):
                    _refuse(owner.__name__, name)
        if not cls.family:
            return
        declared = find_family(cls.family)
        laws = laws_for(declared.spec)
        check_waivers(declared.spec, cls.waivers, laws)
        cls.subject = Subject.installed(declared, golden=cls.golden)
        for name in LAWS:  # a base class may have been of a family that keeps more laws
            if name not in {law.name for law in laws} and hasattr(cls, _PREFIX + name):
                raise TypeError(
                    f"{cls.__name__} is of family {cls.family!r}, its base of one with the law {name!r}; derive from FamilySuite."
                )
        for law in laws:
            type.__setattr__(cls, _PREFIX + law.name, _test(law.name, law.summary))


def _test(name: str, summary: str) -> Callable[[FamilySuite], None]:
    def test(self: FamilySuite) -> None:
        __tracebackhide__ = True
        outcome = check_law(name, self.subject, self.waivers.get(name, ""))
        pytest = require("pytest", "testing")
        if outcome.state == "skipped":
            pytest.skip(outcome.reason)
        if outcome.state == "waived":
            pytest.xfail(outcome.reason)
        if outcome.state == "failed":
            raise AssertionError(f"{self.family} breaks the law {name!r} ({summary}): {outcome.reason}") from outcome.error

    test.__name__ = _PREFIX + name
    test.__doc__ = summary
    test.__medgen_law__ = name  # type: ignore[attr-defined]
    return test


def _refuse(owner: str, attribute: str) -> None:
    if attribute.startswith(_PREFIX) and attribute.removeprefix(_PREFIX) in LAWS:
        law = attribute.removeprefix(_PREFIX)
        raise TypeError(
            f"{owner}.{attribute} would replace or remove the law {law!r}; waive it with a reason instead: waivers = {{{law!r}: ...}}."
        )
