"""The first use of an op: what is built, loaded, remembered, and said, in every state of the machine."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import warnings
from importlib import metadata
from pathlib import Path

import pytest
import torch

from medgen import native
from medgen.errors import NativeOpsError, NativeOpsWarning, UnknownNameError
from medgen.native import jit, loader, toolchain
from medgen.native.plan import cpu_plan


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    """What a test does not expect, it shall not pass over."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", NativeOpsWarning)
        yield


def another_process(monkeypatch):
    """As far as the loader knows."""
    monkeypatch.setattr(loader, "_outcomes", {})


def python(code: str, **environment: str) -> subprocess.Popen[str]:
    """Another process in truth."""
    clean = {**os.environ, **environment}
    return subprocess.Popen(
        [sys.executable, "-c", code], env=clean, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


BUILD = "from medgen import native; w = native.policy(); print(native.build(native.plan_of('cpu', w), w.cache))"


class TestItWorks:
    def test_built_then_found(self, machine, monkeypatch):
        first = native.load("cpu")
        assert (first.origin, first.reason) == ("built", "")
        assert first.library.parent.parent == machine.cache / "ext"
        compiled = len(machine.calls())
        assert native.load("cpu") is first is native.loaded("cpu")
        another_process(monkeypatch)
        again = native.load("cpu")
        assert (again.origin, again.library) == ("cache", first.library)
        assert len(machine.calls()) == compiled
        assert machine.entries == [first.library.parent.name]  # no temporary folder stays

    def test_metadata_names_what_it_was_built_with(self, machine):
        record = json.loads((native.load("cpu").library.parent / "metadata.json").read_text())
        assert record["versions"]["torch"] == metadata.version("torch")
        assert record["versions"]["compiler"] == "fake 1.0"
        assert record["compiler"] == [os.environ["CXX"]]

    def test_another_torch_later_uses_the_same_library(self, machine, monkeypatch):
        """By the stable ABI: the library asks for torch 2.11 and runs on every later one."""
        first = native.load("cpu")
        another_process(monkeypatch)
        real = metadata.version
        monkeypatch.setattr(metadata, "version", lambda name: "9.9.0" if name == "torch" else real(name))
        monkeypatch.setattr(torch, "__version__", "9.9.0")
        again = native.load("cpu")
        assert (again.library, again.origin) == (first.library, "cache")

    def test_another_compiler_makes_another_library(self, machine, monkeypatch):
        first = native.load("cpu")
        another_process(monkeypatch)
        monkeypatch.setenv("CXX", str(machine.compiler(version="fake 2.0")))
        again = native.load("cpu")
        assert again.origin == "built"
        assert again.library != first.library

    def test_threads_build_once(self, machine):
        got = []
        threads = [threading.Thread(target=lambda: got.append(native.load("cpu"))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len({id(outcome) for outcome in got}) == 1
        assert machine.calls().count("libmedgen_cpu.so") == 1

    def test_two_processes_build_once(self, machine, monkeypatch):
        monkeypatch.setenv("CXX", str(machine.compiler('sleep 0.2; cp "{library}" "$out"')))
        both = [python(BUILD), python(BUILD)]
        printed = [process.communicate(timeout=60) for process in both]
        assert [process.returncode for process in both] == [0, 0], printed
        assert printed[0][0] == printed[1][0] != ""
        calls = machine.calls()
        assert len(calls) == len(set(calls))

    def test_the_compilers_own_words(self, machine, monkeypatch):
        """CXX may hold a command with words of its own, such as a compiler cache."""
        launcher = machine.folder / "launcher"
        launcher.write_text('#!/bin/sh\nexec "$@"\n')
        launcher.chmod(0o755)
        monkeypatch.setenv("CXX", f"{launcher} {machine.compiler()}")
        assert native.load("cpu").origin == "built"


class TestItIsKilled:
    def test_the_next_start_builds(self, machine, monkeypatch):
        slow = machine.compiler('touch "{folder}/reached"; sleep 60; cp "{library}" "$out"')
        process = python(BUILD, CXX=str(slow))
        try:
            deadline = time.monotonic() + 30
            while not (machine.folder / "reached").exists():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            process.kill()  # Python alone; its ninja and compilers live on, as they would
            process.wait()
            assert any(name.startswith(".") for name in machine.entries)
            monkeypatch.setenv("CXX", str(machine.compiler()))
            outcome = native.load("cpu")
            assert outcome.origin == "built"
            assert outcome.seconds < 30  # it did not wait for the dead one's lock
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
        assert outcome.library.parent.name in machine.entries

    def test_its_leavings_are_removed(self, machine):
        wanted = native.policy()
        plan = native.plan_of("cpu", wanted)
        left = machine.cache / "ext" / f".{plan.key}-left"
        left.mkdir(parents=True)
        (left / "half.o").write_text("half")
        native.load("cpu")
        assert machine.entries == [plan.key]

    def test_a_folder_without_metadata_is_no_library(self, machine):
        plan = native.plan_of("cpu", native.policy())
        folder = machine.cache / "ext" / plan.key
        folder.mkdir(parents=True)
        (folder / plan.filename).write_text("half")
        assert native.load("cpu").origin == "built"

    def test_ctrl_c_leaves_nothing(self, machine, monkeypatch):
        def interrupted(*_args, **_kwargs):
            raise KeyboardInterrupt

        monkeypatch.setattr(jit, "compile_into", interrupted)
        with pytest.raises(KeyboardInterrupt):
            native.load("cpu")
        assert machine.entries == []
        assert native.loaded("cpu") is None


class TestSourcesChange:
    """While they are compiled, as in a checkout that is being edited."""

    @pytest.fixture
    def plan(self, machine):
        csrc = machine.folder / "csrc"
        for name in ("cpu", "torch"):
            (csrc / name).mkdir(parents=True)
        (csrc / "cpu" / "op.cpp").write_text("int op;")
        return cpu_plan(csrc, compiler=(os.environ["CXX"],), torch=machine.folder, isas=("base",))

    @pytest.mark.parametrize("end", ['cp "{library}" "$out"', 'echo "op.cpp:1:2: error: half saved"; exit 1'])
    def test_nothing_is_kept(self, machine, plan, end):
        machine.compiler(f'echo "int edited;" > {{folder}}/csrc/cpu/op.cpp; {end}')
        with pytest.raises(native.BuildError, match=r"changed while they were compiled|half saved"):
            native.build(plan, machine.cache)
        assert machine.entries == []

    def test_the_key_is_taken_once(self, plan):
        before = plan.key
        (plan.root / "cpu" / "op.cpp").write_text("int edited;")
        assert plan.key == before != dataclasses.replace(plan).key


class TestItFails:
    @pytest.fixture
    def broken(self, machine, monkeypatch):
        monkeypatch.setenv("CXX", str(machine.compiler('echo "op.cpp:3:1: error: what is this" >&2; exit 1')))
        return machine

    def test_said_once_and_the_reference_runs(self, broken):
        with pytest.warns(NativeOpsWarning, match="the PyTorch reference runs. Why: medgen doctor"):
            outcome = native.load("cpu")
        assert native.load("cpu") is outcome  # in silence
        assert (outcome.library, outcome.origin) == (None, "none")
        assert "failed on medgen_cpu" in outcome.reason
        assert "op.cpp:3:1: error: what is this" in outcome.reason

    def test_the_next_process_neither_compiles_nor_complains(self, broken, monkeypatch):
        with pytest.warns(NativeOpsWarning):
            first = native.load("cpu")
        calls = broken.calls()
        another_process(monkeypatch)
        again = native.load("cpu")
        assert again.reason == first.reason
        assert broken.calls() == calls

    def test_the_first_error_is_shown_whatever_follows(self, broken, monkeypatch):
        body = 'echo "op.cpp:3:1: error: the cause" >&2; for n in 1 2 3 4 5 6 7 8 9; do echo "note\nnote\nnote $n" >&2; done; exit 1'
        monkeypatch.setenv("CXX", str(broken.compiler(body)))
        with pytest.warns(NativeOpsWarning):
            assert "the cause" in native.load("cpu").reason
        assert [name for name in broken.entries if name.endswith(".failed.json")]

    def test_tried_again_on_demand(self, broken, monkeypatch):
        with pytest.warns(NativeOpsWarning):
            native.load("cpu")
        another_process(monkeypatch)
        monkeypatch.setenv("CXX", str(broken.compiler()))
        assert native.load("cpu", retry=True).origin == "built"

    @pytest.mark.parametrize("words", ["c++: fatal error: Killed signal terminated program", "error: No space left on device"])
    def test_only_the_sources_fault_is_remembered(self, broken, monkeypatch, words):
        monkeypatch.setenv("CXX", str(broken.compiler(f'echo "{words}" >&2; exit 1')))
        with pytest.warns(NativeOpsWarning):
            assert words in native.load("cpu").reason
        assert broken.entries == []

    def test_tried_again_after_a_day(self, broken, monkeypatch):
        with pytest.warns(NativeOpsWarning):
            native.load("cpu")
        (record,) = (broken.cache / "ext").glob("*.failed.json")
        record.write_text(json.dumps({**json.loads(record.read_text()), "time": time.time() - 25 * 3600}))
        another_process(monkeypatch)
        monkeypatch.setenv("CXX", str(broken.compiler()))
        assert native.load("cpu").origin == "built"
        assert not record.exists()

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"reason": "x", "time": "y"}'])
    def test_a_damaged_record_is_none(self, broken, monkeypatch, text):
        with pytest.warns(NativeOpsWarning):
            native.load("cpu")
        (record,) = (broken.cache / "ext").glob("*.failed.json")
        record.write_text(text)
        assert native.locate("cpu", native.policy()).state == "buildable"

    def test_native_insists(self, broken, monkeypatch):
        monkeypatch.setenv("MEDGEN_OPS", "native")
        for _ in range(2):  # and never takes an earlier failure for an answer
            with pytest.raises(NativeOpsError, match=r"(?s)MEDGEN_OPS=native, but there are no native cpu ops: .*what is this"):
                native.load("cpu")
        monkeypatch.setenv("CXX", str(broken.compiler()))
        assert native.load("cpu").origin == "built"

    def test_a_library_that_cannot_be_loaded(self, machine, monkeypatch):
        monkeypatch.setenv("CXX", str(machine.compiler('echo rubbish > "$out"')))
        with pytest.warns(NativeOpsWarning):
            outcome = native.load("cpu")
        assert outcome.library is None
        assert "libmedgen_cpu.so cannot be loaded" in outcome.reason

    def test_doctor_says_why(self, broken):
        with pytest.warns(NativeOpsWarning):
            native.load("cpu")
        done = subprocess.run([sys.executable, "-m", "medgen", "doctor"], capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "  cpu       reference, because the build failed" in done.stdout
        assert "op.cpp:3:1: error: what is this" in done.stdout
        assert "native ops" in done.stdout.splitlines()[-1]


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
        printed, errors = python(code, **clean).communicate(timeout=120)
        assert (len(json.loads(printed)), errors) == (2, "")
        process = python("from medgen.cli import doctor; raise SystemExit(doctor.run([]))", **clean)
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "cpu       reference: no C++ compiler was found (c++, g++, clang++, or CXX)" in printed

    def test_the_compiler_named_is_absent(self, machine, monkeypatch):
        monkeypatch.setenv("CXX", "no-such-compiler -O3")
        assert native.load("cpu").reason == "the compiler named by CXX was not found (no-such-compiler)"

    def test_no_compiler_any_more(self, machine, monkeypatch):
        """Built on the login node, used on the others."""
        first = native.load("cpu")
        another_process(monkeypatch)
        monkeypatch.delenv("CXX")
        monkeypatch.setenv("PATH", str(machine.cache))
        again = native.load("cpu")
        assert (again.origin, again.library) == ("cache", first.library)

    def test_no_ninja(self, machine, monkeypatch):
        monkeypatch.setenv("PATH", str(machine.cache))
        monkeypatch.setitem(sys.modules, "ninja", None)
        with pytest.warns(NativeOpsWarning):
            assert "pip install ninja" in native.load("cpu").reason

    def test_a_cache_that_is_no_folder(self, machine, monkeypatch):
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

    def test_a_read_only_cache_with_the_library(self, machine, monkeypatch):
        first = native.load("cpu")
        another_process(monkeypatch)
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
        another_process(monkeypatch)
        monkeypatch.setenv("MEDGEN_OPS", "native")
        with pytest.raises(NativeOpsError, match="MEDGEN_JIT=0"):
            native.load("cpu")
        monkeypatch.setenv("MEDGEN_JIT", "1")
        assert native.load("cpu").origin == "built"
        another_process(monkeypatch)
        monkeypatch.setenv("MEDGEN_JIT", "0")
        assert native.load("cpu").origin == "cache"

    def test_reference(self, machine, monkeypatch):
        native.load("cpu")
        another_process(monkeypatch)
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
