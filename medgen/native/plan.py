"""What to compile, with which flags: a pure function, used by the build on first use and by setup.py, which loads this file by its path.

Imports nothing of medgen and no torch, so that setup.py can use it in a build environment.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["ABI", "ISAS", "Plan", "Unit", "cpu_plan", "cuda_plan", "host_isas"]

ABI = "0x020b000000000000ULL"
"""TORCH_TARGET_VERSION: the library runs on this torch, 2.11, and every later one."""

ISAS: Mapping[str, tuple[str, ...]] = {
    "v4": ("-march=x86-64-v4", "-mprefer-vector-width=512"),
    "v3": ("-march=x86-64-v3",),
    "base": (),
}
"""Instruction sets that the kernels are compiled for; the best that the machine has is chosen when the library is loaded."""

_COMMON = ("-std=c++20", "-O3", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra")
# Reordering-free, unlike -ffast-math, whose start-up code would also flush denormals in the whole process.
_KERNEL = ("-Wno-maybe-uninitialized", "-fopenmp-simd", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
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
        compiler: path of the compiler and linker.
        units: what to compile.
        includes: folders of headers.
        link: arguments of the linking call.
        headers: files that the hash covers beside the sources.
        versions: name -> version of everything the binary depends on.
    """

    name: str
    compiler: str
    units: tuple[Unit, ...]
    includes: tuple[Path, ...]
    link: tuple[str, ...]
    headers: tuple[Path, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """SHA-256 over sources, headers, flags and versions: another key is another binary."""
        digest = hashlib.sha256(repr((self.name, self.link, sorted(self.versions.items()))).encode())
        for unit in self.units:
            digest.update(repr((unit.object, unit.flags)).encode() + unit.source.read_bytes())
        for header in sorted(self.headers):
            digest.update(header.name.encode() + header.read_bytes())
        return digest.hexdigest()[:32]

    @property
    def filename(self) -> str:
        """Of the library."""
        return f"lib{self.name}.so"


def host_isas(cpu_flags: set[str]) -> tuple[str, ...]:
    """The instruction sets worth building for this machine alone: the best one, and the baseline.

    >>> host_isas({"avx2", "bmi1", "bmi2", "fma", "f16c", "movbe"})
    ('v3', 'base')
    """
    if cpu_flags >= _FLAGS_OF_V4 | _FLAGS_OF_V3:
        return ("v4", "base")
    return ("v3", "base") if cpu_flags >= _FLAGS_OF_V3 else ("base",)


def cpu_plan(csrc: Path, *, compiler: str, torch_include: Path, torch_lib: Path, isas: Sequence[str], versions: Mapping[str, str]) -> Plan:
    """The CPU ops.

    Args:
        csrc: folder of sources.
        compiler: a C++20 compiler.
        torch_include, torch_lib: of the torch to build against; any from 2.11 gives the same binary interface.
        isas: keys of `ISAS`; on other machines than x86-64 only the baseline.
        versions: enter the hash.
    """
    if platform.machine() not in ("x86_64", "AMD64"):
        isas = ("base",)
    built = tuple(f"-DMEDGEN_HAVE_{isa.upper()}=1" for isa in isas)
    units = [
        Unit(source, f"{source.stem}.{isa}.o", (*_COMMON, *_KERNEL, f"-DMEDGEN_ISA={isa}", *ISAS[isa]))
        for source in sorted((csrc / "cpu").glob("*.cpp"))
        for isa in isas
    ]
    torch_flags = (*_COMMON, f"-DTORCH_TARGET_VERSION={ABI}", "-isystem", str(torch_include), *built)
    units += [Unit(source, f"torch_{source.stem}.o", torch_flags) for source in sorted((csrc / "torch").glob("*_cpu.cpp"))]
    link = ("-shared", f"-L{torch_lib}", "-ltorch_cpu", "-ltorch")
    return Plan("medgen_cpu", compiler, tuple(units), (csrc,), link, _headers(csrc), versions)


def cuda_plan(csrc: Path, *, nvcc: str, torch_include: Path, torch_lib: Path, archs: Sequence[str], versions: Mapping[str, str]) -> Plan:
    """The CUDA ops: real code for each architecture, and PTX of the last for later ones. Arguments as in `cpu_plan`."""
    code = [flag for arch in archs for flag in ("-gencode", f"arch=compute_{arch},code=sm_{arch}")]
    code += ["-gencode", f"arch=compute_{archs[-1]},code=compute_{archs[-1]}"]
    flags: tuple[str, ...] = ("-std=c++20", "-O3", "-Xcompiler", "-fPIC,-fvisibility=hidden", "-DUSE_CUDA", f"-DTORCH_TARGET_VERSION={ABI}")
    flags += ("-isystem", str(torch_include), *code)
    units = [Unit(source, f"{source.stem}.cu.o", flags) for source in sorted((csrc / "cuda").glob("*.cu"))]
    link = ("-shared", f"-L{torch_lib}", "-ltorch_cpu", "-ltorch", "-ltorch_cuda", "-lcudart")
    return Plan("medgen_cuda", nvcc, tuple(units), (csrc,), link, _headers(csrc), versions)


def _headers(csrc: Path) -> tuple[Path, ...]:
    return tuple(sorted([*csrc.rglob("*.h"), *csrc.rglob("*.cuh")]))
