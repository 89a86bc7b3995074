"""The ops section of `medgen doctor`: policy, compiler, libraries, and, where they are loaded, every op with what runs it and why."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medgen import native
from medgen.cli.common import field_lines, print_table
from medgen.errors import NativeOpsError

__all__ = ["Report", "inspect", "print_report"]

_DEVICES = ("cpu", "cuda")
_STATES = {
    "installed": "native, installed with medgen",
    "cache": "native, built earlier",
    "built": "native, built just now",
    "buildable": "native, not built yet: the first use of an op builds it, or medgen doctor --ops",
    "failed": "reference, because the build failed (tried again by medgen doctor --ops, in a day, or when sources or compiler change)",
    "none": "reference",
}


@dataclass(frozen=True)
class _Library:
    """What is known of one device's library."""

    device: str
    state: str
    path: Path | None
    reason: str
    seconds: float = 0.0

    def line(self) -> str:
        """The state, and one line of the reason."""
        first = self.reason.partition("\n")[0]
        return _STATES[self.state] + (f" ({self.path})" if self.path else f": {first}" if first else "")


@dataclass(frozen=True)
class Report:
    """What the section says.

    Args:
        policy: what the environment asks for.
        compiler: the C++ compiler's command, or why there is none.
        libraries: one per device.
        ops: op -> device -> why not native, empty where it is; None where nothing was loaded.
    """

    policy: native.Policy
    compiler: str
    libraries: tuple[_Library, ...]
    ops: dict[str, dict[str, str]] | None

    @property
    def well(self) -> bool:
        """No build failed, and what the environment insists on is there."""
        cpu = self.libraries[0]
        insisted = self.policy.ops == "native" and self.ops is not None and cpu.path is None
        return not insisted and not any(library.state == "failed" for library in self.libraries)

    def as_json(self) -> dict[str, Any]:
        """The same, for `--json`."""
        return {
            "policy": {"ops": self.policy.ops, "jit": self.policy.jit, "cache": str(self.policy.cache)},
            "compiler": self.compiler,
            "libraries": {library.device: {**vars(library)} for library in self.libraries},
            "ops": self.ops,
        }


def inspect(*, load: bool) -> Report:
    """Look at the native ops; `load` imports torch, builds and loads as the first use of an op does."""
    policy = native.policy()
    try:
        compiler = " ".join(native.compiler(policy))
    except native.ToolchainError as error:
        compiler = f"none: {error}"
    libraries = tuple(_loaded(device) if load else _seen(device, policy) for device in _DEVICES)
    return Report(policy, compiler, libraries, _ops(libraries) if load else None)


def print_report(report: Report) -> None:
    """Print the section's body; a failed build in full."""
    policy = report.policy
    wanted = f"MEDGEN_OPS={policy.ops}, {'built on first use' if policy.jit else 'never built (MEDGEN_JIT=0)'}, cache {policy.cache}"
    pairs = [("policy", wanted), ("compiler", report.compiler), *((library.device, library.line()) for library in report.libraries)]
    print("\n".join(f"  {line}" for line in field_lines(pairs).splitlines()))
    for library in report.libraries:
        if library.state == "failed":
            print("\n".join(f"    {line}" for line in library.reason.splitlines()))
    if report.ops is not None:
        print_table(("op", *_DEVICES), [(op, *(_backend(why[device]) for device in _DEVICES)) for op, why in report.ops.items()])


def _backend(why: str) -> str:
    first = why.partition("\n")[0]
    return f"reference: {first}" if why else "native"


def _seen(device: Any, policy: native.Policy) -> _Library:
    place = native.locate(device, policy)
    return _Library(device, place.state, place.library, place.reason)


def _loaded(device: Any) -> _Library:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the report says it
            outcome = native.load(device, retry=True)
    except NativeOpsError as error:
        return _Library(device, "none", None, str(error))
    state = outcome.origin
    if state == "none" and native.locate(device, native.policy()).state == "failed":
        return _Library(device, "failed", None, outcome.reason)
    return _Library(device, state, outcome.library, outcome.reason, outcome.seconds)


def _ops(libraries: tuple[_Library, ...]) -> dict[str, dict[str, str]]:
    from medgen.ops._define import NAMES

    return {
        op: {library.device: native.why_not_native(op, device=library.device) if library.path else library.reason for library in libraries}
        for op in NAMES
    }
