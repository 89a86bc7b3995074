"""Where the library of a device is, or why there is none, without loading anything: for the loader and for `medgen doctor`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medgen.native import extension as plugins
from medgen.native.jit import cached, failure
from medgen.native.plan import Plan
from medgen.native.policy import Device, Policy
from medgen.native.toolchain import ToolchainError, plan_of, plan_without_compiler

__all__ = ["Place", "locate"]


@dataclass(frozen=True)
class Place:
    """What is known of the native ops of one device before they are loaded.

    Args:
        device: "cpu" or "cuda".
        state: "installed" with the package, in the "cache", "buildable" (the first use of an op builds it), "failed" (its build did,
            lately), or "none".
        library: the file, where there is one.
        reason: why there is none.
        plan: how to build it, where it can be.
        kind: "ops", or a Python "module".
    """

    device: Device
    state: Literal["installed", "cache", "buildable", "failed", "none"]
    library: Path | None = None
    reason: str = ""
    plan: Plan | None = None
    kind: Literal["ops", "module"] = "ops"


def locate(device: Device, wanted: Policy, *, extension: str = "", installed: bool = True) -> Place:
    """Look for the library.

    Args:
        device: "cpu" or "cuda".
        wanted: what the environment asks for.
        extension: name of a plugin's library; "" for medgen's own.
        installed: accept the one that came with the package.
    """
    if wanted.ops == "reference":
        return Place(device, "none", reason="MEDGEN_OPS=reference")
    try:
        plugin = plugins.extension(extension) if extension else None
        if plugin:
            plugin.sources_for(device)
    except ToolchainError as error:
        return Place(device, "none", reason=str(error))
    kind = plugin.kind if plugin else "ops"
    library = plugin.folder / plugin.filename(device) if plugin else Path(__file__).parent / f"libmedgen_{device}.so"
    if installed and library.is_file():
        return Place(device, "installed", library, kind=kind)
    try:
        plan = plan_of(device, wanted, extension=plugin)
    except (ToolchainError, OSError) as error:
        found = _without_compiler(wanted, plugin) if device == "cpu" else None
        return Place(device, "cache", found, kind=kind) if found else Place(device, "none", reason=str(error))
    try:
        found = cached(plan, wanted.cache)
    except OSError as error:
        return Place(device, "none", reason=f"the cache {wanted.cache} cannot be read ({error}); set MEDGEN_CACHE to a folder that can")
    if found:
        return Place(device, "cache", found, plan=plan, kind=kind)
    if reason := failure(plan, wanted.cache):
        return Place(device, "failed", reason=reason, plan=plan, kind=kind)
    if not wanted.jit:
        return Place(device, "none", reason="no built library was found, and MEDGEN_JIT=0 forbids to build one", plan=plan)
    return Place(device, "buildable", plan=plan, kind=kind)


def _without_compiler(wanted: Policy, plugin: plugins.Extension | None) -> Path | None:
    """A library that was built while there was a compiler, as on the nodes of a cluster that have none."""
    try:
        return cached(plan_without_compiler(wanted, plugin), wanted.cache)
    except (ToolchainError, OSError):
        return None
