"""Loading the libraries, once per process, and remembering why not."""

from __future__ import annotations

import threading
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medgen.errors import NativeOpsError, NativeOpsWarning
from medgen.native import extension as plugins
from medgen.native.jit import BuildError, build
from medgen.native.locate import Place, locate
from medgen.native.policy import Device, Policy, policy
from medgen.native.toolchain import ToolchainError

__all__ = ["Outcome", "load", "loaded"]


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
                raise NativeOpsError(f"MEDGEN_OPS=native, but there are no native {_title(device, extension)}: {found.reason}")
            _outcomes[key] = Outcome(device, found.library, found.origin, found.reason, time.monotonic() - start)
    return _outcomes[key]


def _title(device: Device, extension: str) -> str:
    return f"{device} ops" + (f" of extension {extension!r}" if extension else "")


def _leaves_out(device: Device, name: str) -> bool:
    try:
        return not plugins.extension(name).has(device)
    except ToolchainError:
        return False


def _attempt(device: Device, extension: str, wanted: Policy, retry: bool) -> Outcome:
    place = locate(device, wanted, extension=extension)
    problem = ""
    if place.state == "installed":
        if not (problem := _open(place)):
            return Outcome(device, place.library, "installed")
        place = locate(device, wanted, extension=extension, installed=False)
    built = place.state == "buildable" or (place.state == "failed" and retry and wanted.jit)
    if built:
        place = _build(place, wanted)
    if place.library and not (problem := _open(place)):
        return Outcome(device, place.library, "built" if built else "cache")
    # No compiler or no GPU toolkit is the ordinary case; what should have worked deserves a word, once.
    if (built or problem) and wanted.ops != "native":
        text = f"medgen: the native {_title(device, extension)} are not to be had, the PyTorch reference runs. Why: medgen doctor"
        warnings.warn(text, NativeOpsWarning, stacklevel=4)
    return Outcome(device, None, "none", "; ".join(filter(None, (problem, place.reason))))


def _build(place: Place, wanted: Policy) -> Place:
    assert place.plan is not None
    try:
        return Place(place.device, "cache", build(place.plan, wanted.cache))
    except BuildError as error:
        return Place(place.device, "failed", reason=str(error))


def _open(place: Place) -> str:
    """Load the file; returns what is wrong with it."""
    import torch  # here only: finding a library needs none

    try:
        torch.ops.load_library(place.library)
    except (OSError, RuntimeError) as error:
        return f"{place.library} cannot be loaded ({error})"
    return ""
