"""Finding and loading plugins, one by one: a broken plugin is a line in `medgen doctor`, never a broken application.

State of an entry point: discovered -> blocked | import_failed | invalid | hook_failed | ready. A ready plugin may still have rejected items.
"""

from __future__ import annotations

import os
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

__all__ = ["Declared", "Host", "PluginStatus", "PluginWarning", "get_host", "refresh"]

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
    items: dict[str, list[Declared]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """For messages: "mine (medgen-mine 1.0)"."""
        return f"{self.name} ({self.distribution} {self.version})"

    def fail(self, state: State, error: BaseException) -> None:
        """Record the failure, with its traceback for `medgen doctor`."""
        self.state = state
        self.reason = f"{type(error).__name__}: {error}"
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
        found = metadata.entry_points(group="medgen") if entry_points is None else entry_points
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

    def items(self, hook: str) -> list[Declared]:
        """Every accepted item of one hook, e.g. "medgen_families"."""
        return [item for status in self.plugins for item in status.items.get(hook, ())]

    def _load(self, entry: metadata.EntryPoint, status: PluginStatus) -> None:
        torch_was_loaded = "torch" in sys.modules
        try:
            plugin = entry.load()
        except Exception as error:  # any third-party failure
            return self._failed(status, "import_failed", error)
        if "torch" in sys.modules and not torch_was_loaded:
            status.notes.append("its plugin module imports torch, which slows every `medgen list`; import torch in the model's module")
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
        return None

    def _collect(self, plugin: Any, status: PluginStatus) -> None:
        others = [p for p in self._manager.get_plugins() if p is not plugin]
        status.state = "ready"
        for hook, kind in hookspecs.HOOKS.items():
            accepted = status.items.setdefault(hook, [])
            try:
                caller = self._manager.subset_hook_caller(hook, remove_plugins=others)
                results = [item for result in caller() for item in result]
            except Exception as error:
                self._failed(status, "hook_failed", error)
                continue
            for item in results:
                problem = _problem(item, kind, accepted)
                if problem:
                    self._rejected(status, f"{hook}: {problem}")
                else:
                    accepted.append(Declared(item, status.distribution, status.version))
        if status.state != "ready":  # what a half-broken plugin did declare is not trusted
            status.items.clear()

    def _failed(self, status: PluginStatus, state: State, error: Exception) -> None:
        status.fail(state, error)
        if self.strict:
            raise PluginError(f"plugin {status.title} failed ({state}): {status.reason}") from error
        _warn(f"medgen: plugin {status.title} is left out: {status.reason}. Traceback: medgen doctor {status.name}")

    def _rejected(self, status: PluginStatus, problem: str) -> None:
        status.rejected.append(problem)
        if self.strict:
            raise PluginError(f"plugin {status.title}: {problem}")
        _warn(f"medgen: an item of plugin {status.title} is left out: {problem}")


def _problem(item: Any, kind: type, accepted: list[Declared]) -> str:
    if not isinstance(item, kind):
        return f"an item must be a {kind.__name__}; got {item!r}"
    if item.api_version > API_VERSION:  # type: ignore[attr-defined]
        return (
            f"{item.name!r} needs plugin API {item.api_version}, this medgen has {API_VERSION}; upgrade medgen"  # type: ignore[attr-defined]
        )
    if any(item.name == other.spec.name for other in accepted):  # type: ignore[attr-defined]
        return f"{item.name!r} is declared twice by the same plugin"  # type: ignore[attr-defined]
    return ""


def _distribution(entry: metadata.EntryPoint) -> tuple[str, str]:
    dist = entry.dist
    return (dist.name, dist.version) if dist is not None else ("(no distribution)", "0")


def _blocked(status: PluginStatus, allow: tuple[str, ...], block: tuple[str, ...]) -> str:
    def matches(patterns: tuple[str, ...]) -> bool:
        return any(fnmatchcase(name, pattern) for name in (status.name, status.distribution) for pattern in patterns)

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
    allow = _names("MEDGEN_PLUGINS")
    return Host(
        allow=(*allow, "medgen") if allow else (),
        block=_names("MEDGEN_PLUGINS_BLOCK"),
        strict=os.environ.get("MEDGEN_PLUGINS_STRICT", "") not in ("", "0"),
    )


def refresh() -> None:
    """Forget what was discovered; the next use looks again (after installing a plugin in a running process)."""
    get_host.cache_clear()


def _names(variable: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in os.environ.get(variable, "").split(",") if name.strip())
