"""What the environment asks of the native ops. The only place that reads it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medgen.errors import ConfigError

__all__ = ["Policy", "policy"]


@dataclass(frozen=True)
class Policy:
    """How to come by native ops.

    Args:
        ops: "auto" (native where it can be had, else the reference, with one warning where a build failed), "native" (an error
            where it cannot), or "reference" (never).
        jit: build on first use where no built library is found.
        cache: folder of built libraries.
        archs: CUDA architectures to build for, e.g. ("80", "90"); empty: those of the default plan.
    """

    ops: Literal["auto", "native", "reference"] = "auto"
    jit: bool = True
    cache: Path = Path.home() / ".cache" / "medgen"
    archs: tuple[str, ...] = ()


def policy() -> Policy:
    """Read MEDGEN_OPS, MEDGEN_JIT, MEDGEN_CACHE and MEDGEN_CUDA_ARCHS.

    Raises:
        ConfigError: MEDGEN_OPS is something else.
    """
    ops = os.environ.get("MEDGEN_OPS", "auto")
    if ops not in ("auto", "native", "reference"):
        raise ConfigError(f"MEDGEN_OPS must be auto, native or reference; got {ops!r}.")
    cache = os.environ.get("MEDGEN_CACHE") or os.path.join(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "medgen")
    archs = tuple(a.strip() for a in os.environ.get("MEDGEN_CUDA_ARCHS", "").replace(";", ",").split(",") if a.strip())
    return Policy(ops, os.environ.get("MEDGEN_JIT", "1") not in ("0", ""), Path(cache), archs)  # type: ignore[arg-type]
