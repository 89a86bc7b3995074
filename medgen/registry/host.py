"""Finding and loading plugins, one by one: a broken plugin is a line in `medgen doctor`, never a broken application.

State of an entry point: discovered -> blocked | import_failed | invalid | hook_failed | ready. A ready plugin may still have
rejected items.
"""

from __future__ import annotations

import os
import re
import sys
import traceback
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import metadata
from typing import Any, Literal

import pluggy

from medgen.errors import PluginError
from medgen.registry import hookspecs
from medgen.registry.spec import API_VERSION

__all__ = ["Declared", "Host", "PluginStatus", "PluginWarning", "canonical", "get_host", "refresh"]

# What a third party's code may raise: a `sys.exit()` at import is a broken plugin too, but Ctrl-C is the user.
_FOREIGN = (Exception, SystemExit)
_REASON_LENGTH = 400

State = Literal["discovered", "blocked", "import_failed", "invalid", "hook_failed", "ready"]


class PluginWarning(UserWarning):
    """A plugin, or one item of it, was left out."""


@dataclass(frozen=True)
class Declared:
    """One spec and the distribution that declares it."""

    spec: Any
    distribution: str
    version: str

    @property
    def qualified(self) -> str:
        """`distribution/name`, which is never ambiguous."""
        return f"{self.distribution}/{self.spec.name}"

    @property
    def owner(self) -> str:
        """For messages: "'vae' of medgen-autoencoders 0.1.0"."""
        return f"{self.spec.name!r} of {self.distribution} {self.version}"


