"""The C++ and CUDA sources that a plugin brings through the hook `medgen_extensions`. Imports no torch."""

from __future__ import annotations

import importlib.util
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from medgen.errors import MedgenError
from medgen.native.policy import Device
from medgen.native.toolchain import ToolchainError

__all__ = ["Extension", "extension"]

_SUFFIXES: dict[Device, tuple[str, ...]] = {"cpu": (".cpp", ".cc"), "cuda": (".cu",)}


@dataclass(frozen=True)
class Extension:
    """A plugin's library before it is built.

    Args:
        name: of the library, and of its ops' namespace or Python module.
        folder: of the package; its headers are searched.
        sources: files in it.
        kind: "ops" of torch, or a pybind11 "module".
    """

    name: str
    folder: Path
    sources: tuple[Path, ...]
    kind: Literal["ops", "module"] = "ops"

    def filename(self, device: Device) -> str:
        """Of the library that is installed ahead of time in `folder`. That of a module serves one version of Python."""
        return f"lib{self.name}_{sysconfig.get_config_var('SOABI') if self.kind == 'module' else device}.so"

    def has(self, device: Device) -> bool:
        """Whether anything is compiled for a device."""
        return any(source.suffix in _SUFFIXES[device] for source in self.sources)

    def sources_for(self, device: Device) -> tuple[Path, ...]:
        """What is compiled for a device.

        Raises:
            ToolchainError: nothing is.
        """
        if not self.has(device):
            raise ToolchainError(f"extension {self.name!r} has no sources for {device} ({', '.join(_SUFFIXES[device])})")
        return tuple(source for source in self.sources if source.suffix in _SUFFIXES[device])


def extension(name: str) -> Extension:
    """The extension that an installed plugin declares under this name.

    Raises:
        ToolchainError: there is none, there are two, or its sources are not installed.
    """
    from medgen.registry import find  # here only: setup.py imports this package where there is no pluggy

    try:
        declared = find("medgen_extensions", name)
    except MedgenError as error:
        raise ToolchainError(str(error)) from error
    spec = declared.spec
    try:
        found = importlib.util.find_spec(spec.package)
    except ImportError:
        found = None
    if found is None or not found.submodule_search_locations:
        raise ToolchainError(f"extension {declared.owner} names the package {spec.package!r}, which is not installed")
    folder = Path(found.submodule_search_locations[0])
    sources = tuple(folder / source for source in spec.sources)
    if missing := [source for source in sources if not source.is_file()]:
        raise ToolchainError(
            f"{missing[0]} of extension {declared.owner} is not installed; its pyproject.toml must list it as package data"
        )
    return Extension(spec.name, folder, sources, spec.kind)
