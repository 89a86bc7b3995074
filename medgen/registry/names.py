"""From a name to what was declared under it: wildcards, aliases, qualified names, duplicates, did-you-mean."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from medgen.errors import DuplicateFamilyError, PluginError, UnknownNameError
from medgen.registry.host import Declared, Host, canonical, get_host
from medgen.registry.spec import INTERFACES, LOG_PROBS

__all__ = ["families", "find", "find_family", "list_families", "search", "shortest_names", "suggestion"]

# hook -> (what its items are called, the command that lists them)
_WHAT = {
    "medgen_families": ("family", "medgen list"),
    "medgen_datasets": ("dataset", "medgen list --datasets"),
    "medgen_metrics": ("metric", "medgen list --metrics"),
    "medgen_commands": ("command", "medgen --help"),
    "medgen_extensions": ("extension", "medgen doctor"),
}


def find(hook: str, name: str, host: Host | None = None) -> Declared:
    """The one item of `hook` called `name`: a name, an alias, or `distribution/name`.

    Raises:
        UnknownNameError: nothing has the name; close ones are offered.
        DuplicateFamilyError: several distributions have it.
        PluginError: the plugin that would have it failed to load.
    """
    host = host or get_host()
    items = host.items(hook)
    distribution, slash, bare = name.rpartition("/")
    within = [i for i in items if not slash or i.distribution == canonical(distribution)]
    matches = [i for i in within if bare == i.spec.name] or [i for i in within if bare in getattr(i.spec, "aliases", ())]
    if len(matches) == 1:
        return matches[0]
    what, command = _WHAT[hook]
    if matches:
        choices = " or ".join(repr(m.qualified) for m in matches)
        raise DuplicateFamilyError(f"{what} {name!r} is declared by several distributions; say which: {choices}.")
    _raise_if_plugin_failed(hook, name, host)
    known = sorted({n for i in items for n in (i.spec.name, *getattr(i.spec, "aliases", ()))})
    failed = ", ".join(status.title for status in host.plugins if status.failed)
    also = f" It may belong to a plugin that failed to load: {failed}; see `medgen doctor`." if failed else ""
    raise UnknownNameError(f"unknown {what} {name!r}{suggestion(bare, known)} See `{command}`.{also}")


def find_family(name: str, host: Host | None = None) -> Declared:
    """`find` for families."""
    return find("medgen_families", name, host)


def _raise_if_plugin_failed(hook: str, name: str, host: Host) -> None:
    """A family of a plugin that failed is not unknown: say what happened to its plugin."""
    distribution, _, bare = name.rpartition("/")
    what = _WHAT[hook][0]
    for status in host.plugins:
        if distribution and canonical(distribution) != status.distribution:
            continue
        if status.state == "ready":
            rejected = [problem for problem in status.rejected if problem.startswith(f"{hook}: {bare!r} ")]
            if rejected:
                raise PluginError(f"{what} {name!r} was rejected: {rejected[0]} (plugin {status.title}).")
        elif distribution or bare == status.name or bare in status.withheld or bare in re.split(r"\W+", status.module):
            raise PluginError(
                f"{what} {name!r}: its plugin {status.title} is not loaded ({status.state}: {status.reason}). "
                f"See `medgen doctor {status.name}`."
            )


def suggestion(name: str, known: Iterable[str]) -> str:
    """'; did you mean ...?' where something is close, else what there is. Ends the sentence.

    >>> suggestion("vea", ["vae", "glow"])
    "; did you mean 'vae'?"
    """
    known = list(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    if close:
        return f"; did you mean {' or '.join(repr(c) for c in close)}?"
    return f"; there are: {', '.join(known)}." if known else "; none is installed (pip install medgen-autoencoders, for example)."


def families(
    pattern: str = "*",
    *,
    interface: str | None = None,
    spatial_dim: int | None = None,
    log_prob: str | None = None,
    condition: str | None = None,
    host: Host | None = None,
) -> list[Declared]:
    """The declared families that match, in natural order of their names. Arguments as in `list_families`."""
    if interface is not None and interface not in INTERFACES:
        raise UnknownNameError(f"unknown interface {interface!r}{suggestion(interface, INTERFACES)}")
    if log_prob is not None and log_prob not in LOG_PROBS:
        raise UnknownNameError(f"unknown kind of log_prob {log_prob!r}{suggestion(log_prob, LOG_PROBS)}")

    def keep(item: Declared) -> bool:
        spec, can = item.spec, item.spec.capabilities
        return (
            (interface is None or interface in spec.interfaces)
            and (spatial_dim is None or spatial_dim in can.spatial_dims)
            and (log_prob is None or log_prob == can.log_prob)
            and (condition is None or any(condition in (slot.name, slot.kind) for slot in can.conditions))
        )

    return [item for item in search("medgen_families", pattern, host) if keep(item)]


def search(hook: str, pattern: str = "*", host: Host | None = None) -> list[Declared]:
    """The items of `hook` whose name, alias or `distribution/name` matches the shell wildcard, in natural order."""

    def keep(item: Declared) -> bool:
        names = (item.spec.name, item.qualified, *getattr(item.spec, "aliases", ()))
        return any(fnmatchcase(name, pattern) for name in names)

    found = [item for item in (host or get_host()).items(hook) if keep(item)]
    return sorted(found, key=lambda item: (_natural(item.spec.name), item.distribution))


def shortest_names(hook: str, items: Iterable[Declared], host: Host | None = None) -> list[str]:
    """What a user has to type for each item: its name, or `distribution/name` where several distributions declare the name."""
    every = [item.spec.name for item in (host or get_host()).items(hook)]
    return [item.spec.name if every.count(item.spec.name) == 1 else item.qualified for item in items]


def list_families(
    pattern: str = "*",
    *,
    interface: str | None = None,
    spatial_dim: int | None = None,
    log_prob: str | None = None,
    condition: str | None = None,
) -> list[str]:
    """Names of the installed families that match.

    Args:
        pattern: shell wildcard over names, aliases and `distribution/name`.
        interface: "generator", "density", "translator", "latent" or "inpainter".
        spatial_dim: builds for this number of spatial axes.
        log_prob: "exact", "bound", "estimate" or "none".
        condition: accepts a slot of this name or kind.

    A name that two distributions declare is listed in its qualified form.

    >>> "vae" in list_families("*vae", interface="density")
    True
    """
    found = families(pattern, interface=interface, spatial_dim=spatial_dim, log_prob=log_prob, condition=condition)
    return shortest_names("medgen_families", found)


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Sort key under which maf_10 follows maf_5."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", text) if part]
