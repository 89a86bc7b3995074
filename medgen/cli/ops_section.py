"""The ops section of `medgen doctor`: policy, compiler, libraries, and, where they are loaded, every op with what runs it and why."""

from __future__ import annotations

import importlib
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from medgen import native
from medgen.cli.common import field_lines, print_table
from medgen.errors import NativeOpsError
from medgen.registry import Host

__all__ = ["Report", "inspect", "print_report"]

_DEVICES = ("cpu", "cuda")
_STATES = {
    "installed": "native, installed ahead of time",
    "cache": "native, built earlier",
    "built": "native, built just now",
    "buildable": "native, not built yet: the first use builds it, or medgen doctor --ops",
    "failed": "reference, because the build failed (tried again by medgen doctor --ops, in a day, or when sources or compiler change)",
    "none": "reference",
}


@dataclass(frozen=True)
class _Library:
    """What is known of one device's library, medgen's own or a plugin's."""

    device: str
    extension: str
    state: str
    path: Path | None
    reason: str
    seconds: float = 0.0

    @property
    def title(self) -> str:
        """For the report's first column."""
        return f"{self.extension} {self.device}".strip()

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
        libraries: one per device, medgen's own before the plugins'.
        ops: op -> device -> why not native, empty where it is; None where nothing was loaded.
        broken: extension -> why the module that defines its ops cannot be imported.
    """

    policy: native.Policy
    compiler: str
    libraries: tuple[_Library, ...]
    ops: dict[str, dict[str, str]] | None
    broken: dict[str, str] = field(default_factory=dict)

    @property
    def well(self) -> bool:
        """No build failed, and what the environment insists on is there."""
        cpu = self.libraries[0]
        insisted = self.policy.ops == "native" and self.ops is not None and cpu.path is None
        return not insisted and not self.broken and not any(library.state == "failed" for library in self.libraries)

    def as_json(self) -> dict[str, Any]:
        """The same, for `--json`."""
        return {
            "policy": {"ops": self.policy.ops, "jit": self.policy.jit, "cache": str(self.policy.cache)},
            "compiler": self.compiler,
            "libraries": {library.title: {**vars(library)} for library in self.libraries},
            "ops": self.ops,
            "broken": self.broken,
        }


def inspect(host: Host, *, load: bool) -> Report:
    """Look at the native ops of medgen and of a host's plugins; `load` imports torch, builds and loads as the first use of an op does."""
    policy = native.policy()
    try:
        compiler = " ".join(native.compiler(policy))
    except native.ToolchainError as error:
        compiler = f"none: {error}"
    extensions = [item.spec for item in host.items("medgen_extensions")]
    modules = {spec.name for spec in extensions if spec.kind == "module"}
    names = dict.fromkeys(("", *(spec.name for spec in extensions)))
    wanted = [(device, name) for name in names for device in (_DEVICES[:1] if name in modules else _DEVICES)]
    libraries = tuple(_loaded(*one) if load else _seen(*one, policy) for one in wanted)
    if not load:
        return Report(policy, compiler, libraries, None)
    broken = {spec.name: problem for spec in extensions if spec.module and (problem := _import(spec.module))}
    return Report(policy, compiler, libraries, _ops(libraries), broken)


def print_report(report: Report) -> None:
    """Print the section's body; a failed build in full."""
    policy = report.policy
    wanted = f"MEDGEN_OPS={policy.ops}, {'built on first use' if policy.jit else 'never built (MEDGEN_JIT=0)'}, cache {policy.cache}"
    pairs = [("policy", wanted), ("compiler", report.compiler), *((library.title, library.line()) for library in report.libraries)]
    print("\n".join(f"  {line}" for line in field_lines(pairs).splitlines()))
    for library in report.libraries:
        if library.state == "failed":
            print("\n".join(f"    {line}" for line in library.reason.splitlines()))
    for name, problem in report.broken.items():
        print(f"    the ops of {name} cannot be defined: {problem}")
    if report.ops is not None:
        print_table(("op", *_DEVICES), [(op, *(_backend(why[device]) for device in _DEVICES)) for op, why in report.ops.items()])


def _backend(why: str) -> str:
    first = why.partition("\n")[0]
    return f"reference: {first}" if why else "native"


def _seen(device: Any, extension: str, policy: native.Policy) -> _Library:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other plugins, about which the report has a section
        place = native.locate(device, policy, extension=extension)
    return _Library(device, extension, place.state, place.library, place.reason)


def _loaded(device: Any, extension: str) -> _Library:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the report says it
            outcome = native.load(device, extension=extension, retry=True)
    except NativeOpsError as error:
        return _Library(device, extension, "none", None, str(error))
    state = outcome.origin
    if state == "none" and native.locate(device, native.policy(), extension=extension).state == "failed":
        return _Library(device, extension, "failed", None, outcome.reason)
    return _Library(device, extension, state, outcome.library, outcome.reason, outcome.seconds)


def _import(module: str) -> str:
    """Import a plugin's module; what is wrong with it."""
    try:
        importlib.import_module(module)
    except Exception as error:  # a third party's code
        return " ".join(f"{type(error).__name__}: {error}".split())
    return ""


def _ops(libraries: tuple[_Library, ...]) -> dict[str, dict[str, str]]:
    from medgen.ops import op_libraries
    from medgen.ops._define import NAMES

    ops = {"": NAMES, **{name: library.ops for name, library in op_libraries().items()}}
    return {
        title: {
            library.device: native.why_not_native(title, device=library.device) if library.path else library.reason
            for library in libraries
            if library.extension == extension
        }
        for extension in dict.fromkeys(library.extension for library in libraries)
        for op in ops.get(extension, ())
        for title in [f"{extension}::{op}" if extension else op]
    }
