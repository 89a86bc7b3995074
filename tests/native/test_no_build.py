"""Nothing to build with, nowhere to put it, or nothing to build: what is used instead, and what is said."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch

from medgen import native
from medgen.errors import NativeOpsError, NativeOpsWarning, UnknownNameError
from medgen.native import toolchain


class TestItCannotBeBuilt:
    def test_no_compiler(self, machine, monkeypatch):
        monkeypatch.delenv("CXX")
        monkeypatch.setenv("PATH", str(machine.cache))
        outcome = native.load("cpu")  # in silence: the ordinary case on a machine without one
        assert (outcome.library, outcome.reason) == (None, "no C++ compiler was found (c++, g++, clang++, or CXX)")
        assert not machine.cache.exists()

    def test_no_compiler_in_truth(self, machine):
        """A whole process without one: the op runs, and doctor is well and says why."""
        code = "import torch, medgen.ops as o; print(o.philox_normal(0, torch.tensor([0, 1]), (2,)).tolist())"
        clean = {"PATH": str(machine.folder), "CXX": "", "MEDGEN_CACHE": str(machine.cache)}
        printed, errors = machine.python(code, **clean).communicate(timeout=120)
        assert (len(json.loads(printed)), errors) == (2, "")
        process = machine.python("from medgen.cli import doctor; raise SystemExit(doctor.run([]))", **clean)
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert re.search(r"^  cpu +reference: no C\+\+ compiler was found \(c\+\+, g\+\+, clang\+\+, or CXX\)", printed, flags=re.M)

    def test_the_compiler_named_is_absent(self, machine, monkeypatch):
        monkeypatch.setenv("CXX", "no-such-compiler -O3")
        assert native.load("cpu").reason == "the compiler named by CXX was not found (no-such-compiler)"

    def test_no_compiler_any_more(self, machine, monkeypatch):
        """Built on the login node, used on the others."""
        first = native.load("cpu")
        machine.restart()
        monkeypatch.delenv("CXX")
        monkeypatch.setenv("PATH", str(machine.cache))
        again = native.load("cpu")
        assert (again.origin, again.library) == ("cache", first.library)

    def test_no_ninja(self, machine, monkeypatch):
        monkeypatch.setenv("PATH", str(machine.cache))
        monkeypatch.setitem(sys.modules, "ninja", None)
        with pytest.warns(NativeOpsWarning):
            assert "pip install ninja" in native.load("cpu").reason

    def test_a_cache_that_is_no_folder(self, machine):
        machine.cache.write_text("a file")
        with pytest.warns(NativeOpsWarning):
            reason = native.load("cpu").reason
        assert reason.startswith(f"the cache {machine.cache} cannot be written")
        assert reason.endswith("set MEDGEN_CACHE to a folder that can")

    def test_a_read_only_cache(self, machine):
        machine.cache.mkdir()
        with as_nobody_may_write(machine.cache), pytest.warns(NativeOpsWarning):
            outcome = native.load("cpu")
        assert outcome.library is None
        assert "cannot be written" in outcome.reason

    def test_a_read_only_cache_with_the_library(self, machine):
        first = native.load("cpu")
        machine.restart()
        with as_nobody_may_write(machine.cache):
            again = native.load("cpu")
        assert (again.origin, again.library) == ("cache", first.library)

    def test_no_sources(self, machine, monkeypatch):
        monkeypatch.setattr(toolchain, "__file__", str(machine.folder / "a" / "b" / "c.py"))
        assert "reinstall medgen" in native.load("cpu").reason

    def test_jit_0(self, machine, monkeypatch):
        monkeypatch.setenv("MEDGEN_JIT", "0")
        assert "MEDGEN_JIT=0 forbids" in native.load("cpu").reason
        assert machine.calls() == []
        machine.restart()
        monkeypatch.setenv("MEDGEN_OPS", "native")
        with pytest.raises(NativeOpsError, match="MEDGEN_JIT=0"):
            native.load("cpu")
        monkeypatch.setenv("MEDGEN_JIT", "1")
        assert native.load("cpu").origin == "built"
        machine.restart()
        monkeypatch.setenv("MEDGEN_JIT", "0")
        assert native.load("cpu").origin == "cache"

    def test_reference(self, machine, monkeypatch):
        native.load("cpu")
        machine.restart()
        monkeypatch.setenv("MEDGEN_OPS", "reference")
        assert (native.load("cpu").library, native.load("cpu").reason) == (None, "MEDGEN_OPS=reference")

    def test_cuda_without_a_toolkit(self, machine, monkeypatch):
        monkeypatch.setenv("PATH", str(machine.cache))
        monkeypatch.setenv("CUDA_HOME", str(machine.cache))
        assert native.load("cuda").reason == "nvcc was not found (put it on PATH or set CUDA_HOME)"


class TestInstalled:
    @pytest.fixture
    def package(self, machine, monkeypatch) -> Path:
        folder = machine.folder / "package"
        folder.mkdir()
        monkeypatch.setattr(sys.modules["medgen.native.locate"], "__file__", str(folder / "locate.py"))
        return folder / "libmedgen_cpu.so"

    def test_comes_first(self, machine, package):
        shutil.copy(machine.library, package)
        assert (native.load("cpu").origin, native.load("cpu").library) == ("installed", package)
        assert machine.calls() == []

    def test_for_another_machine(self, machine, package):
        package.write_text("rubbish")
        assert native.load("cpu").origin == "built"

    def test_for_another_machine_without_a_compiler(self, machine, package, monkeypatch):
        package.write_text("rubbish")
        monkeypatch.setenv("CXX", "no-such-compiler")
        with pytest.warns(NativeOpsWarning):
            reason = native.load("cpu").reason
        assert f"{package} cannot be loaded" in reason
        assert "no-such-compiler" in reason


class TestWhyNotNative:
    @pytest.fixture(autouse=True)
    def _ops(self):
        import medgen.ops  # noqa: F401

    def test_reasons(self, machine, monkeypatch):
        x = torch.zeros(2)
        monkeypatch.setenv("MEDGEN_OPS", "reference")
        assert native.why_not_native("philox_normal", x) == "MEDGEN_OPS=reference"
        assert native.why_not_native("philox_normal", x.to("meta")) == "there are no native ops for the device meta"
        assert "different devices" in native.why_not_native("philox_normal", x, x.to("meta"))

    def test_no_such_op(self):
        with pytest.raises(UnknownNameError, match="no op is called 'philox_norml'"):
            native.why_not_native("philox_norml")

    def test_an_op_without_a_kernel(self, machine):
        library = torch.library.Library("medgen", "FRAGMENT")
        library.define("without_kernel(Tensor x) -> Tensor")
        library.impl("without_kernel", lambda x: x.clone(), "CompositeExplicitAutograd")
        assert native.why_not_native("without_kernel", torch.zeros(1)) == "the library has no cpu kernel for without_kernel"


class as_nobody_may_write:  # noqa: N801
    """A folder that is read-only even for root, who would otherwise write wherever they like."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> None:
        self.parents = [p for p in self.folder.parents if p.stat().st_uid == os.getuid() and not p.stat().st_mode & 0o005]
        for path in self.parents:
            path.chmod(0o755)
        self.modes = {path: path.stat().st_mode for path in [self.folder, *self.folder.rglob("*")]}
        for path, mode in self.modes.items():
            path.chmod(mode & ~0o222 | 0o444 | (0o111 if path.is_dir() else 0))
        self.root = os.geteuid() == 0
        if self.root:
            os.seteuid(65534)

    def __exit__(self, *_: object) -> None:
        if self.root:
            os.seteuid(0)
        for path, mode in self.modes.items():
            path.chmod(mode)
        for path in self.parents:
            path.chmod(0o700)
