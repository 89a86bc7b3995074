"""Loading the libraries, once per process, and remembering why not."""

from __future__ import annotations

import threading
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medgen.errors import NativeOpsError, NativeOpsWarning
from medgen.native.jit import BuildError, build
from medgen.native.locate import Place, locate
from medgen.native.policy import Policy, policy
from medgen.native.toolchain import Device

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


_outcomes: dict[Device, Outcome] = {}
_lock = threading.Lock()


def loaded(device: Device) -> Outcome | None:
    """What is known so far, without trying anything."""
    return _outcomes.get(device)


def load(device: Device, *, retry: bool = False) -> Outcome:
    """Load the native ops of a device, the first time building them where that is allowed; later calls are a dictionary look-up.

    Args:
        device: "cpu" or "cuda".
        retry: build once more what an earlier process failed to build; else that is tried after a day, or when the sources change.

    Raises:
        NativeOpsError: MEDGEN_OPS=native and they cannot be had.
    """
    if (known := _outcomes.get(device)) is not None:
        return known
    with _lock:
        if device not in _outcomes:
            wanted = policy()
            start = time.monotonic()
            found = _attempt(device, wanted, retry or wanted.ops == "native")
            if found.library is None and wanted.ops == "native":
                raise NativeOpsError(f"MEDGEN_OPS=native, but there are no native {device} ops: {found.reason}")
            _outcomes[device] = Outcome(device, found.library, found.origin, found.reason, time.monotonic() - start)
    return _outcomes[device]


def _attempt(device: Device, wanted: Policy, retry: bool) -> Outcome:
    place = locate(device, wanted)
    problem = ""
    if place.state == "installed":
        if not (problem := _open(place)):
            return Outcome(device, place.library, "installed")
        place = locate(device, wanted, installed=False)
    built = place.state == "buildable" or (place.state == "failed" and retry and wanted.jit)
    if built:
        place = _build(place, wanted)
    if place.library and not (problem := _open(place)):
        return Outcome(device, place.library, "built" if built else "cache")
    # No compiler or no GPU toolkit is the ordinary case; what should have worked deserves a word, once.
    if (built or problem) and wanted.ops != "native":
        text = f"medgen: the native {device} ops are not to be had, the PyTorch reference runs. Why: medgen doctor"
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
