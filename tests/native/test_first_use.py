"""The first use of an op: what is built and loaded, by threads and processes, by one that is killed, and while sources change."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import threading
import time
from importlib import metadata

import pytest
import torch

from medgen import native
from medgen.native import jit
from medgen.native.plan import cpu_plan

BUILD = "from medgen import native; w = native.policy(); print(native.build(native.plan_of('cpu', w), w.cache))"


class TestItWorks:
    def test_built_then_found(self, machine):
        first = native.load("cpu")
        assert (first.origin, first.reason) == ("built", "")
        assert first.library.parent.parent == machine.cache / "ext"
        compiled = len(machine.calls())
        assert native.load("cpu") is first is native.loaded("cpu")
        machine.restart()
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
        machine.restart()
        real = metadata.version
        monkeypatch.setattr(metadata, "version", lambda name: "9.9.0" if name == "torch" else real(name))
        monkeypatch.setattr(torch, "__version__", "9.9.0")
        again = native.load("cpu")
        assert (again.library, again.origin) == (first.library, "cache")

    def test_another_compiler_makes_another_library(self, machine, monkeypatch):
        first = native.load("cpu")
        machine.restart()
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
        both = [machine.python(BUILD), machine.python(BUILD)]
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
        process = machine.python(BUILD, CXX=str(slow))
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
