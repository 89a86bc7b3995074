"""Loading the libraries, once per process, and remembering why not."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import threading
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

from medgen.errors import ConfigError, NativeOpsError, NativeOpsWarning
from medgen.native import extension as plugins
from medgen.native.jit import BuildError, build
from medgen.native.locate import Place, locate
from medgen.native.policy import Device, Policy, policy
from medgen.native.toolchain import ToolchainError

__all__ = ["Outcome", "load", "load_module", "loaded"]


@dataclass(frozen=True)
class Outcome:
    """What became of the native ops of one device.

    Args:
        device: "cpu" or "cuda".
        library: the loaded file, or None.
        origin: "installed", "cache", "built", or "none".
        reason: why there is none; empty where there is.
        seconds: that finding or building it took.
    """

    device: Device
    library: Path | None
    origin: Literal["installed", "cache", "built", "none"]
    reason: str = ""
    seconds: float = 0.0


_outcomes: dict[tuple[Device, str], Outcome] = {}
_modules: dict[str, ModuleType] = {}
_lock = threading.Lock()


def loaded(device: Device, extension: str = "") -> Outcome | None:
    """What is known so far, without trying anything."""
    return _outcomes.get((device, extension))


def load(device: Device, *, extension: str = "", retry: bool = False) -> Outcome:
    """Load the native ops of a device, the first time building them where that is allowed; later calls are a dictionary look-up.

    Args:
        device: "cpu" or "cuda".
        extension: name of a plugin's library; "" for medgen's own.
        retry: build once more what an earlier process failed to build; else that is tried after a day, or when the sources change.

    Raises:
        NativeOpsError: MEDGEN_OPS=native and they cannot be had.
    """
    key = (device, extension)
    if (known := _outcomes.get(key)) is not None:
        return known
    with _lock:
        if key not in _outcomes:
            wanted = policy()
            start = time.monotonic()
            found = _attempt(device, extension, wanted, retry or wanted.ops == "native")
            # an extension may leave a device to its reference: what was never written is not missing
            if found.library is None and wanted.ops == "native" and not (extension and _leaves_out(device, extension)):
                title, verb = _title(device, extension)
                raise NativeOpsError(f"MEDGEN_OPS=native, but there {verb} no {title}: {found.reason}")
            _outcomes[key] = Outcome(device, found.library, found.origin, found.reason, time.monotonic() - start)
    return _outcomes[key]


def load_module(extension: str) -> ModuleType | None:
    """The Python module that a plugin's extension of kind "module" builds, or None where its Python reference has to run.

    Found, built and remembered like a library of ops, by the same environment variables; `loaded("cpu", extension).reason` says why there
    is none.

    Args:
        extension: name that the plugin declares by `medgen_extensions`; also that of the module.

    Raises:
        NativeOpsError: MEDGEN_OPS=native and it cannot be had.
        ConfigError: the extension is one of ops.
    """
    if load("cpu", extension=extension).library is None:
        return None
    if extension not in _modules:
        raise ConfigError(
            f"extension {extension!r} must be of kind 'module' to be imported; it declares ops, which medgen.ops.OpLibrary loads."
        )
    return _modules[extension]


def _title(device: Device, extension: str) -> tuple[str, str]:
    """What it is called in messages, and the verb that goes with it."""
    if extension and _is_module(extension):
        return f"native module of extension {extension!r}", "is"
    return f"native {device} ops" + (f" of extension {extension!r}" if extension else ""), "are"


def _is_module(name: str) -> bool:
    try:
        return plugins.extension(name).kind == "module"
    except ToolchainError:
        return False


def _leaves_out(device: Device, name: str) -> bool:
    try:
        return not plugins.extension(name).has(device)
    except ToolchainError:
        return False


def _attempt(device: Device, extension: str, wanted: Policy, retry: bool) -> Outcome:
    place = locate(device, wanted, extension=extension)
    problem = ""
    if place.state == "installed":
        if not (problem := _open(place, extension)):
            return Outcome(device, place.library, "installed")
        place = locate(device, wanted, extension=extension, installed=False)
    built = place.state == "buildable" or (place.state == "failed" and retry and wanted.jit)
    if built:
        place = _build(place, wanted)
    if place.library and not (problem := _open(place, extension)):
        return Outcome(device, place.library, "built" if built else "cache")
    # No compiler or no GPU toolkit is the ordinary case; what should have worked deserves a word, once.
    if (built or problem) and wanted.ops != "native":
        title, verb = _title(device, extension)
        reference = "Python" if place.kind == "module" else "PyTorch"
        text = f"medgen: the {title} {verb} not to be had, the {reference} reference runs. Why: medgen doctor"
        warnings.warn(text, NativeOpsWarning, stacklevel=4)
    return Outcome(device, None, "none", "; ".join(filter(None, (problem, place.reason))))


def _build(place: Place, wanted: Policy) -> Place:
    assert place.plan is not None
    try:
        return Place(place.device, "cache", build(place.plan, wanted.cache), kind=place.kind)
    except BuildError as error:
        return Place(place.device, "failed", reason=str(error), kind=place.kind)


def _open(place: Place, extension: str) -> str:
    """Load the file; returns what is wrong with it."""
    if place.kind == "module":
        return _import(extension, str(place.library))
    import torch  # here only: finding a library needs none

    try:
        torch.ops.load_library(place.library)
    except (OSError, RuntimeError) as error:
        return f"{place.library} cannot be loaded ({error})"
    return ""


def _import(name: str, file: str) -> str:
    """Import the file as module `name`; returns what is wrong with it."""
    importer = importlib.machinery.ExtensionFileLoader(name, file)
    spec = importlib.util.spec_from_loader(name, importer)
    assert spec is not None
    try:
        module = importlib.util.module_from_spec(spec)
        importer.exec_module(module)
    except ImportError as error:
        return f"{file} cannot be imported ({error})"
    _modules[name] = module
    return ""
