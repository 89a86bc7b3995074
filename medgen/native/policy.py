"""What the environment asks of the native ops. The only place that reads it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medgen.errors import ConfigError

__all__ = ["Device", "Policy", "policy"]

Device = Literal["cpu", "cuda"]


@dataclass(frozen=True)
class Policy:
    """How to come by native ops.

    Args:
        ops: "auto" (native where it can be had, else the reference, with one warning where a build failed), "native" (an error
            where it cannot), or "reference" (never).
        jit: build on first use where no built library is found.
        cache: folder of built libraries.
        archs: CUDA architectures to build for, e.g. ("80", "90"); empty: those of the default plan.
        flags: added to every call of the C++ compiler, e.g. ("-Werror",).
        cxx: words of the C++ compiler to use; empty: the first of c++, g++, clang++.
        cuda_home: folder of the CUDA toolkit where nvcc is not on PATH.
    """

    ops: Literal["auto", "native", "reference"] = "auto"
    jit: bool = True
    cache: Path = Path.home() / ".cache" / "medgen"
    archs: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    cxx: tuple[str, ...] = ()
    cuda_home: Path = Path("/usr/local/cuda")


def policy(environment: Mapping[str, str] = os.environ) -> Policy:
    """Read MEDGEN_OPS, MEDGEN_JIT, MEDGEN_CACHE, MEDGEN_CUDA_ARCHS, MEDGEN_CXXFLAGS, CXX and CUDA_HOME.

    Raises:
        ConfigError: MEDGEN_OPS is something else.

    >>> policy({"MEDGEN_OPS": "native", "MEDGEN_CUDA_ARCHS": "80;90"}).archs
    ('80', '90')
    """
    ops = environment.get("MEDGEN_OPS", "auto")
    if ops not in ("auto", "native", "reference"):
        raise ConfigError(f"MEDGEN_OPS must be auto, native or reference; got {ops!r}.")
    cache = environment.get("MEDGEN_CACHE") or os.path.join(environment.get("XDG_CACHE_HOME") or Path.home() / ".cache", "medgen")
    return Policy(
        ops,  # type: ignore[arg-type]
        jit=environment.get("MEDGEN_JIT", "1") not in ("0", ""),
        cache=Path(cache),
        archs=tuple(environment.get("MEDGEN_CUDA_ARCHS", "").replace(";", " ").replace(",", " ").split()),
        flags=tuple(shlex.split(environment.get("MEDGEN_CXXFLAGS", ""))),
        cxx=tuple(shlex.split(environment.get("CXX", ""))),
        cuda_home=Path(environment.get("CUDA_HOME") or "/usr/local/cuda"),
    )
