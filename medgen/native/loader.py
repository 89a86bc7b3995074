"""Choosing and loading the libraries, once per process, and remembering why not."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import torch

from medgen.errors import NativeOpsError, NativeOpsWarning
from medgen.native.jit import BuildError, build
from medgen.native.plan import Plan, cpu_plan, cuda_plan, host_isas
from medgen.native.policy import Policy, policy

__all__ = ["Outcome", "load", "loaded", "plan_of", "sources"]

Device = Literal["cpu", "cuda"]


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
    origin: str
    reason: str = ""
    seconds: float = 0.0


_outcomes: dict[Device, Outcome] = {}
_lock = threading.Lock()


def loaded(device: Device) -> Outcome | None:
    """What is known so far, without trying anything."""
    return _outcomes.get(device)


def load(device: Device) -> Outcome:
    """Load the native ops of a device, the first time building them where that is allowed; later calls are a dictionary look-up.

    Raises:
        NativeOpsError: MEDGEN_OPS=native and they cannot be had.
    """
    if (known := _outcomes.get(device)) is not None:
        return known
    with _lock:
        if device not in _outcomes:
            wanted = policy()
            start = time.monotonic()
            found = _attempt(device, wanted)
            _outcomes[device] = Outcome(device, found.library, found.origin, found.reason, time.monotonic() - start)
            if found.library is None and wanted.ops == "native":
                _outcomes.pop(device)
                raise NativeOpsError(f"MEDGEN_OPS=native, but there are no native {device} ops: {found.reason}")
    return _outcomes[device]


def _attempt(device: Device, wanted: Policy) -> Outcome:
    if wanted.ops == "reference":
        return Outcome(device, None, "none", "MEDGEN_OPS=reference")
    installed = Path(__file__).parent / f"libmedgen_{device}.so"
    reasons = []
    if installed.is_file():
        try:
            torch.ops.load_library(installed)
        except OSError as error:
            reasons.append(f"the installed library cannot be loaded ({error})")
        else:
            return Outcome(device, installed, "installed")
    try:
        plan = plan_of(device, wanted)
        cached = (wanted.cache / "ext" / plan.key / "metadata.json").is_file()
        if not cached and not wanted.jit:
            raise BuildError("no built library was found, and MEDGEN_JIT=0 forbids to build one")
        library = build(plan, wanted.cache)
        torch.ops.load_library(library)
    except (BuildError, OSError) as error:
        reason = "; ".join([*reasons, str(error)])
        # Without a compiler or GPU toolkit the reference is the ordinary case; a compiler that fails deserves a word, once.
        if isinstance(error, BuildError) and "failed on" in reason:
            warnings.warn(
                f"medgen: native {device} ops could not be built, the PyTorch reference runs. Details: medgen doctor",
                NativeOpsWarning,
                stacklevel=4,
            )
        return Outcome(device, None, "none", reason)
    return Outcome(device, library, "cache" if cached else "built")


def plan_of(device: Device, wanted: Policy) -> Plan:
    """The plan for this machine.

    Raises:
        BuildError: there is no compiler, no sources, or (CUDA) no toolkit.
    """
    root = Path(torch.__file__).parent
    include, lib, csrc = root / "include", root / "lib", sources()
    if device == "cpu":
        compiler = _compiler()
        versions = {"compiler": _version(compiler)}
        return cpu_plan(csrc, compiler=compiler, torch_include=include, torch_lib=lib, isas=host_isas(cpu_flags()), versions=versions)
    nvcc = shutil.which("nvcc") or _under_cuda_home()
    if nvcc is None:
        raise BuildError("nvcc was not found (put it on PATH or set CUDA_HOME)")
    if not (lib / "libtorch_cuda.so").is_file():
        raise BuildError("this torch is built without CUDA")
    versions = {"nvcc": _version(nvcc)}
    return cuda_plan(csrc, nvcc=nvcc, torch_include=include, torch_lib=lib, archs=wanted.archs or ("80", "90"), versions=versions)


def sources() -> Path:
    """csrc/, installed inside the package or beside it in a checkout.

    Raises:
        BuildError: neither is there.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "_csrc", package.parent / "csrc"):
        if (folder / "cpu").is_dir():
            return folder
    raise BuildError("the C++ sources are not installed (medgen/_csrc); reinstall medgen from a complete wheel or checkout")


def cpu_flags() -> set[str]:
    """Features of this processor as Linux names them; empty where that is unknown."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return set()
    return set(next((line.partition(":")[2].split() for line in text.splitlines() if line.startswith("flags")), []))


def _compiler() -> str:
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if name and (found := shutil.which(name)):
            return found
    raise BuildError("no C++ compiler was found (c++, g++, clang++, or CXX)")


@lru_cache
def _version(program: str) -> str:
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    return " ".join(done.stdout.split())[:200] or f"exit {done.returncode}"


def _under_cuda_home() -> str | None:
    for home in (os.environ.get("CUDA_HOME"), "/usr/local/cuda"):
        if home and (Path(home) / "bin" / "nvcc").is_file():
            return str(Path(home) / "bin" / "nvcc")
    return None
