"""A build that fails: said once, remembered for a day, tried again on demand."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time

import pytest

from medgen import native
from medgen.errors import NativeOpsError, NativeOpsWarning


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

    def test_the_next_process_neither_compiles_nor_complains(self, broken):
        with pytest.warns(NativeOpsWarning):
            first = native.load("cpu")
        calls = broken.calls()
        broken.restart()
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
        broken.restart()
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
        broken.restart()
        monkeypatch.setenv("CXX", str(broken.compiler()))
        assert native.load("cpu").origin == "built"
        assert not record.exists()

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"reason": "x", "time": "y"}'])
    def test_a_damaged_record_is_none(self, broken, text):
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
        assert re.search(r"^  cpu +reference, because the build failed", done.stdout, flags=re.M)
        assert "op.cpp:3:1: error: what is this" in done.stdout
        assert "native ops" in done.stdout.splitlines()[-1]
