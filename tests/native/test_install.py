"""Installed from a wheel, the checkout out of sight: built on first use, or ahead of time; and from an sdist, and editable."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("c++"), reason="there is no C++ compiler"),
]

USE = """
import json, torch, medgen, medgen.ops as ops
from medgen import native
value = ops.philox_normal(0, torch.tensor([0, 1]), (2,))
out, why = native.loaded("cpu"), native.why_not_native("philox_normal", value)
print(json.dumps([medgen.__file__, out.origin, str(out.library), out.reason, why, value.tolist()]))
"""


def source_tree(folder: Path) -> Path:
    """What git would give to somebody who clones now, plus what is not committed yet."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=False
    ).stdout.split("\0")
    wanted = ("medgen/", "csrc/", "setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "CMakeLists.txt")
    for name in listed:
        if name.startswith(wanted) and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    if not (folder / "setup.py").is_file():
        pytest.skip("this is no git checkout")
    return folder


def pip(*words: str | Path, **environment: str) -> None:
    clean = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INDEX": "1", **environment}
    done = subprocess.run([sys.executable, "-m", "pip", *map(str, words)], env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def wheel(source: Path, folder: Path, **environment: str) -> Path:
    pip("wheel", "-q", "--no-build-isolation", "--no-deps", "-w", folder, source, **environment)
    (found,) = folder.glob("medgen-*.whl")
    return found


def use(site: Path, cache: Path, **environment: str) -> list:
    """Draw noise in a fresh Python that imports medgen from `site`; what it printed."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("MEDGEN_", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-c", USE],
        env={**clean, "PYTHONPATH": str(site), "MEDGEN_CACHE": str(cache), **environment},
        cwd=site,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result[0].startswith(str(site))
    assert result[-1][0] == pytest.approx([0.9911, -0.9247], abs=1e-4)
    return result


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    return source_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="module")
def plain(tree, tmp_path_factory) -> Path:
    return wheel(tree, tmp_path_factory.mktemp("plain"))


def test_a_wheel_carries_its_sources_and_builds_on_first_use(plain, tmp_path):
    assert plain.name.endswith("-py3-none-any.whl")
    pip("install", "-q", "--no-deps", "--target", tmp_path / "site", plain)
    result = use(tmp_path / "site", tmp_path / "cache")
    assert result[1:5] == ["built", result[2], "", ""]
    assert use(tmp_path / "site", tmp_path / "cache")[1:3] == ["cache", result[2]]


def test_the_wheel_has_every_source_and_nothing_else(plain, tree):
    with zipfile.ZipFile(plain) as archive:
        inside = {name.removeprefix("medgen/_csrc/") for name in archive.namelist() if name.startswith("medgen/_csrc/")}
        assert not any(name.endswith(".so") for name in archive.namelist())
    kinds = {".h", ".cpp", ".cu", ".cuh"}
    parts = [tree / "csrc" / part for part in ("core", "cpu", "cuda", "torch")]
    assert inside == {path.relative_to(tree / "csrc").as_posix() for part in parts for path in part.iterdir() if path.suffix in kinds}


def test_the_wheel_has_the_plugin_template(plain, tree):
    folder = tree / "medgen" / "cli" / "plugin_template"
    with zipfile.ZipFile(plain) as archive:
        inside = {name.removeprefix("medgen/cli/plugin_template/") for name in archive.namelist() if "plugin_template/" in name}
    assert inside == {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} != set()


def test_ahead_of_time(tree, tmp_path):
    """One library for every processor, in a wheel for every Python of this platform; no compiler is needed to use it."""
    made = wheel(tree, tmp_path / "wheels", MEDGEN_BUILD="cpu")
    assert "-py3-none-" in made.name
    assert not made.name.endswith("-any.whl")
    pip("install", "-q", "--no-deps", "--target", tmp_path / "site", made)
    empty = tmp_path / "no-programs"
    empty.mkdir()
    result = use(tmp_path / "site", tmp_path / "cache", PATH=str(empty))
    assert result[1:5] == ["installed", str(tmp_path / "site" / "medgen" / "native" / "libmedgen_cpu.so"), "", ""]
    assert not (tmp_path / "cache").exists()
    names = subprocess.run(["nm", "-C", result[2]], capture_output=True, text=True, check=True).stdout
    for isa in ("v4", "v3", "base"):
        assert f"medgen::{isa}::normal_float" in names


def test_an_sdist_builds_the_same_wheel(tree, plain, tmp_path):
    code = "import setuptools.build_meta as b, sys; b.build_sdist(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, tmp_path], cwd=tree, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as file:
        file.extractall(tmp_path / "out", filter="data")
    (folder,) = (tmp_path / "out").iterdir()
    assert (folder / "CMakeLists.txt").is_file()
    assert (folder / "csrc" / "tests").is_dir()
    again = wheel(folder, tmp_path / "wheels")
    with zipfile.ZipFile(plain) as one, zipfile.ZipFile(again) as other:
        assert set(one.namelist()) == set(other.namelist())


def test_an_editable_install_finds_the_checkout(tree, tmp_path):
    pip("install", "-q", "--no-deps", "--no-build-isolation", "--editable", tree, "--target", tmp_path / "site", MEDGEN_BUILD="cpu")
    code = "import sys, site; site.addsitedir(sys.argv[1]); from medgen.native.toolchain import sources; print(sources())"
    clean = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    # the editable finder of the tests' own environment is left out by -S
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, tmp_path / "site"], env=clean, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == str(tree / "csrc"), done.stderr
    assert not list((tree / "medgen").rglob("*.so"))  # its sources change: it builds on first use


@pytest.mark.parametrize(("value", "needs"), [("", []), ("cpu", ["torch>=2.11", "ninja"]), ("cuda", ["torch>=2.11", "ninja"])])
def test_an_isolated_build_asks_for_torch_only_when_it_compiles(tree, value, needs):
    code = "import setuptools.build_meta as b, json; r = b.get_requires_for_build_wheel(); print(json.dumps(r))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tree, env={**os.environ, "MEDGEN_BUILD": value}, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout.splitlines()[-1]) == needs


def test_an_unknown_wish_is_refused(tree):
    done = subprocess.run(
        [sys.executable, "setup.py", "--name"],
        cwd=tree,
        env={**os.environ, "MEDGEN_BUILD": "gpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "MEDGEN_BUILD must be none, cpu or cuda; got 'gpu'" in done.stderr
