"""Building a plan into the cache: under a lock, beside its place, renamed when complete.

The lock is the kernel's (flock), so a killed build leaves none behind; a second process waits and finds the library made.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from medgen.native.plan import Plan

__all__ = ["BuildError", "build"]


class BuildError(RuntimeError):
    """The compiler failed, or the cache cannot be written."""


def build(plan: Plan, cache: Path) -> Path:
    """The library of `plan`, from the cache or compiled into it.

    Raises:
        BuildError: with the last lines of the compiler.
    """
    folder = cache / "ext" / plan.key
    library = folder / plan.filename
    if _complete(folder):
        return library
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.parent / f"{plan.key}.lock"):
            if not _complete(folder):
                _build_into(plan, folder)
    except OSError as error:
        raise BuildError(f"the cache {cache} cannot be written ({error}); set MEDGEN_CACHE to a folder that can") from error
    return library


def _complete(folder: Path) -> bool:
    return (folder / "metadata.json").is_file()  # written last


def _build_into(plan: Plan, folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix=f".{plan.key}-", dir=folder.parent) as name:
        temporary = Path(name)
        (temporary / "build.ninja").write_text(_ninja(plan), encoding="utf-8")
        _run([_ninja_program(), "-C", str(temporary)], plan)
        done = temporary / "done"
        done.mkdir()
        shutil.move(temporary / plan.filename, done / plan.filename)
        metadata = {
            "name": plan.name,
            "compiler": plan.compiler,
            "versions": dict(plan.versions),
            "objects": [u.object for u in plan.units],
        }
        (done / "metadata.json").write_text(json.dumps(metadata, indent=2), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)  # what an interrupted deletion may have left
        os.replace(done, folder)


def _ninja(plan: Plan) -> str:
    """One rule per flag set would say no more than one variable per unit."""
    includes = " ".join(f"-I{_escaped(path)}" for path in plan.includes)
    lines = [
        "ninja_required_version = 1.5",
        "rule compile",
        f"  command = {_escaped(plan.compiler)} $flags {includes} -c $in -o $out",
        "  description = $out",
        "rule link",
        f"  command = {_escaped(plan.compiler)} $in -o $out {' '.join(plan.link)}",
    ]
    for unit in plan.units:
        lines += [f"build {unit.object}: compile {_escaped(unit.source)}", f"  flags = {' '.join(unit.flags)}"]
    lines += [f"build {plan.filename}: link {' '.join(unit.object for unit in plan.units)}", ""]
    return "\n".join(lines)


def _escaped(path: str | Path) -> str:
    return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


def _ninja_program() -> str:
    found = shutil.which("ninja")
    if found:
        return found
    try:
        import ninja
    except ImportError as error:
        raise BuildError("ninja is not installed; pip install ninja") from error
    return os.path.join(ninja.BIN_DIR, "ninja")


def _run(command: list[str], plan: Plan) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        raise BuildError(f"{plan.compiler} failed on {plan.name}:\n" + "\n".join(lines[-20:]))


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
