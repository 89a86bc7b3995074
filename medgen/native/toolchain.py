"""What this machine has to build with: sources, compilers, torch's headers. Imports no torch."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sysconfig
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgen.native.plan import ISAS, Plan, cpu_plan, cuda_plan, extension_plan, host_isas, module_plan
from medgen.native.policy import Device, Policy

if TYPE_CHECKING:
    from medgen.native.extension import Extension

__all__ = ["ToolchainError", "compiler", "plan_of", "sources"]


class ToolchainError(RuntimeError):
    """There is no compiler, no torch, no sources or no GPU toolkit: an ordinary state, in which the reference runs."""


def plan_of(device: Device, wanted: Policy, *, every_isa: bool = False, extension: Extension | None = None) -> Plan:
    """The plan for this machine.

    Args:
        device: "cpu" or "cuda".
        wanted: compiler, flags and architectures.
        every_isa: for any machine of this kind, not only this one; extensions have the baseline alone.
        extension: of a plugin, instead of medgen's own ops.

    Raises:
        ToolchainError: something is missing.
    """
    chosen = () if extension is None else extension.sources_for(device)  # first: nothing to compile needs no compiler
    if extension is not None and extension.kind == "module":
        words = compiler(wanted)
        headers, versions = _module_headers()
        return _module(extension, wanted, words, headers, {**_versions("compiler", words), **versions}, every_isa=every_isa)
    torch = _torch()
    if device == "cpu":
        words = compiler(wanted)
        isas = tuple(ISAS) if every_isa else host_isas(_cpu_flags())
        plan = cpu_plan(sources(), compiler=words, torch=torch, isas=isas, versions=_versions("compiler", words), extra=wanted.flags)
        return _of(plan, extension, chosen, wanted, isa="base" if every_isa else isas[0])
    words = _nvcc(wanted)
    if not (torch / "lib" / "libtorch_cuda.so").is_file():
        raise ToolchainError("this torch is built without CUDA")
    archs = wanted.archs or ("80", "90")
    plan = cuda_plan(sources(), nvcc=words, torch=torch, archs=archs, versions=_versions("nvcc", words))
    return _of(plan, extension, chosen, wanted, archs=archs)


def plan_without_compiler(wanted: Policy, extension: Extension | None = None) -> Plan:
    """The CPU plan whose content tells whether a library found in the cache is the one that a compiler would make here."""
    if extension is not None and extension.kind == "module":
        return _module(extension, wanted, (), (), {})
    isas = host_isas(_cpu_flags())
    plan = cpu_plan(sources(), compiler=(), torch=Path(), isas=isas, extra=wanted.flags)
    return _of(plan, extension, () if extension is None else extension.sources_for("cpu"), wanted, isa=isas[0])


def _of(
    plan: Plan, extension: Extension | None, chosen: tuple[Path, ...], wanted: Policy, *, isa: str = "base", archs: tuple[str, ...] = ()
) -> Plan:
    """medgen's own plan, or that of an extension beside it."""
    if extension is None:
        return plan
    extra = () if archs else wanted.flags
    return extension_plan(plan, extension.name, extension.folder, chosen, isa=isa, archs=archs, extra=extra)


def _module(
    extension: Extension,
    wanted: Policy,
    words: Sequence[str],
    headers: Sequence[Path],
    versions: Mapping[str, str],
    *,
    every_isa: bool = False,
) -> Plan:
    """Of a pybind11 module."""
    name = extension.filename("cpu").removeprefix("lib").removesuffix(".so")
    isa = "base" if every_isa else host_isas(_cpu_flags())[0]
    settings: dict[str, Any] = {"compiler": words, "folders": headers, "versions": versions, "isa": isa, "extra": wanted.flags}
    return module_plan(name, extension.folder, extension.sources_for("cpu"), **settings)


def _module_headers() -> tuple[tuple[Path, ...], dict[str, str]]:
    """Folders of the headers of Python and pybind11, and the version of the latter."""
    spec = importlib.util.find_spec("pybind11")
    if spec is None or not spec.origin:
        raise ToolchainError("pybind11 is not installed; pip install pybind11")
    python = Path(sysconfig.get_paths()["include"])
    if not (python / "Python.h").is_file():
        raise ToolchainError(f"the headers of Python are not installed ({python}/Python.h; apt install python3-dev)")
    return (Path(spec.origin).parent / "include", python), {"pybind11": metadata.version("pybind11")}


def sources() -> Path:
    """csrc/, installed inside the package or beside it in a checkout.

    Raises:
        ToolchainError: neither is there.
    """
    package = Path(__file__).parents[1]
    for folder in (package / "_csrc", package.parent / "csrc"):
        if (folder / "cpu").is_dir():
            return folder
    raise ToolchainError("the C++ sources are not installed (medgen/_csrc); reinstall medgen from a complete wheel or checkout")


def compiler(wanted: Policy) -> tuple[str, ...]:
    """Words of the C++ compiler.

    Raises:
        ToolchainError: there is none.
    """
    if wanted.cxx:
        if found := shutil.which(wanted.cxx[0]):
            return (found, *wanted.cxx[1:])
        raise ToolchainError(f"the compiler named by CXX was not found ({wanted.cxx[0]})")
    for name in ("c++", "g++", "clang++"):
        if found := shutil.which(name):
            return (found,)
    raise ToolchainError("no C++ compiler was found (c++, g++, clang++, or CXX)")


def _nvcc(wanted: Policy) -> tuple[str, ...]:
    if found := shutil.which("nvcc") or shutil.which("nvcc", path=wanted.cuda_home / "bin"):
        return (found,)
    raise ToolchainError("nvcc was not found (put it on PATH or set CUDA_HOME)")


def _torch() -> Path:
    """Its folder, without importing it."""
    spec = importlib.util.find_spec("torch")
    if spec is None or not spec.origin:
        raise ToolchainError("torch is not installed")
    return Path(spec.origin).parent


def _versions(tool: str, words: tuple[str, ...]) -> dict[str, str]:
    """Asked anew at every start: 3 ms, and never out of date."""
    done = subprocess.run([*words, "--version"], capture_output=True, text=True, errors="replace", check=False)
    return {tool: " ".join(done.stdout.split())[:200] or f"exit {done.returncode}"}


def built_with() -> dict[str, str]:
    """For the record in metadata.json only: the library does not depend on it."""
    return {name: metadata.version(name) for name in ("torch", "ninja") if importlib.util.find_spec(name)}


def _cpu_flags() -> set[str]:
    """Features of this processor as Linux names them; empty where that is unknown."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return set()
    return set(next((line.partition(":")[2].split() for line in text.splitlines() if line.startswith("flags")), []))
