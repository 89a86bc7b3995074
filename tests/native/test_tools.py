"""The audits that CI runs: symbols of the libraries, registers and spills of the CUDA kernels, flags of CMake."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from medgen import native
from medgen.native.plan import ISAS, cpu_plan

ROOT = Path(__file__).parents[2]


def tool(name: str):
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


class TestSymbols:
    symbols = tool("symbols")

    @pytest.mark.parametrize(
        "name", ["aoti_torch_empty_strided", "torch_call_dispatcher", "__cudaLaunchKernel", "cudaGetLastError", "expf@GLIBC_2.27"]
    )
    def test_allowed(self, name):
        assert self.symbols.foreign([name], versioned=True) == []

    @pytest.mark.parametrize(
        "name", ["_ZN2at6TensoraSERKS0_", "_ZN3c106detail14torchCheckFailEPKcS2_jS2_", "PyLong_FromLong", "omp_get_num_threads"]
    )
    def test_refused(self, name):
        assert self.symbols.foreign([name], versioned=True) == [name]

    @pytest.mark.parametrize("name", ["_ZN2at6TensoraSERKS0_", "_ZN3c1010ValueErrorD1Ev", "_ZNK5torch8autograd4Node4nameEv"])
    def test_refused_in_an_object(self, name):
        assert self.symbols.foreign([name], versioned=False) == [name]

    def test_the_runtime_is_allowed_in_an_object(self):
        assert self.symbols.foreign(["_ZNSt13runtime_errorD1Ev", "_Znwm", "memcpy"], versioned=False) == []

    def test_our_own_may_take_torchs_types_from_one_object_to_another(self):
        assert self.symbols.foreign(["_ZN6medgen4sumsERKN5torch6stable6TensorE"], versioned=False) == []

    def test_the_library_is_clean(self):
        if any("sanitize" in flag for flag in native.policy().flags):
            pytest.skip("a sanitizer brings symbols of its own")
        if (outcome := native.load("cpu")).library is None or not shutil.which("nm"):
            pytest.skip(outcome.reason or "nm is not installed")
        found = self.symbols.undefined(outcome.library)
        assert any(name.startswith("torch_") for name in found)
        assert self.symbols.foreign(found, versioned=True) == []


PTXAS = """\
ptxas info    : Compiling entry function 'first' for 'sm_80'
ptxas info    : Function properties for first
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 26 registers, used 0 barriers, 397 bytes cmem[0]
ptxas info    : Compiling entry function 'second' for 'sm_80'
ptxas info    : Function properties for second
    40 bytes stack frame, 12 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 40 registers, used 0 barriers, 40 bytes cumulative stack size
ptxas info    : Function properties for __internal_trig_reduction_slowpathd
    0 bytes stack frame, 99 bytes spill stores, 99 bytes spill loads
ptxas info    : Compiling entry function 'first' for 'sm_90'
ptxas info    : Function properties for first
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 28 registers, used 0 barriers, 397 bytes cmem[0]
"""


class TestBudget:
    budget = tool("cuda_budget")

    def test_parse(self):
        assert self.budget.parse(PTXAS) == {"first": {"sm_80": [26, 0], "sm_90": [28, 0]}, "second": {"sm_80": [40, 20]}}

    def test_shrinking_is_fine(self):
        assert self.budget.compare({"a.cu": {"f": {"sm_80": [20, 0]}}}, {"a.cu": {"f": {"sm_80": [26, 4]}}}) == []

    @pytest.mark.parametrize("use", [[27, 4], [26, 5]])
    def test_growth_is_not(self, use):
        (line,) = self.budget.compare({"a.cu": {"f": {"sm_80": use}}}, {"a.cu": {"f": {"sm_80": [26, 4]}}})
        assert line.startswith(f"a.cu: f on sm_80 uses {use[0]} registers, spills {use[1]}; budget 26, 4")

    def test_new_and_gone(self):
        here, there = {"a.cu": {"new": {"sm_80": [1, 0]}}}, {"a.cu": {"old": {"sm_80": [1, 0]}}, "b.cu": {"other": {"sm_80": [1, 0]}}}
        assert self.budget.compare(here, there) == ["a.cu: new is not in the budget", "a.cu: old is gone", "b.cu: other is gone"]

    def test_the_text_is_json(self):
        now = {"a.cu": {"f<float>": {"sm_80": [1, 0]}, "g": {"sm_80": [2, 3], "sm_90": [1, 0]}}, "b.cu": {}}
        assert json.loads(self.budget._text("13.0", now)) == {"nvcc": "13.0", "files": now}

    def test_every_source_has_a_budget(self):
        files = json.loads((ROOT / "csrc" / "cuda" / "budget.json").read_text())["files"]
        assert sorted(files) == sorted(path.name for path in (ROOT / "csrc" / "cuda").glob("*.cu"))

    @pytest.mark.skipif(not shutil.which("c++filt"), reason="c++filt is not installed")
    def test_names_do_not_change_with_the_source(self):
        names = [
            f"_ZN6medgen45_GLOBAL__N__{hash_}_9_philox_cu_15267199_6834fillIlNS0_7WordsOfEEEvPT_PKlllmjT0_"
            for hash_ in ("3203995c", "12345678")
        ]
        assert [list(self.budget.readable({name: {}})) for name in names] == [["fill<long, WordsOf>"]] * 2


@pytest.mark.skipif(not (shutil.which("cmake") and shutil.which("c++")), reason="cmake or a compiler is not installed")
def test_cmake_compiles_what_the_plan_compiles(tmp_path):
    """The same kernels, as often, with the same flags."""
    subprocess.run(["cmake", "-S", ROOT, "-B", tmp_path], check=True, capture_output=True)
    commands = json.loads((tmp_path / "compile_commands.json").read_text())
    cmake = {}
    for entry in commands:
        words = entry["command"].split()
        for word in words:
            if word.startswith("-DMEDGEN_ISA=") and Path(entry["file"]).parent.name == "cpu":
                cmake[Path(entry["file"]).name, word] = set(words)
    units = [
        unit
        for unit in cpu_plan(ROOT / "csrc", compiler=("c++",), torch=Path("t"), isas=tuple(ISAS)).units
        if unit.source.parent.name == "cpu"
    ]
    assert len(cmake) == len(units) > 0
    for unit in units:
        (isa,) = (flag for flag in unit.flags if flag.startswith("-DMEDGEN_ISA="))
        assert set(unit.flags) - cmake[unit.source.name, isa] <= {"-fvisibility=hidden"}
