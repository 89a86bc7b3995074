"""A machine in a folder: an empty cache, and compilers that are scripts; and csrc/core as a module."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from medgen import native
from medgen.errors import NativeOpsWarning
from medgen.native import loader
from medgen.native.plan import host_plan
from medgen.native.toolchain import sources

SCRIPT = """\
#!/bin/sh
[ "$1" = --version ] && {{ echo "{version}"; exit 0; }}
for word in "$@"; do [ "$last" = -o ] && out=$word; last=$word; done
echo "$out" >> "{log}"
{body}
"""


@dataclass(frozen=True)
class Machine:
    """Where the tests build: nothing here belongs to the user."""

    folder: Path
    library: Path

    @property
    def cache(self) -> Path:
        return self.folder / "cache"

    @property
    def entries(self) -> list[str]:
        """What lies in the cache, apart from the lock files, which stay."""
        return sorted(p.name for p in (self.cache / "ext").glob("*") if p.suffix != ".lock")

    def compiler(self, body: str = 'cp "{library}" "$out"', *, name: str = "fake-c++", version: str = "fake 1.0") -> Path:
        """A compiler that makes every output by `body`, and notes it."""
        path = self.folder / name
        body = body.format(library=self.library, folder=self.folder)
        path.write_text(SCRIPT.format(version=version, log=self.folder / f"{name}.log", body=body))
        path.chmod(0o755)
        return path

    def restart(self) -> None:
        """Another process, as far as the loader knows."""
        loader._outcomes.clear()

    def python(self, code: str, **environment: str) -> subprocess.Popen[str]:
        """Another process in truth."""
        clean = {**os.environ, **environment}
        return subprocess.Popen(
            [sys.executable, "-c", code], env=clean, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def calls(self, name: str = "fake-c++") -> list[str]:
        """Outputs that a compiler was asked for, in order."""
        log = self.folder / f"{name}.log"
        return log.read_text().split() if log.exists() else []


@pytest.fixture(scope="session")
def a_library(tmp_path_factory) -> Path:
    """A shared library that does nothing."""
    if not (cxx := shutil.which("c++")):
        pytest.skip("no C++ compiler makes the tests' library")
    folder = tmp_path_factory.mktemp("library")
    (folder / "nothing.cpp").write_text("int medgen_nothing() { return 0; }\n")
    subprocess.run([cxx, "-shared", "-fPIC", "nothing.cpp", "-o", "nothing.so"], cwd=folder, check=True)
    return folder / "nothing.so"


@pytest.fixture
def machine(tmp_path, a_library, monkeypatch) -> Iterator[Machine]:
    """No library is loaded, the cache is empty, and the compiler is a fake that works. A warning that no test expects is an error."""
    made = Machine(tmp_path, a_library)
    for name in ("MEDGEN_OPS", "MEDGEN_JIT", "MEDGEN_CUDA_ARCHS", "MEDGEN_CXXFLAGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MEDGEN_CACHE", str(made.cache))
    monkeypatch.setenv("CXX", str(made.compiler()))
    monkeypatch.setattr(loader, "_outcomes", {})
    with warnings.catch_warnings():
        warnings.simplefilter("error", NativeOpsWarning)
        yield made


@pytest.fixture(scope="session")
def core():
    """The module, built once into the user's cache."""
    pybind11 = pytest.importorskip("pybind11", reason="pybind11 is not installed")
    wanted = native.policy()
    try:
        compiler = native.compiler(wanted)
    except native.ToolchainError as error:
        pytest.skip(str(error))
    folders = (Path(pybind11.get_include()), Path(sysconfig.get_paths()["include"]))
    versions = {"python": sysconfig.get_config_var("SOABI"), "pybind11": pybind11.__version__}
    plan = host_plan(sources(), compiler=compiler, folders=folders, versions=versions, extra=wanted.flags)
    loader = importlib.machinery.ExtensionFileLoader("medgen_host", str(native.build(plan, wanted.cache)))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("medgen_host", loader))
    loader.exec_module(module)
    return module
