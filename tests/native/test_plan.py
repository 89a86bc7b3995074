"""The plan: what the key sees, and that any path survives ninja and the shell."""

from __future__ import annotations

import dataclasses
import platform
import subprocess
from pathlib import Path

import pytest

from medgen.errors import ConfigError
from medgen.native import policy
from medgen.native.jit import compile_into
from medgen.native.plan import ISAS, Plan, Unit, cpu_plan, cuda_plan, host_isas
from medgen.native.toolchain import sources

TORCH = Path("/somewhere/torch")


def tree(folder: Path) -> Path:
    """A small csrc."""
    for name in ("core", "cpu", "torch", "cuda"):
        (folder / name).mkdir(parents=True)
    (folder / "core" / "a.h").write_text("// a")
    (folder / "cpu" / "op.cpp").write_text("int op;")
    (folder / "torch" / "op_cpu.cpp").write_text("int glue;")
    (folder / "cuda" / "op.cu").write_text("int kernel;")
    return folder


def plan(csrc: Path, **changes) -> Plan:
    return cpu_plan(csrc, **{"compiler": ("c++",), "torch": TORCH, "versions": {"compiler": "1"}, **changes})


class TestKey:
    def test_no_path_enters_it(self, tmp_path):
        """Neither the checkout's, nor torch's, nor the compiler's: the same sources make the same library."""
        here, there = tree(tmp_path / "here"), tree(tmp_path / "there")
        assert plan(here).key == plan(there, torch=Path("/else/where/torch"), compiler=("/opt/bin/c++",)).key

    @pytest.mark.parametrize(
        ("file", "text"),
        [("cpu/op.cpp", "int other;"), ("torch/op_cpu.cpp", "int other;"), ("core/a.h", "// b"), ("cpu/a.h", "// a"), ("cpu/new.cpp", "")],
    )
    def test_every_source_and_header_enters_it(self, tmp_path, file, text):
        before = plan(tree(tmp_path)).key
        (tmp_path / file).write_text(text)
        assert plan(tmp_path).key != before

    @pytest.mark.parametrize("change", [{"isas": ("base",)}, {"extra": ("-Werror",)}, {"versions": {"compiler": "2"}}])
    def test_flags_and_compiler_enter_it(self, tmp_path, change):
        assert plan(tree(tmp_path), **change).key != plan(tmp_path).key

    def test_a_header_elsewhere_is_another_header(self, tmp_path):
        before = plan(tree(tmp_path)).key
        (tmp_path / "core" / "a.h").rename(tmp_path / "cpu" / "a.h")
        assert plan(tmp_path).key != before

    def test_content_is_the_key_without_the_compiler(self, tmp_path):
        one, other = plan(tree(tmp_path)), plan(tmp_path, versions={"compiler": "2"}, compiler=())
        assert one.content == other.content
        assert one.key.startswith(one.content)


class TestUnits:
    def test_a_kernel_per_instruction_set_and_the_glue_once(self, tmp_path):
        made = plan(tree(tmp_path))
        assert [unit.object for unit in made.units] == ["op.v4.o", "op.v3.o", "op.base.o", "torch_op_cpu.o"]
        assert all(f"-DMEDGEN_HAVE_{isa.upper()}=1" in made.units[-1].flags for isa in ISAS)

    def test_other_processors_have_the_baseline_only(self, tmp_path, monkeypatch):
        monkeypatch.setattr(platform, "machine", lambda: "aarch64")
        assert [unit.object for unit in plan(tree(tmp_path)).units] == ["op.base.o", "torch_op_cpu.o"]

    @pytest.mark.parametrize(("flags", "isas"), [(set(), ("base",)), ({"avx2"}, ("base",)), ({"avx512f"}, ("base",))])
    def test_half_an_instruction_set_is_none(self, flags, isas):
        assert host_isas(flags) == isas

    def test_cuda_has_code_for_each_architecture_and_ptx_of_the_last(self, tmp_path):
        made = cuda_plan(tree(tmp_path), nvcc=("nvcc",), torch=TORCH, archs=("80", "90"))
        flags = " ".join(made.units[0].flags)
        for code in ("code=sm_80", "code=sm_90", "arch=compute_90,code=compute_90"):
            assert code in flags

    @pytest.mark.parametrize("flag", ["-ffast-math", "-Ofast", "-use_fast_math", "-march=native"])
    def test_flags_that_change_other_peoples_numbers_are_absent(self, flag):
        every = [*plan(sources()).units, *cuda_plan(sources(), nvcc=("nvcc",), torch=TORCH).units]
        assert every
        assert not any(flag in unit.flags for unit in every)

    def test_object_names_are_unique(self):
        names = [unit.object for unit in plan(sources()).units]
        assert len(names) == len(set(names)) > 3


def test_awkward_paths(tmp_path, a_library):
    """Spaces, dollars, colons and quotes in folders and flags reach the compiler as they are."""
    folder = tmp_path / "it's a $HOME: folder"
    headers = tmp_path / "more $headers"
    build = tmp_path / "b u i l d"
    for made in (folder, headers, build):
        made.mkdir()
    (folder / "x.cpp").write_text('#include "own.h"\n#include <their.h>\nconst char* text = TEXT; int x = own + their;')
    (folder / "own.h").write_text("constexpr int own = 1;")
    (headers / "their.h").write_text("constexpr int their = 1;")
    unit = Unit(folder / "x.cpp", "x.o", ("-fPIC", '-DTEXT="a $b"'))
    library = compile_into(Plan("awkward", ("c++",), (unit,), folder, (headers,), (headers,), ("-shared",)), build)
    assert b"a $b" in library.read_bytes()


def test_plans_are_values(tmp_path):
    made = plan(tree(tmp_path))
    assert made == plan(tmp_path)
    assert dataclasses.replace(made, name="other").filename == "libother.so"


class TestPolicy:
    def test_defaults(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", str(tmp_path))
        wanted = policy({})
        assert (wanted.ops, wanted.jit, wanted.archs, wanted.flags, wanted.cxx) == ("auto", True, (), (), ())
        assert wanted.cache == tmp_path / ".cache" / "medgen"

    def test_cache_beside_the_users_other_caches(self):
        assert policy({"XDG_CACHE_HOME": "/x"}).cache == Path("/x/medgen")
        assert policy({"XDG_CACHE_HOME": "/x", "MEDGEN_CACHE": "/y"}).cache == Path("/y")

    @pytest.mark.parametrize("text", ["80,90", "80;90", "80 90", " 80 , 90 "])
    def test_architectures(self, text):
        assert policy({"MEDGEN_CUDA_ARCHS": text}).archs == ("80", "90")

    def test_words(self):
        wanted = policy({"CXX": "ccache g++", "MEDGEN_CXXFLAGS": "-Werror '-DA=b c'", "MEDGEN_JIT": "0"})
        assert (wanted.cxx, wanted.flags, wanted.jit) == (("ccache", "g++"), ("-Werror", "-DA=b c"), False)

    def test_unknown(self):
        with pytest.raises(ConfigError, match="MEDGEN_OPS must be auto, native or reference; got 'fast'"):
            policy({"MEDGEN_OPS": "fast"})


def test_the_standard_library_is_enough():
    """setup.py and `medgen doctor` import this package."""
    import sys

    code = "import sys, medgen.native; print({'torch', 'numpy', 'pydantic', 'pluggy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
