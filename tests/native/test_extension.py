"""A plugin's own sources: found through the hook, built like medgen's, and never in anybody's way."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import fakes
import pytest

from medgen.errors import ConfigError
from medgen.native import ToolchainError
from medgen.native.extension import Extension
from medgen.native.plan import cuda_plan, extension_plan
from medgen.registry import ExtensionSpec

PLUGIN = """\
import medgen

@medgen.hookimpl
def medgen_extensions():
    yield medgen.ExtensionSpec(name="fake_ops", package="{package}", sources=("csrc/triple.cpp",), module="{package}.ops")
"""
OPS = """\
import torch
from medgen.ops import OpLibrary

OPS = OpLibrary("fake_ops")
triple = OPS.define("triple(Tensor x) -> Tensor", reference=lambda x: 3 * x, fake=torch.empty_like)
"""
# medgen's headers are found as well as the plugin's own; one more than the reference, so that a test sees which of them ran
SOURCE = """\
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include "core/exp.h"
#include "csrc/factor.h"

torch::stable::Tensor triple(const torch::stable::Tensor& x) {
  torch::stable::Tensor y = torch::stable::empty_like(x);
  for (std::int64_t i = 0; i < x.numel(); ++i)
    static_cast<float*>(y.mutable_data_ptr())[i] = kFactor * static_cast<const float*>(x.const_data_ptr())[i] + medgen::fast_exp(0.0f);
  return y;
}

