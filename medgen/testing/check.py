"""The laws without pytest, for `medgen check`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from medgen.errors import ConfigError, UnknownNameError
from medgen.registry import Declared, families, find_family, suggestion
from medgen.registry.host import canonical
from medgen.testing.law import GROUPS, Law, Outcome, check_law, check_waivers, laws_for
from medgen.testing.subject import Subject

__all__ = ["iter_laws", "run_laws", "subjects_of", "waivers_of"]


def subjects_of(name: str, *, golden: str | Path | None = None) -> list[Subject]:
    """The family called `name`, or every family of the distribution called `name`.

    Raises:
        UnknownNameError: neither exists.
    """
    return [Subject.installed(declared, golden=golden) for declared in _declared(name)]


def _declared(name: str) -> list[Declared]:
    found = [item for item in families() if item.distribution == canonical(name)]
    if found:
        return found
    try:
        return [find_family(name)]
    except UnknownNameError as error:
        raise UnknownNameError(f"{error} Nor is there a distribution with families called {name!r}.") from None


def run_laws(
    name: str | Subject, *, waivers: Mapping[str, str] | None = None, golden: str | Path | None = None, only: str | None = None
) -> list[Outcome]:
    """Every law of a family, or of all families of a distribution.

    Args:
        name: a family, a distribution, or a subject.
        waivers: law -> why it may be broken; strict.
        golden: folder of golden files.
        only: a group of laws, or one law.

    Raises:
        ConfigError: a waiver that waives nothing; an unknown group.
        UnknownNameError: an unknown name.
    """
    subjects = [name] if isinstance(name, Subject) else subjects_of(name, golden=golden)
    return [
        outcome
        for subject, own in zip(subjects, waivers_of(subjects, waivers or {}), strict=True)
        for outcome in iter_laws(subject, waivers=own, only=only)
    ]


def waivers_of(subjects: Sequence[Subject], waivers: Mapping[str, str]) -> list[dict[str, str]]:
    """The waivers that concern each subject: of several families, a waiver concerns those to which its law applies, one at least.

    Raises:
        ConfigError: it concerns none.
    """
    own = [{name: why for name, why in waivers.items() if name in {law.name for law in laws_for(s.spec)}} for s in subjects]
    for subject in subjects[:1]:
        idle = {name: why for name, why in waivers.items() if not any(name in one for one in own)}
        check_waivers(subject.spec, idle, laws_for(subject.spec))
    return own


def iter_laws(subject: Subject, *, waivers: Mapping[str, str], only: str | None = None) -> Iterator[Outcome]:
    """The outcomes of one family, one by one. Arguments and errors as in `run_laws`."""
    laws = laws_for(subject.spec)
    check_waivers(subject.spec, waivers, laws)
    for law in _chosen(laws, only):
        yield check_law(law.name, subject, waivers.get(law.name, ""))


def _chosen(laws: list[Law], only: str | None) -> list[Law]:
    if only is None or only in GROUPS:
        return [law for law in laws if only in (None, law.group)]
    chosen = [law for law in laws if law.name == only]
    if not chosen:
        known = [*GROUPS, *(law.name for law in laws)]
        raise ConfigError(f"`only` must be a group of laws or a law of this family; got {only!r}{suggestion(only, known)}")
    return chosen
