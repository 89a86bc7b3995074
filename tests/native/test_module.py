"""A plugin's pybind11 module: built on first use, cached per Python, imported without torch; where it cannot be had, it is said why."""

from __future__ import annotations

import json
import shutil
import sysconfig

import fakes
import pytest

from medgen.errors import ConfigError
from medgen.native.extension import Extension
from medgen.native.plan import module_plan
from medgen.registry import ExtensionSpec

pytest.importorskip("pybind11", reason="pybind11 is not installed")

PLUGIN = """\
import medgen

@medgen.hookimpl
def medgen_extensions():
    yield medgen.ExtensionSpec(name="fake_module", package="fake_native", sources=("csrc/twice.cpp",), kind="module")
"""
SOURCE = """\
#include <pybind11/pybind11.h>

#include "factor.h"

PYBIND11_MODULE(fake_module, m) { m.def("twice", [](int x) { return kFactor * x; }); }
"""
USE = """
import json, sys
from medgen import native
module = native.load_module("fake_module")
again = native.load_module("fake_module") is module
outcome = native.loaded("cpu", "fake_module")
value = None if module is None else module.twice(4)
print(json.dumps([value, outcome.origin, str(outcome.library), outcome.reason, again, "torch" in sys.modules]))
"""


def install(site: fakes.Site, source: str = SOURCE) -> fakes.Site:
    site.add("fake-native", PLUGIN)
    folder = site.path / "fake_native" / "csrc"
    folder.mkdir()
    (folder / "twice.cpp").write_text(source)
    (folder / "factor.h").write_text("#pragma once\nconstexpr int kFactor = 2;\n")
    return site


def use(site: fakes.Site, **environment: str) -> tuple[list, str]:
    done = site.python(USE, **{"MEDGEN_PLUGINS": "fake-*", "MEDGEN_CACHE": str(site.path / "cache"), **environment})
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("c++"), reason="there is no C++ compiler")
class TestBuilt:
    def test_on_first_use_then_from_the_cache_and_anew_when_a_header_changes(self, tmp_path):
        site = install(fakes.Site(tmp_path))
        line = "native, not built yet"
        assert line in site.medgen("doctor", MEDGEN_PLUGINS="fake-*", MEDGEN_CACHE=str(tmp_path / "cache")).stdout
        (value, origin, library, reason, again, torch), _ = use(site, MEDGEN_CXXFLAGS="-Werror")
        assert (value, origin, reason, again, torch) == (8, "built", "", True, False)
        assert library.startswith(str(tmp_path / "cache"))
        assert library.endswith(f"libfake_module_{sysconfig.get_config_var('SOABI')}.so")
        assert use(site, MEDGEN_CXXFLAGS="-Werror")[0][:3] == [8, "cache", library]
        # without a compiler too
        assert use(site, MEDGEN_CXXFLAGS="-Werror", CXX="no-such-compiler")[0][:3] == [8, "cache", library]
        (tmp_path / "fake_native" / "csrc" / "factor.h").write_text("constexpr int kFactor = 3;\n")
        assert use(site, MEDGEN_CXXFLAGS="-Werror")[0][:2] == [12, "built"]

    def test_a_compile_error_is_said_once_and_there_is_no_module(self, tmp_path):
        site = install(fakes.Site(tmp_path), SOURCE.replace("kFactor", "kFaktor"))
        (value, origin, _, reason, again, _), err = use(site)
        assert (value, origin, again) == (None, "none", True)
        assert "kFaktor" in reason
        assert "the native module of extension 'fake_module' is not to be had, the Python reference runs" in err
        assert "NativeOpsWarning" not in use(site)[1]  # remembered, in silence
        done = site.medgen("doctor", MEDGEN_PLUGINS="fake-*", MEDGEN_CACHE=str(tmp_path / "cache"))
        assert done.returncode == 1
        assert "kFaktor" in done.stdout
        done = site.python("from medgen import native; native.load_module('fake_module')", MEDGEN_OPS="native", MEDGEN_PLUGINS="fake-*")
        assert "NativeOpsError: MEDGEN_OPS=native, but there is no native module of extension 'fake_module'" in done.stderr

    def test_a_module_of_another_name_is_an_error_that_names_the_file(self, tmp_path):
        site = install(fakes.Site(tmp_path), SOURCE.replace("PYBIND11_MODULE(fake_module", "PYBIND11_MODULE(other_module"))
        (value, _, _, reason, _, _), err = use(site)
        assert value is None
        assert "cannot be imported" in reason
        assert "PyInit_fake_module" in reason
        assert "NativeOpsWarning" in err

    def test_doctor_builds_it_and_lists_no_ops_of_it(self, tmp_path):
        site = install(fakes.Site(tmp_path))
        done = site.medgen("doctor", "--ops", "--json", MEDGEN_PLUGINS="fake-*")  # in the usual cache, where medgen's own library is
        assert (done.returncode, done.stderr) == (0, "")
        ops = json.loads(done.stdout)["ops"]
        assert ops["libraries"]["fake_module cpu"]["state"] in ("built", "cache")
        assert "fake_module cuda" not in ops["libraries"]
        assert not any(op.startswith("fake_module") for op in ops["ops"])

    def test_ahead_of_time(self, tmp_path):
        site = install(fakes.Site(tmp_path))
        build = (
            "from pathlib import Path; from medgen import native; folder = Path('fake_native').resolve(); out = Path('out'); out.mkdir()\n"
            "plugin = native.Extension('fake_module', folder, (folder / 'csrc/twice.cpp',), 'module')\n"
            "plan = native.plan_of('cpu', native.policy(), every_isa=True, extension=plugin)\n"
            "print(native.compile_into(plan, out).rename(folder / plugin.filename('cpu')))"
        )
        done = site.python(build)
        assert done.returncode == 0, done.stderr
        assert use(site, CXX="no-such-compiler")[0][:3] == [8, "installed", done.stdout.strip()]


