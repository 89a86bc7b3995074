"""Building a plan into the cache: under a lock, beside its place, renamed when complete.

The lock is the kernel's (flock), so a killed build leaves none behind; a second process waits and finds the library made.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from medgen.native.plan import Plan
from medgen.native.toolchain import built_with

__all__ = ["BuildError", "build", "cached", "compile_into", "failure"]

_REMEMBERED = 24 * 3600.0  # seconds after which a failed build is tried again
# A line of the source at fault: it will be so again, unlike a full disk or too little memory.
_DIAGNOSTIC = re.compile(r":\d+:\d+: (fatal )?error: |\(\d+\): (fatal )?error: ")


class BuildError(RuntimeError):
    """The compiler failed, or the cache cannot be written."""


def cached(plan: Plan, cache: Path) -> Path | None:
    """The complete library of `plan`; where there is no compiler, one that any compiler made of the same content."""
    found = [cache / "ext" / plan.key] if plan.compiler else sorted((cache / "ext").glob(f"{plan.content}-*"))
    return next((folder / plan.filename for folder in found if (folder / "metadata.json").is_file()), None)


def failure(plan: Plan, cache: Path) -> str:
    """What the compiler objected to in `plan` within the last day; empty where it did not."""
    try:
        record = json.loads(_failed(plan, cache).read_text(encoding="utf-8"))
        return str(record["reason"]) if time.time() - record["time"] < _REMEMBERED else ""
    except (OSError, ValueError, LookupError, TypeError):
        return ""


def build(plan: Plan, cache: Path) -> Path:
    """The library of `plan`, from the cache or compiled into it.

    Raises:
        BuildError: with the compiler's first error, which is also kept for `failure`.
    """
    folder = cache / "ext" / plan.key
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(folder.parent / f"{plan.key}.lock"):
            if not (done := cached(plan, cache)):
                _build_locked(plan, folder, cache)
    except OSError as error:
        raise BuildError(f"the cache {cache} cannot be written ({error}); set MEDGEN_CACHE to a folder that can") from error
    return done or folder / plan.filename


def compile_into(plan: Plan, folder: Path) -> Path:
    """Compile and link in a folder of one's own.

    Raises:
        BuildError: with the compiler's first error.
    """
    (folder / "build.ninja").write_text(plan.ninja(), encoding="utf-8")
    done = subprocess.run([_ninja(), "-C", str(folder)], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        raise BuildError(f"{' '.join(plan.compiler)} failed on {plan.name}:\n{_telling(done.stdout + done.stderr)}")
    return folder / plan.filename


def _telling(output: str) -> str:
    """Twenty lines from the first error on; else the last ones."""
    lines = [line for line in output.splitlines() if line.strip()]
    first = next((n for n, line in enumerate(lines) if "error: " in line), max(0, len(lines) - 20))
    return "\n".join(lines[first : first + 20])


def _build_locked(plan: Plan, folder: Path, cache: Path) -> None:
    for left in folder.parent.glob(f".{plan.key}-*"):  # by a killed build: nobody else works on this key while we hold its lock
        shutil.rmtree(left, ignore_errors=True)
    _failed(plan, cache).unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{plan.key}-", dir=folder.parent, ignore_cleanup_errors=True) as name:
        temporary = Path(name)
        try:
            library = compile_into(plan, temporary)
        except BuildError as error:
            if _DIAGNOSTIC.search(str(error)) and _unchanged(plan):
                _failed(plan, cache).write_text(json.dumps({"reason": str(error), "time": time.time()}), encoding="utf-8")
            raise
        if not _unchanged(plan):
            raise BuildError(f"the sources of {plan.name} changed while they were compiled; start again")
        done = temporary / "done"
        done.mkdir()
        shutil.move(library, done / plan.filename)
        record = {"name": plan.name, "compiler": plan.compiler, "versions": {**plan.versions, **built_with()}, "built": time.time()}
        (done / "metadata.json").write_text(json.dumps(record, indent=2), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)  # what an interrupted deletion may have left
        os.replace(done, folder)


def _unchanged(plan: Plan) -> bool:
    """The files are still those that the key stands for."""
    return dataclasses.replace(plan).key == plan.key


def _failed(plan: Plan, cache: Path) -> Path:
    return cache / "ext" / f"{plan.key}.failed.json"


def _ninja() -> str:
    if found := shutil.which("ninja"):
        return found
    try:
        import ninja
    except ImportError as error:
        raise BuildError("ninja was not found; pip install ninja") from error
    return os.path.join(ninja.BIN_DIR, "ninja")


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
