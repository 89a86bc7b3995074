"""From a name to what was declared under it: wildcards, aliases, qualified names, duplicates, did-you-mean."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from medgen.errors import DuplicateFamilyError, PluginError, UnknownNameError
from medgen.registry.host import Declared, Host, get_host
from medgen.registry.spec import INTERFACES

__all__ = ["families", "find", "find_family", "list_families", "suggestion"]

_WHAT = {"medgen_families": "family", "medgen_datasets": "dataset", "medgen_metrics": "metric", "medgen_extensions": "extension"}


def find(hook: str, name: str, host: Host | None = None) -> Declared:
    """The one item of `hook` called `name`: a name, an alias, or `distribution/name`.

    Raises:
        UnknownNameError: nothing has the name; close ones are offered.
        DuplicateFamilyError: several distributions have it.
        PluginError: the plugin that would have it failed to load.
    """
    host = host or get_host()
    items = host.items(hook)
    matches = [i for i in items if name in (i.spec.name, i.qualified)] or [i for i in items if name in getattr(i.spec, "aliases", ())]
    if len(matches) == 1:
        return matches[0]
    what = _WHAT[hook]
    if matches:
        choices = " or ".join(repr(m.qualified) for m in matches)
        raise DuplicateFamilyError(f"{what} {name!r} is declared by several distributions; say which: {choices}.")
    _raise_if_plugin_failed(name, what, host)
    known = sorted({i.spec.name for i in items})
    raise UnknownNameError(f"unknown {what} {name!r}{suggestion(name, known)}. See `medgen list`.")


def find_family(name: str, host: Host | None = None) -> Declared:
    """`find` for families."""
    return find("medgen_families", name, host)


def _raise_if_plugin_failed(name: str, what: str, host: Host) -> None:
    """A family of a plugin that failed is not unknown: say what happened to its plugin."""
    distribution, _, bare = name.rpartition("/")
    for status in host.plugins:
        if status.state == "ready":
            rejected = [problem for problem in status.rejected if repr(bare) in problem]
            if rejected:
                raise PluginError(f"{what} {name!r} was rejected: {rejected[0]} (plugin {status.title}).")
        elif bare == status.name or distribution == status.distribution or bare in re.split(r"\W+", status.module):
            raise PluginError(
                f"{what} {name!r}: its plugin {status.title} is not loaded ({status.state}: {status.reason}). See `medgen doctor {status.name}`."
            )


def suggestion(name: str, known: Iterable[str]) -> str:
    """'; did you mean ...?' where something is close, else what there is.

    >>> suggestion("vea", ["vae", "glow"])
    "; did you mean 'vae'?"
    """
    known = list(known)
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"; did you mean {' or '.join(repr(c) for c in close)}?"
    return f"; there are: {', '.join(known)}" if known else "; none is installed (pip install medgen-autoencoders, for example)"


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

    def keep(item: Declared) -> bool:
        spec, can = item.spec, item.spec.capabilities
        return (
            any(fnmatchcase(name, pattern) for name in (spec.name, item.qualified, *spec.aliases))
            and (interface is None or interface in spec.interfaces)
            and (spatial_dim is None or spatial_dim in can.spatial_dims)
            and (log_prob is None or log_prob == can.log_prob)
            and (condition is None or any(condition in (slot.name, slot.kind) for slot in can.conditions))
        )

    return sorted((i for i in (host or get_host()).items("medgen_families") if keep(i)), key=lambda i: _natural(i.qualified))


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
        interface: "generator", "density", "translator" or "latent".
        spatial_dim: builds for this number of spatial axes.
        log_prob: "exact", "bound", "estimate" or "none".
        condition: accepts a slot of this name or kind.

    A name that two distributions declare is listed in its qualified form.

    >>> "vae" in list_families("*vae", interface="density")
    True
    """
    found = families(pattern, interface=interface, spatial_dim=spatial_dim, log_prob=log_prob, condition=condition)
    every = [i.spec.name for i in get_host().items("medgen_families")]
    names = [i.spec.name if every.count(i.spec.name) == 1 else i.qualified for i in found]
    return sorted(names, key=_natural)


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Sort key under which maf_10 follows maf_5."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", text.rpartition("/")[2]) if part]