STABLE_TORCH_LIBRARY_IMPL(fake_ops, CPU, m) { m.impl("triple", TORCH_BOX(&triple)); }
"""
USE = """
import json, torch
from {package}.ops import triple
from medgen import native
x = torch.ones(2)
value, outcome = triple(x), native.loaded("cpu", "fake_ops")
print(json.dumps([value.tolist(), outcome.origin, str(outcome.library), outcome.reason, native.why_not_native("fake_ops::triple", x)]))
"""
NATIVE, REFERENCE = [4.0, 4.0], [3.0, 3.0]


def install(site: fakes.Site, package: str = "fake_native", source: str = SOURCE, plugin: str = PLUGIN) -> fakes.Site:
    site.add(package.replace("_", "-"), plugin.format(package=package), ops=OPS)
    folder = site.path / package / "csrc"
    folder.mkdir()
    (folder / "triple.cpp").write_text(source)
    (folder / "factor.h").write_text("#pragma once\nconstexpr float kFactor = 3.0f;\n")
    return site


def use(site: fakes.Site, package: str = "fake_native", **environment: str) -> tuple[list, str]:
    done = site.python(USE.format(package=package), **{"MEDGEN_PLUGINS": "fake-*", "MEDGEN_CACHE": str(site.path / "cache"), **environment})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("c++"), reason="there is no C++ compiler")
class TestBuilt:
    def test_on_first_use_and_then_from_the_cache(self, tmp_path):
        site = install(fakes.Site(tmp_path))
        assert "fake_ops cpu" in site.medgen("doctor").stdout
        result, _ = use(site)
        assert result == [NATIVE, "built", result[2], "", ""]
        assert result[2].startswith(str(tmp_path / "cache"))
        assert use(site)[0] == [NATIVE, "cache", result[2], "", ""]
        # without a compiler too, as on the nodes of a cluster
        assert use(site, CXX="no-such-compiler")[0] == [NATIVE, "cache", result[2], "", ""]
        (tmp_path / "fake_native" / "csrc" / "factor.h").write_text("constexpr float kFactor = 5.0f;\n")
        assert use(site)[0][:2] == [[6.0, 6.0], "built"]

    def test_doctor_lists_its_ops(self, tmp_path):
        site = install(fakes.Site(tmp_path))
        done = site.medgen("doctor", "--ops", "--json")  # in the usual cache, where medgen's own library is
        assert (done.returncode, done.stderr) == (0, "")
        ops = json.loads(done.stdout)["ops"]
        assert ops["ops"]["fake_ops::triple"] == {"cpu": "", "cuda": "extension 'fake_ops' has no sources for cuda (.cu)"}
        assert ops["libraries"]["fake_ops cpu"]["state"] in ("built", "cache")

    def test_a_compile_error_is_said_once_and_the_reference_runs(self, tmp_path):
        site = install(fakes.Site(tmp_path), source=SOURCE.replace("kFactor *", "kFaktor *"))
        result, err = use(site)
        assert result[:3] == [REFERENCE, "none", "None"]
        assert "kFaktor" in result[3]
        assert "the native cpu ops of extension 'fake_ops' are not to be had" in err
        again, err = use(site)  # remembered, in silence
        assert (again[0], "NativeOpsWarning" in err) == (REFERENCE, False)
        done = site.medgen("doctor", MEDGEN_CACHE=str(tmp_path / "cache"))
        assert done.returncode == 1
        assert "kFaktor" in done.stdout

    def test_ahead_of_time(self, tmp_path):
        site = install(fakes.Site(tmp_path))
        build = (
            "from pathlib import Path; from medgen import native; folder = Path('fake_native').resolve(); out = Path('out'); out.mkdir()\n"
            "plugin = native.Extension('fake_ops', folder, (folder / 'csrc/triple.cpp',))\n"
            "plan = native.plan_of('cpu', native.policy(), every_isa=True, extension=plugin)\n"
            "print(native.compile_into(plan, out).rename(folder / 'libfake_ops_cpu.so'))"
        )
        done = site.python(build)
        assert done.returncode == 0, done.stderr
        result, _ = use(site, CXX="no-such-compiler")
        assert result == [NATIVE, "installed", done.stdout.strip(), "", ""]


class TestNotBuilt:
    def test_no_compiler(self, tmp_path):
        result, err = use(install(fakes.Site(tmp_path)), CXX="no-such-compiler")
        why = "the compiler named by CXX was not found (no-such-compiler)"
        assert (result, err) == ([REFERENCE, "none", "None", why, why], "")  # the ordinary case: in silence

    def test_reference_on_request(self, tmp_path):
        assert use(install(fakes.Site(tmp_path)), MEDGEN_OPS="reference")[0][3] == "MEDGEN_OPS=reference"

    def test_sources_that_are_not_installed(self, tmp_path):
        site = install(fakes.Site(tmp_path))
        (tmp_path / "fake_native" / "csrc" / "triple.cpp").unlink()
        result, _ = use(site)
        assert result[0] == REFERENCE
        assert (
            "triple.cpp of extension 'fake_ops' of fake-native 1.0 is not installed; its pyproject.toml must list it as package data"
            in result[3]
        )

    def test_a_package_that_is_not_installed(self, tmp_path):
        site = install(fakes.Site(tmp_path), plugin=PLUGIN.replace('package="{package}"', 'package="fake_nothing"'))
        assert "names the package 'fake_nothing', which is not installed" in use(site)[0][3]

    def test_nobody_declares_it(self, tmp_path):
        site = install(fakes.Site(tmp_path), plugin=PLUGIN.replace('"fake_ops"', '"other_ops"'))
        assert "unknown extension 'fake_ops'" in use(site)[0][3]

    def test_two_plugins_declare_it(self, tmp_path):
        site = install(install(fakes.Site(tmp_path)), "fake_other")
        assert "declared by several distributions" in use(site)[0][3]

    def test_native_insists_where_there_are_sources(self, tmp_path):
        site = install(fakes.Site(tmp_path))
        code = "import torch; from fake_native.ops import triple; from medgen import native; {}"
        insist = {"MEDGEN_OPS": "native", "CXX": "no-such-compiler", "MEDGEN_PLUGINS": "fake-*", "MEDGEN_CACHE": str(tmp_path / "cache")}
        done = site.python(code.format("triple(torch.ones(1))"), **insist)
        assert "NativeOpsError: MEDGEN_OPS=native, but there are no native cpu ops of extension 'fake_ops'" in done.stderr
        done = site.python(code.format("print(native.load('cuda', extension='fake_ops').reason)"), **insist)
        assert done.stdout.strip() == "extension 'fake_ops' has no sources for cuda (.cu)", done.stderr

    def test_a_module_of_ops_that_cannot_be_imported(self, tmp_path):
        site = install(fakes.Site(tmp_path), plugin=PLUGIN.replace('module="{package}.ops"', 'module="{package}.opps"'))
        done = site.medgen("doctor", "--ops", MEDGEN_OPS="reference")
        assert done.returncode == 1
        assert "the ops of fake_ops cannot be defined: ModuleNotFoundError" in done.stdout


class TestPlan:
    def sources(self, folder: Path) -> Extension:
        (folder / "a").mkdir(parents=True)
        for name in ("a/op.cpp", "op.cpp", "op.cu"):
            (folder / name).write_text("//")
        return Extension("fake", folder, tuple(folder / name for name in ("a/op.cpp", "op.cpp", "op.cu")))

    def test_cuda_sources_have_a_library_of_their_own(self, tmp_path):
        plugin = self.sources(tmp_path / "package")
        (tmp_path / "csrc" / "cuda").mkdir(parents=True)
        base = cuda_plan(tmp_path / "csrc", nvcc=("nvcc",), torch=Path("/somewhere/torch"))
        plan = extension_plan(base, "fake", plugin.folder, plugin.sources_for("cuda"), archs=("90",))
        assert plan.filename == "libfake_cuda.so"
        (unit,) = plan.units
        assert unit.source.name == "op.cu"
        assert "arch=compute_90,code=sm_90" in unit.flags
        assert f"-I{plugin.folder}" in plan.ninja()
        assert f"-I{tmp_path / 'csrc'}" in plan.ninja()

    def test_objects_are_unique_and_headers_of_both_enter_the_key(self, tmp_path):
        plugin = self.sources(tmp_path / "package")
        (tmp_path / "csrc" / "cuda").mkdir(parents=True)
        base = cuda_plan(tmp_path / "csrc", nvcc=("nvcc",), torch=Path("/somewhere/torch"))

        def content():
            plan = extension_plan(base, "fake", plugin.folder, plugin.sources_for("cpu"))
            assert len({unit.object for unit in plan.units}) == len(plan.units) == 2
            return plan.content

        seen = {content()}
        for header in (plugin.folder / "mine.h", tmp_path / "csrc" / "theirs.h"):
            header.write_text("// more")
            seen.add(content())
        assert len(seen) == 3

    def test_nothing_for_a_device(self, tmp_path):
        plugin = Extension("fake", tmp_path, (tmp_path / "op.cpp",))
        with pytest.raises(ToolchainError, match="no sources for cuda"):
            plugin.sources_for("cuda")


@pytest.mark.parametrize("source", ["op.h", "/abs/op.cpp", "../op.cpp", "op.py"])
def test_sources_are_inside_the_package(source):
    with pytest.raises(ConfigError, match="files inside its package"):
        ExtensionSpec(name="fake", package="p", sources=(source,))


@pytest.mark.parametrize("name", ["medgen", "aten", "Fake"])
def test_names_that_are_no_namespaces(name):
    with pytest.raises(ConfigError):
        ExtensionSpec(name=name, package="p", sources=("op.cpp",))


def test_ops_are_defined_once():
    from medgen.ops import OpLibrary

    OpLibrary("defined_once")
    with pytest.raises(ConfigError, match="defined already"):
        OpLibrary("defined_once")
    with pytest.raises(ConfigError, match="cannot be the namespace of ops"):
        OpLibrary("aten")
