"""`medgen doctor`: what is installed, and why something is not available. Imports no torch, except for --ops."""

from __future__ import annotations

import os
import platform
import re
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

import medgen
from medgen.cli import ops_section
from medgen.cli.common import field_lines, make_parser, print_json, print_table
from medgen.errors import UnknownNameError
from medgen.registry import Host, PluginStatus, suggestion

__all__ = ["run"]

_EXAMPLES = """\
  medgen doctor                 everything; exit code 0 where all is well, else 1
  medgen doctor autoencoders    one plugin, with the traceback of its failure
  medgen doctor --ops           load the native ops, building them where needed, and list every op with what runs it
  medgen doctor --json

A plugin is named by its entry point, its distribution, or a name that it declares.
"""


@dataclass(frozen=True)
class _Package:
    """One package that medgen needs, for itself (extra "") or for one of its extras."""

    name: str
    extra: str
    version: str  # "" where it is absent


def run(argv: Sequence[str]) -> int:
    """Report versions, plugins, optional packages, ops and environment; returns 0 where all is well, else 1."""
    parser = make_parser("doctor", "Say what is installed, and why something is not available.", _EXAMPLES)
    parser.add_argument("name", nargs="?", help="one plugin, in full")
    parser.add_argument("--ops", action="store_true", help="load the native ops, building them where needed, and list them")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args(argv)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # every failure is in the report
        host = Host.from_environment(strict=False)
    plugins = _chosen(host, options.name) if options.name else host.plugins
    packages = list(_packages())
    native = ops_section.inspect(host, load=options.ops)
    if options.json:
        print_json(_as_json(plugins, packages, native))
    elif options.name:
        print("\n\n".join(_in_full(status) for status in plugins))
    else:
        _print(plugins, packages, native)
    needed = () if options.name else [p for p in packages if not p.extra and not p.version]
    return 1 if needed or not native.well or any(_unwell(status) for status in plugins) else 0


def _unwell(status: PluginStatus) -> bool:
    return status.failed or bool(status.rejected)


def _chosen(host: Host, name: str) -> list[PluginStatus]:
    def names(status: PluginStatus) -> set[str]:
        declared = {item.spec.name for items in status.items.values() for item in items}
        return {status.name, status.distribution, *status.withheld, *declared}

    chosen = [status for status in host.plugins if name in names(status)]
    if not chosen:
        known = sorted({n for status in host.plugins for n in names(status)})
        raise UnknownNameError(f"no plugin is called {name!r}{suggestion(name, known)}")
    return chosen


def _packages() -> Iterator[_Package]:
    """Read from medgen's own metadata, so that pyproject.toml stays the one list of dependencies."""
    for requirement in metadata.requires("medgen") or ():
        name = re.match(r"[\w.-]+", requirement)
        extra = re.search(r"""extra\s*==\s*['"]([^'"]+)""", requirement)
        if name and name[0] != "medgen" and not (extra and extra[1] == "dev"):
            yield _Package(name[0], extra[1] if extra else "", _version(name[0]))


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution) or "unknown"
    except metadata.PackageNotFoundError:
        return ""


def _print(plugins: list[PluginStatus], packages: list[_Package], native: ops_section.Report) -> None:
    print("Versions")
    print(_indented(field_lines(_versions(packages).items())))
    print("\nPlugins")
    rows = [(s.name, f"{s.distribution} {s.version}", s.state + (" (!)" if s.rejected else ""), _declares(s)) for s in plugins]
    print_table(("plugin", "distribution", "state", "declares"), rows)
    for status in plugins:
        for line in _problems(status):
            print(f"  {status.name}: {line}")
    print("\nOptional packages")
    print(_indented("\n".join(_extra_lines(packages))))
    print("\nOps")
    ops_section.print_report(native)
    print("\nEnvironment")
    print(_indented("\n".join(f"{name}={value}" for name, value in _environment().items()) or "no MEDGEN_* variable is set"))
    unwell = [status.name for status in plugins if _unwell(status)] + ([] if native.well else ["native ops"])
    print(f"\nNot well: {', '.join(unwell)}. In full: medgen doctor NAME" if unwell else "\nAll is well.")


def _versions(packages: list[_Package]) -> dict[str, str]:
    needed = {package.name: package.version or "MISSING: pip install medgen" for package in packages if not package.extra}
    return {"medgen": medgen.__version__, "python": f"{platform.python_version()} ({sys.platform}, {platform.machine()})", **needed}


def _declares(status: PluginStatus) -> str:
    kinds = {hook: ",".join(item.spec.name for item in items) for hook, items in status.items.items() if items}
    return " ".join(f"{hook.removeprefix('medgen_')}:{names}" for hook, names in kinds.items())


def _problems(status: PluginStatus) -> list[str]:
    reason = [f"{status.state}: {status.reason}"] if status.reason else []
    return [*reason, *(f"rejected: {text}" for text in status.rejected), *(f"note: {text}" for text in status.notes)]


def _extra_lines(packages: list[_Package]) -> Iterator[str]:
    for extra in dict.fromkeys(package.extra for package in packages if package.extra):
        missing = [package.name for package in packages if package.extra == extra and not package.version]
        yield f"{extra:<8} " + (f"missing {', '.join(missing)}: pip install 'medgen[{extra}]'" if missing else "installed")


def _environment() -> dict[str, str]:
    return {name: value for name, value in sorted(os.environ.items()) if name.startswith("MEDGEN_")}


def _in_full(status: PluginStatus) -> str:
    pairs = [
        ("plugin", status.name),
        ("distribution", f"{status.distribution} {status.version}"),
        ("module", status.module),
        ("state", status.state),
        ("declares", _declares(status)),
        ("withheld", ", ".join(status.withheld)),
    ]
    lines = [field_lines(pairs), *_problems(status)]
    return "\n".join([*lines, "", status.traceback.rstrip()] if status.traceback else lines)


def _as_json(plugins: list[PluginStatus], packages: list[_Package], native: ops_section.Report) -> dict[str, Any]:
    keys = ("name", "distribution", "version", "module", "state", "reason", "traceback", "rejected", "notes", "withheld")
    return {
        "versions": _versions(packages),
        "plugins": [
            {
                **{key: getattr(status, key) for key in keys},
                "declares": {hook: [item.spec.name for item in items] for hook, items in status.items.items()},
            }
            for status in plugins
        ],
        "extras": {
            extra: {package.name: package.version or None for package in packages if package.extra == extra}
            for extra in dict.fromkeys(package.extra for package in packages if package.extra)
        },
        "ops": native.as_json(),
        "environment": _environment(),
    }


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
