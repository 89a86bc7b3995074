"""docs/plugins.md says what is written, lists every law, and its other snippets run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import fakes
import pytest

from medgen.cli.new_plugin import write_plugin
from medgen.testing import LAWS
from medgen.testing.law import GROUPS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "plugins.md").read_text()
BLOCKS = re.findall(r"^```(?:python|cpp)\n(?:#|//) (\S+(?: \S+)?)\n(.*?)^```$", TEXT, flags=re.M | re.S)
NEW = {name.removeprefix("new: "): code for name, code in BLOCKS if name.startswith("new: ")}
MODULE = ("module/plugin.py", "module/csrc/counts.cpp", "module/counts.py")
EXCERPTS = [(name, code) for name, code in BLOCKS if not name.startswith("new: ")]


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    return write_plugin("medgen-mine", into=tmp_path_factory.mktemp("plugin"), extension=True)


def test_every_snippet_names_its_file():
    assert len(BLOCKS) == len(re.findall(r"^```(?:python|cpp)$", TEXT, flags=re.M))
    assert set(NEW) == {"plugin.py", "config.py", "cli.py", "data.py", "metrics.py", "migrations.py", "setup.py", *MODULE}


@pytest.mark.parametrize(("name", "code"), EXCERPTS, ids=[f"{n} {name}" for n, (name, _) in enumerate(EXCERPTS)])
def test_excerpts_are_what_new_plugin_writes(written, name, code):
    assert code in (written / name).read_text()


@pytest.mark.parametrize("group", GROUPS)
def test_every_law_is_listed_in_its_group(group):
    (row,) = re.findall(rf"^\| {group} \| [^|]* \| (.*) \|$", TEXT, flags=re.M)
    assert re.findall(r"`(\w+)`", row) == [law.name for law in LAWS.values() if law.group == group]


def test_its_dataset_metric_and_command(tmp_path):
    site = fakes.Site(tmp_path).add("medgen-mine", NEW["plugin.py"], data=NEW["data.py"], metrics=NEW["metrics.py"], cli=NEW["cli.py"])
    only = {"MEDGEN_PLUGINS": "medgen-mine,medgen-autoencoders"}
    small = ("--steps", "2", "--model.channels", "4", "--model.latent_dim", "2", "--device", "cpu", "--quiet")
    assert site.medgen("list", "--datasets", "rings", **only).returncode == 0
    done = site.medgen("train", "ae", "--data", "rings?n=40&size=8", "--out", "run", *small, **only)
    assert done.returncode == 0, done.stderr
    done = site.medgen("evaluate", "run", "--metrics", "mean_gap", **only)
    assert done.returncode == 0, done.stderr
    assert "mean_gap" in done.stdout
    assert site.medgen("rings", "Anna", **only).stdout == "hello, Anna\n"
    assert "From plugins:\n  rings" in site.medgen("--help", **only).stdout


@pytest.mark.parametrize("ops", ["reference", pytest.param("native", marks=pytest.mark.slow)])
def test_its_module(tmp_path, ops):
    if ops == "native" and not shutil.which("c++"):
        pytest.skip("there is no C++ compiler")
    site = fakes.Site(tmp_path).add("medgen-mine", NEW[MODULE[0]], counts=NEW[MODULE[2]])
    (tmp_path / "medgen_mine" / "csrc").mkdir()
    (tmp_path / "medgen_mine" / "csrc" / "counts.cpp").write_text(NEW[MODULE[1]])
    code = "import numpy as np; from medgen_mine.counts import ones; print(ones(np.arange(10) > 6))"
    done = site.python(code, MEDGEN_PLUGINS="medgen-mine", MEDGEN_OPS=ops, MEDGEN_CACHE=str(tmp_path / "cache"))
    assert (done.stdout, done.returncode) == ("3\n", 0), done.stderr


def test_its_runtime_fields():
    scope: dict = {"__name__": __name__}
    exec(compile(NEW["config.py"], "config.py", "exec", dont_inherit=True), scope)
    values = {"temperature": 0.7, "sampler": "ddim"}
    assert scope["SamplerConfig"]().overridden(values).runtime_values() == values


def test_its_migration():
    scope: dict = {}
    exec(NEW["migrations.py"], scope)
    assert scope["MIGRATIONS"][1]({}, {"mean": 1, "lower": 2}) == ({}, {"location": 1, "lower": 2})


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("c++"), reason="there is no C++ compiler")
def test_its_wheel_with_a_library(tmp_path):
    folder = write_plugin("medgen-mine", into=tmp_path, extension=True)
    (folder / "setup.py").write_text(NEW["setup.py"])
    pip = [sys.executable, "-m", "pip", "wheel", "-q", "--no-index", "--no-deps", "--no-build-isolation", "-w", tmp_path, folder]
    done = subprocess.run(pip, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert {"medgen_mine/libmedgen_mine_ops_cpu.so", "medgen_mine/csrc/log_sech.cpp"} <= set(archive.namelist())
