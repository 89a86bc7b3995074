"""What to compile, with which flags: pure functions, used by the build on first use and by setup.py."""

from __future__ import annotations

import functools
import hashlib
import platform
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

__all__ = ["ABI", "ISAS", "Plan", "Unit", "cpu_plan", "cuda_plan", "extension_plan", "host_isas", "host_plan", "module_plan"]

ABI = "0x020b000000000000ULL"
"""TORCH_TARGET_VERSION: the library runs on this torch, 2.11, and every later one."""

ISAS: Mapping[str, tuple[str, ...]] = {
    "v4": ("-march=x86-64-v4", "-mprefer-vector-width=512"),
    "v3": ("-march=x86-64-v3",),
    "base": (),
}
"""Instruction sets that the kernels are compiled for: ahead of time all of them, among which the machine's best is chosen at run time."""

_COMMON = ("-std=c++20", "-O3", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra")
# Reordering-free, unlike -ffast-math, whose start-up code would also flush denormals in the whole process.
_KERNEL = ("-Wno-maybe-uninitialized", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
_CUDA_LINK = ("-shared", "-ltorch_cpu", "-ltorch", "-ltorch_cuda", "-lcudart")
_FLAGS_OF_V4 = {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}
_FLAGS_OF_V3 = {"avx2", "bmi1", "bmi2", "fma", "f16c", "movbe"}


@dataclass(frozen=True)
class Unit:
    """One compiler call: a source, its object's name, and flags of its own."""

    source: Path
    object: str
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Plan:
    """One shared library.

    Args:
        name: of the library.
        compiler: words of the command that compiles and links; empty where there is none.
        units: what to compile.
        root: folder of the sources; its headers are searched and enter the key.
        system: folders of other headers, searched without warnings.
        folders: where the linker looks.
        link: further arguments of the linking call.
        versions: of the tools; they enter the key, so that another compiler makes another library.
        shared: folders of headers of others that are searched too and enter the key.
    """

    name: str
    compiler: tuple[str, ...]
    units: tuple[Unit, ...]
    root: Path
    system: tuple[Path, ...] = ()
    folders: tuple[Path, ...] = ()
    link: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    shared: tuple[Path, ...] = ()

    @functools.cached_property
    def content(self) -> str:
        """SHA-256 over sources, headers and flags as they are when first asked for. No path enters it, nor torch's version, which the
        stable ABI makes irrelevant.
        """
        digest = hashlib.sha256(repr((self.name, self.link)).encode())
        for unit in self.units:
            digest.update(repr((unit.object, unit.flags)).encode() + unit.source.read_bytes())
        for folder in (self.root, *self.shared):
            for header in sorted(path for pattern in ("*.h", "*.cuh") for path in folder.rglob(pattern)):
                digest.update(header.relative_to(folder).as_posix().encode() + header.read_bytes())
        return digest.hexdigest()[:24]

    @property
    def key(self) -> str:
        """The content, and who compiles it."""
        return f"{self.content}-{hashlib.sha256(repr(sorted(self.versions.items())).encode()).hexdigest()[:8]}"

    @property
    def filename(self) -> str:
        """Of the library."""
        return f"lib{self.name}.so"

    def ninja(self) -> str:
        """The build as a ninja file, to be run in an empty folder."""
        compiler = _words(self.compiler)
        own, foreign = [f"-I{folder}" for folder in (self.root, *self.shared)], [w for f in self.system for w in ("-isystem", str(f))]
        headers = _words([*own, *foreign])
        link = _words([*(f"-L{folder}" for folder in self.folders), *self.link])
        lines = [
            "ninja_required_version = 1.5",
            "rule compile",
            f"  command = {compiler} $flags {headers} -c $in -o $out",
            "  description = $out",
            "rule link",
            f"  command = {compiler} $in -o $out {link}",
        ]
        for unit in self.units:
            lines += [f"build {unit.object}: compile {_path(unit.source)}", f"  flags = {_words(unit.flags)}"]
        return "\n".join([*lines, f"build {self.filename}: link {' '.join(unit.object for unit in self.units)}", ""])


def _words(words: Sequence[str]) -> str:
    """For the shell, and then for ninja."""
    return shlex.join(words).replace("$", "$$")


def _path(path: Path) -> str:
    """For ninja, which quotes paths for the shell by itself."""
    return str(path).replace("$", "$$").replace(" ", "$ ").replace(":", "$:")


def host_isas(cpu_flags: set[str]) -> tuple[str, ...]:
    """The instruction set worth building for this machine alone.

    >>> host_isas({"avx2", "bmi1", "bmi2", "fma", "f16c", "movbe"})
    ('v3',)
    """
    if cpu_flags >= _FLAGS_OF_V4 | _FLAGS_OF_V3:
        return ("v4",)
    return ("v3",) if cpu_flags >= _FLAGS_OF_V3 else ("base",)


def cpu_plan(
    csrc: Path,
    *,
    compiler: Sequence[str],
    torch: Path,
    isas: Sequence[str] = tuple(ISAS),
    versions: Mapping[str, str] | None = None,
    extra: Sequence[str] = (),
) -> Plan:
    """The CPU ops.

    Args:
        csrc: folder of sources.
        compiler: words of a C++20 compiler.
        torch: folder of an installed torch; any from 2.11 gives the same binary interface.
        isas: keys of `ISAS`, one or all; on other machines than x86-64 only the baseline.
        versions: of the compiler.
        extra: flags for every compiling and linking call, such as -Werror or -fsanitize=address.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        isas = ("base",)
    built = tuple(f"-DMEDGEN_HAVE_{isa.upper()}=1" for isa in isas)
    units = [
        Unit(source, f"{source.stem}.{isa}.o", (*_COMMON, *_KERNEL, f"-DMEDGEN_ISA={isa}", *ISAS[isa], *extra))
        for source in sorted((csrc / "cpu").glob("*.cpp"))
        for isa in isas
    ]
    glue = (*_COMMON, f"-DTORCH_TARGET_VERSION={ABI}", *built, *extra)
    units += [Unit(source, f"torch_{source.stem}.o", glue) for source in sorted((csrc / "torch").glob("*_cpu.cpp"))]
    link = ("-shared", "-ltorch_cpu", "-ltorch", *extra)
    return Plan("medgen_cpu", tuple(compiler), tuple(units), csrc, (torch / "include",), (torch / "lib",), link, dict(versions or {}))


def cuda_plan(
    csrc: Path,
    *,
    nvcc: Sequence[str],
    torch: Path,
    archs: Sequence[str] = ("80", "90"),
    versions: Mapping[str, str] | None = None,
    extra: Sequence[str] = (),
) -> Plan:
    """The CUDA ops: real code for each architecture, and PTX of the last for later ones. Arguments as in `cpu_plan`."""
    flags = _cuda_flags(archs, extra)
    units = [Unit(source, f"{source.stem}.cu.o", flags) for source in sorted((csrc / "cuda").glob("*.cu"))]
    return Plan("medgen_cuda", tuple(nvcc), tuple(units), csrc, (torch / "include",), (torch / "lib",), _CUDA_LINK, dict(versions or {}))


def _cuda_flags(archs: Sequence[str], extra: Sequence[str]) -> tuple[str, ...]:
    code = [flag for arch in archs for flag in ("-gencode", f"arch=compute_{arch},code=sm_{arch}")]
    code += ["-gencode", f"arch=compute_{archs[-1]},code=compute_{archs[-1]}"]
    return ("-std=c++20", "-O3", "-Xcompiler", "-fPIC,-fvisibility=hidden", "-DUSE_CUDA", f"-DTORCH_TARGET_VERSION={ABI}", *code, *extra)


def extension_plan(
    base: Plan, name: str, folder: Path, sources: Sequence[Path], *, isa: str = "base", archs: Sequence[str] = (), extra: Sequence[str] = ()
) -> Plan:
    """The library of a plugin: each source is one unit, kernels and glue alike.

    Args:
        base: medgen's own plan for the device, whose compiler, torch and headers serve this one too.
        name: of the extension.
        folder: of the plugin's package; its headers are searched before medgen's.
        sources: files in it.
        isa: key of `ISAS`, of CPU sources.
        archs: of CUDA sources; empty for CPU sources.
        extra: further flags.
    """
    flags = _cuda_flags(archs, extra) if archs else (*_COMMON, *_KERNEL, *ISAS[isa], f"-DTORCH_TARGET_VERSION={ABI}", *extra)
    units = tuple(Unit(source, f"{'_'.join(source.relative_to(folder).parts)}.o", flags) for source in sources)
    return replace(base, name=f"{name}_{'cuda' if archs else 'cpu'}", units=units, root=folder, shared=(base.root,))


def module_plan(
    name: str,
    folder: Path,
    sources: Sequence[Path],
    *,
    compiler: Sequence[str],
    folders: Sequence[Path],
    versions: Mapping[str, str],
    isa: str = "base",
    extra: Sequence[str] = (),
) -> Plan:
    """A pybind11 module of a plugin, without torch.

    Args:
        name: of the library, which says for which Python it is: the content of such a library depends on that.
        folder: of the plugin's package; its headers are searched.
        sources: files in it.
        compiler: words of a C++20 compiler; empty where there is none.
        folders: of the headers of Python and pybind11.
        versions: of the compiler and pybind11.
        isa: key of `ISAS`.
        extra: further flags.
    """
    flags = (*_COMMON, *_KERNEL, *ISAS[isa], "-pthread", *extra)
    units = tuple(Unit(source, f"{'_'.join(source.relative_to(folder).parts)}.o", flags) for source in sources)
    return Plan(name, tuple(compiler), units, folder, tuple(folders), link=("-shared", "-pthread", *extra), versions=dict(versions))


def host_plan(
    csrc: Path, *, compiler: Sequence[str], folders: Sequence[Path], versions: Mapping[str, str], extra: Sequence[str] = ()
) -> Plan:
    """csrc/core as a pybind11 module for tests; `folders` hold the headers of Python and pybind11."""
    units = tuple(Unit(source, f"{source.stem}.o", (*_COMMON, *_KERNEL, *extra)) for source in sorted((csrc / "host").glob("*.cpp")))
    return Plan("medgen_host", tuple(compiler), units, csrc, tuple(folders), link=("-shared", *extra), versions=dict(versions))