class TestNotBuilt:
    def test_no_compiler(self, tmp_path):
        result, err = use(install(fakes.Site(tmp_path)), CXX="no-such-compiler")
        assert result[:4] == [None, "none", "None", "the compiler named by CXX was not found (no-such-compiler)"]
        assert err == ""  # the ordinary case: in silence

    def test_reference_on_request(self, tmp_path):
        assert use(install(fakes.Site(tmp_path)), MEDGEN_OPS="reference")[0][3] == "MEDGEN_OPS=reference"

    def test_no_pybind11(self, tmp_path):
        site = install(fakes.Site(tmp_path))
        hide = (
            "import importlib.util as u; find = u.find_spec\nu.find_spec = lambda name, *p: None if name == 'pybind11' else find(name, *p)"
        )
        done = site.python(hide + USE, MEDGEN_PLUGINS="fake-*", MEDGEN_CACHE=str(tmp_path / "cache"))
        assert json.loads(done.stdout)[3] == "pybind11 is not installed; pip install pybind11"


def test_ops_are_not_imported_as_a_module(monkeypatch):
    from medgen import native
    from medgen.native import loader

    outcome = native.Outcome("cpu", __file__, "cache")
    monkeypatch.setattr(loader, "_outcomes", {("cpu", "some_ops"): outcome})
    with pytest.raises(ConfigError, match="must be of kind 'module'"):
        native.load_module("some_ops")


def test_the_spec_refuses_what_a_module_cannot_be():
    with pytest.raises(ConfigError, match=r"\.cpp and \.cc sources only"):
        ExtensionSpec(name="fake", package="p", sources=("a.cu",), kind="module")
    with pytest.raises(ConfigError, match="no `module`"):
        ExtensionSpec(name="fake", package="p", sources=("a.cpp",), kind="module", module="p.ops")
    with pytest.raises(ConfigError, match="'ops' or 'module'"):
        ExtensionSpec(name="fake", package="p", sources=("a.cpp",), kind="library")  # type: ignore[arg-type]


def test_the_content_of_a_module_says_for_which_python(tmp_path):
    (tmp_path / "a.cpp").write_text("//")
    contents = {
        module_plan(f"fake_{soabi}", tmp_path, (tmp_path / "a.cpp",), compiler=(), folders=(), versions={}).content
        for soabi in ("cpython-311", "cpython-312")
    }
    assert len(contents) == 2
    assert sysconfig.get_config_var("SOABI") in Extension("fake", tmp_path, (), "module").filename("cpu")