@dataclass
class PluginStatus:
    """What happened to one entry point."""

    name: str
    distribution: str
    version: str
    module: str
    state: State = "discovered"
    reason: str = ""
    traceback: str = ""
    rejected: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    withheld: list[str] = field(default_factory=list)  # names it declared before a hook failed
    items: dict[str, list[Declared]] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether it was tried and is not usable; blocked is not failed."""
        return self.state not in ("ready", "blocked")

    @property
    def title(self) -> str:
        """For messages: "mine (medgen-mine 1.0)"."""
        return f"{self.name} ({self.distribution} {self.version})"

    def fail(self, state: State, error: BaseException) -> None:
        """Record the failure, as one line, with its traceback for `medgen doctor`."""
        self.state = state
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        self.reason = reason if len(reason) <= _REASON_LENGTH else reason[:_REASON_LENGTH] + "..."
        self.traceback = "".join(traceback.format_exception(error))


class Host:
    """Discovers entry points, loads what is allowed, and keeps every spec with its distribution.

    Args:
        entry_points: what to load; by default the installed entry points of group `medgen`.
        allow, block: patterns matched against entry-point and distribution names, before import.
        strict: re-raise the first failure instead of recording it.

    Raises:
        PluginError: `strict` and a plugin failed.
    """

    def __init__(
        self,
        entry_points: Iterable[metadata.EntryPoint] | None = None,
        *,
        allow: Iterable[str] = (),
        block: Iterable[str] = (),
        strict: bool = False,
    ) -> None:
        self.strict = strict
        self.plugins: list[PluginStatus] = []
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        found = _discover() if entry_points is None else entry_points
        allow, block, seen = tuple(allow), tuple(block), set()
        for entry in sorted(found, key=lambda e: (_distribution(e)[0], e.name, e.value)):
            distribution, version = _distribution(entry)
            if (distribution, entry.name, entry.value) in seen:  # one distribution twice on sys.path
                continue
            seen.add((distribution, entry.name, entry.value))
            status = PluginStatus(entry.name, distribution, version, entry.value)
            self.plugins.append(status)
            if reason := _blocked(status, allow, block):
                status.state, status.reason = "blocked", reason
            else:
                self._load(entry, status)

    @classmethod
    def from_environment(cls, *, strict: bool | None = None) -> Host:
        """A host of the installed entry points and the environment variables that `get_host` describes; `strict` overrides its variable."""
        allow = _names("MEDGEN_PLUGINS")
        if strict is None:
            strict = os.environ.get("MEDGEN_PLUGINS_STRICT", "") not in ("", "0")
        return cls(allow=(*allow, "medgen") if allow else (), block=_names("MEDGEN_PLUGINS_BLOCK"), strict=strict)

    def items(self, hook: str) -> list[Declared]:
        """Every accepted item of one hook, e.g. "medgen_families"."""
        return [item for status in self.plugins for item in status.items.get(hook, ())]

    def _load(self, entry: metadata.EntryPoint, status: PluginStatus) -> None:
        torch_was_loaded = "torch" in sys.modules
        try:
            plugin = entry.load()
        except _FOREIGN as error:
            return self._failed(status, "import_failed", error)
        # One pluggy name per entry point: two distributions may choose the same entry-point name.
        name = f"{status.distribution}:{status.name}:{status.module}"
        try:
            self._manager.register(plugin, name=name)
            self._manager.check_pending()
        except Exception as error:
            if self._manager.has_plugin(name):
                self._manager.unregister(name=name)
            return self._failed(status, "invalid", error)
        self._collect(plugin, status)
        if "torch" in sys.modules and not torch_was_loaded:
            status.notes.append("its plugin module imports torch, which slows every `medgen list`; import torch in the model's module")
        if status.state == "ready" and not status.rejected and not any(status.items.values()):
            status.notes.append("it declares nothing: each hook needs @medgen.hookimpl, and must return or yield specs")
        return None

    def _collect(self, plugin: Any, status: PluginStatus) -> None:
        others = [p for p in self._manager.get_plugins() if p is not plugin]
        status.state = "ready"
        for hook, kind in hookspecs.HOOKS.items():
            caller = self._manager.subset_hook_caller(hook, remove_plugins=others)
            declared: list[Any] = []
            try:
                for result in caller():
                    declared.extend(result)  # keeps what came before a failure half-way
            except _FOREIGN as error:
                status.withheld += [item.name for item in declared if isinstance(item, kind)]  # type: ignore[attr-defined]
                self._failed(status, "hook_failed", error)
                continue
            for item in declared:
                if problem := self._problem(item, hook, status):
                    self._rejected(status, f"{hook}: {problem}")
                else:
                    status.items.setdefault(hook, []).append(Declared(item, status.distribution, status.version))
        if status.state != "ready":  # what a half-broken plugin did declare is not trusted
            status.withheld += [item.spec.name for items in status.items.values() for item in items]
            status.items.clear()

    def _problem(self, item: Any, hook: str, status: PluginStatus) -> str:
        kind = hookspecs.HOOKS[hook]
        if not isinstance(item, kind):
            return f"an item must be a {kind.__name__}; got {item!r}"
        if item.api_version > API_VERSION:  # type: ignore[attr-defined]
            return f"{item.name!r} needs plugin API {item.api_version}, this medgen has {API_VERSION}; upgrade medgen"  # type: ignore[attr-defined]
        if any(i.spec.name == item.name and i.distribution == status.distribution for i in self.items(hook)):  # type: ignore[attr-defined]
            return f"{item.name!r} is declared twice by the same distribution"  # type: ignore[attr-defined]
        return ""

    def _failed(self, status: PluginStatus, state: State, error: BaseException) -> None:
        status.fail(state, error)
        if self.strict:
            raise PluginError(f"plugin {status.title} failed ({state}): {status.reason}") from error
        _warn(f"medgen: plugin {status.title} is left out: {status.reason}. Traceback: medgen doctor {status.name}")

    def _rejected(self, status: PluginStatus, problem: str) -> None:
        status.rejected.append(problem)
        if self.strict:
            raise PluginError(f"plugin {status.title}: {problem}")
        _warn(f"medgen: an item of plugin {status.title} is left out: {problem}")


def _discover() -> list[metadata.EntryPoint]:
    """The entry points of group `medgen`, distribution by distribution: unreadable metadata of one must not hide the others."""
    try:
        return list(metadata.entry_points(group="medgen"))
    except Exception:
        found: list[metadata.EntryPoint] = []
        for distribution in metadata.distributions():
            try:
                found += distribution.entry_points.select(group="medgen")
            except Exception as error:
                _warn(f"medgen: the metadata of {distribution.metadata['Name']} cannot be read ({error}); reinstall it")
        return found


def _distribution(entry: metadata.EntryPoint) -> tuple[str, str]:
    dist = entry.dist
    if dist is None:
        return "(no distribution)", "0"
    return canonical(dist.name or "(unnamed)"), dist.version or "0"  # both None where METADATA is lost


def canonical(distribution: str) -> str:
    """Name of a distribution as PEP 503 compares it.

    >>> canonical("Medgen_Mine")
    'medgen-mine'
    """
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _blocked(status: PluginStatus, allow: tuple[str, ...], block: tuple[str, ...]) -> str:
    def matches(patterns: tuple[str, ...]) -> bool:
        return any(fnmatchcase(status.name, p) or fnmatchcase(status.distribution, canonical(p)) for p in patterns)

    if matches(block):
        return "blocked by MEDGEN_PLUGINS_BLOCK"
    if allow and not matches(allow):
        return "not in MEDGEN_PLUGINS"
    return ""


def _warn(message: str) -> None:
    warnings.warn(message, PluginWarning, stacklevel=2)


@lru_cache(maxsize=1)
def get_host() -> Host:
    """The process-wide host, built on first use from the installed entry points and the environment.

    MEDGEN_PLUGINS (only these), MEDGEN_PLUGINS_BLOCK (not these): comma-separated patterns of entry-point or distribution names.
    MEDGEN_PLUGINS_STRICT=1 re-raises the first failure. medgen's own plugin cannot be left out by MEDGEN_PLUGINS.
    """
    return Host.from_environment()


def refresh() -> None:
    """Forget what was discovered; the next use looks again (after installing a plugin in a running process)."""
    get_host.cache_clear()


def _names(variable: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in os.environ.get(variable, "").split(",") if name.strip())
