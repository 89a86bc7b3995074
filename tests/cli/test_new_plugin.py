"""`medgen new-plugin`: what it writes, what it refuses, and that a stranger's machine installs, trains and checks it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest
import tiny

import medgen
from medgen.cli import new_plugin
from medgen.cli.new_plugin import write_plugin

ROOT = Path(medgen.__file__).parents[1]
BASE = {
    ".gitignore",
    "README.md",
    "pyproject.toml",
    "src/medgen_mine/__init__.py",
    "src/medgen_mine/config.py",
    "src/medgen_mine/model.py",
    "src/medgen_mine/plugin.py",
    "src/medgen_mine/sech.py",
    "tests/test_laws.py",
    "tests/test_model.py",
}
EXTENSION = {"src/medgen_mine/csrc/log_sech.cpp", "src/medgen_mine/ops.py", "tests/test_ops.py"}


class TestWritten:
    @pytest.mark.parametrize(("words", "files"), [([], BASE), (["--with-extension"], BASE | EXTENSION)])
    def test_files(self, elsewhere, words, files):
        out = tiny.ok("new-plugin", "medgen-mine", *words)
        found = tiny.contents(Path("medgen-mine"))
        assert set(found) == files
        assert "medgen check medgen-mine" in out
        for name, content in found.items():
            assert b"$" not in content, name  # every name was put in
        assert b'mine = "medgen_mine.plugin"' in found["pyproject.toml"]

    def test_names(self, tmp_path):
        tiny.ok("new-plugin", "Lung.Models", "--family", "lung_ica", "--into", tmp_path)
        found = tiny.contents(tmp_path / "Lung.Models")
        assert b'name = "Lung.Models"' in found["pyproject.toml"]
        assert b"class LungIca(Generator" in found["src/lung_models/model.py"]
        assert b'family = "Lung.Models/lung_ica"' in found["tests/test_laws.py"]

    @pytest.mark.parametrize("extension", [False, True])
    @pytest.mark.parametrize(("name", "family"), [("medgen-mine", None), ("a-distribution-with-a-long-name", "family_with_a_long_name")])
    def test_the_code_is_clean(self, tmp_path, name, family, extension):
        folder = write_plugin(name, family=family, into=tmp_path, extension=extension)
        for words in (["check"], ["format", "--diff"]):
            done = subprocess.run(
                [sys.executable, "-m", "ruff", *words, "--no-cache", "."], cwd=folder, capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr

    @pytest.mark.slow
    def test_its_types_are_right(self, tmp_path):
        folder = write_plugin("medgen-mine", into=tmp_path, extension=True)
        done = subprocess.run(
            [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml", "--cache-dir", tmp_path / "cache", folder / "src"],
            cwd=ROOT,
            env={**os.environ, "MYPYPATH": str(folder / "src")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def test_files_of_a_model_stay_small(self):
        for path in new_plugin._TEMPLATES.rglob("*.tmpl"):
            assert len(path.read_text().splitlines()) < 120, path


class TestRefused:
    @pytest.mark.parametrize(
        ("words", "problem"),
        [
            (["medgen mine"], "the name of a distribution must be letters"),
            (["x-"], "the name of a distribution must be letters"),
            (["../mine"], "the name of a distribution must be letters"),
            (["3d-models"], "'3d-models' gives '3d_models'"),
            (["class"], "'class' gives 'class'. Try 'medgen-class'"),
            (["medgen-3d"], "got '3d'. Give one with --family"),
            (["medgen-mine", "--family", "Mine"], "got 'Mine'."),
            (["medgen-mine", "--family", "lambda"], "be no word of Python"),
            (["json"], "a Python package 'json' is installed already"),
            (["Numpy"], "a Python package 'numpy' is installed already"),
            (["medgen"], "a Python package 'medgen' is installed already"),
            (["medgen-vae"], "there is a family 'vae' already, in medgen-autoencoders"),
            (["medgen-mine", "--family", "autoencoder"], "there is a family 'autoencoder' already"),
            (["medgen-mine", "--into", "nowhere"], "--into must be an existing folder; got nowhere"),
        ],
    )
    def test_names_and_folders(self, elsewhere, words, problem):
        assert problem in tiny.refused("new-plugin", *words)
        assert list(Path().iterdir()) == []

    @pytest.mark.parametrize("kind", ["folder", "file", "dangling link"])
    def test_what_is_there_stays(self, elsewhere, kind):
        target = Path("medgen-mine")
        if kind == "folder":
            target.mkdir()
        elif kind == "file":
            target.write_text("mine")
        else:
            target.symlink_to("nowhere")
        assert "medgen-mine is there already" in tiny.refused("new-plugin", "medgen-mine")
        assert [path.name for path in Path().iterdir()] == ["medgen-mine"]
        assert not target.is_file() or target.read_text() == "mine"

    def test_nothing_partial_is_left(self, tmp_path, monkeypatch):
        def fail(source, folder, names):
            (folder / "half").write_text("")
            raise OSError("the disk is full")

        monkeypatch.setattr(new_plugin, "_render", fail)
        with pytest.raises(OSError, match="full"):
            write_plugin("medgen-mine", into=tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_an_interrupted_write_leaves_no_folder(self, tmp_path, monkeypatch):
        def interrupt(source, folder, names):
            raise KeyboardInterrupt

        monkeypatch.setattr(new_plugin, "_render", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_plugin("medgen-mine", into=tmp_path)
        assert list(tmp_path.iterdir()) == []


@dataclass(frozen=True)
class Stranger:
    """Somebody else's environment: a new one over the packages of this one, into which the plugin is installed by pip, offline."""

    folder: Path
    plugin: Path

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    def run(self, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MEDGEN_", "PYTHON", "PYTEST"))}
        return subprocess.run(
            [self.python, *map(str, words)],
            cwd=self.plugin,
            env={**clean, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def ok(self, *words: str | Path, **environment: str) -> str:
        done = self.run(*words, **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def medgen(self, *words: str | Path, **environment: str) -> str:
        return self.ok("-m", "medgen", *words, **environment)


@pytest.fixture(scope="module")
def stranger(tmp_path_factory) -> Stranger:
    folder = tmp_path_factory.mktemp("stranger")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
    made = Stranger(folder / "env", write_plugin("medgen-stranger", into=folder, extension=True))
    here = sysconfig.get_path("purelib")
    (site,) = (folder / "env" / "lib").glob("python*/site-packages")
    (site / "_parent.pth").write_text(f"import site; site.addsitedir({here!r})\n")  # torch is not installed again
    pip = [sys.executable, "-m", "pip", "--python", made.python, "install", "-q", "--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run([*pip, "-e", made.plugin], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return made


BLOCKED = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ImportError("torch is blocked")

sys.meta_path.insert(0, Block())
from medgen.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
class TestInstalled:
    def test_it_is_listed_without_torch(self, stranger):
        row = stranger.ok("-c", BLOCKED, "list", "stranger").splitlines()[1].split()
        assert row[:6] == ["stranger", "medgen-stranger", "generator,density,latent", "0,1,2,3", "exact", "label"]
        assert "smallest_sd" in stranger.ok("-c", BLOCKED, "show", "stranger")
        with pytest.raises(AssertionError, match="torch is blocked"):
            stranger.ok("-c", BLOCKED, "train", "stranger", "--data", "gaussians8")

    def test_it_trains_and_samples(self, stranger, tmp_path):
        data = "cardiac_phantom?n=60&size=12"
        stranger.medgen("train", "stranger", "--data", data, "--steps", "20", "--out", tmp_path / "run", "--quiet", "--device", "cpu")
        stranger.medgen("sample", tmp_path / "run", "-n", "3", "--label", "cycle", "--out", tmp_path / "samples", "--format", "png")
        assert len(list((tmp_path / "samples").glob("*.png"))) == 3
        assert "log p =" in stranger.medgen("score", tmp_path / "run", "--quiet")
        assert "exact" in stranger.medgen("show", "stranger")

    def test_it_keeps_the_laws_of_check_and_of_its_own_tests(self, stranger):
        counts = re.search(r"^medgen-stranger/stranger: (\d+) passed, (\d+) skipped in", stranger.medgen("check", "medgen-stranger"), re.M)
        assert int(counts[1]) > 35  # and none failed: the command would say so
        out = stranger.ok("-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider")
        assert "passed" in out.splitlines()[-1]

    def test_golden_files(self, stranger, tmp_path):
        stranger.medgen("check", "stranger", "--write-golden", tmp_path)
        assert "passed" in stranger.medgen("check", "stranger", "--golden", tmp_path, "--only", "golden_file_holds")

    def test_its_op_is_built_and_used(self, stranger):
        report = stranger.run("-m", "medgen", "doctor", "--ops").stdout
        line = next(line for line in report.splitlines() if "medgen_stranger_ops cpu" in line)
        if "no C++ compiler" in report:
            pytest.skip("there is no C++ compiler")
        assert "native, built" in line
        row = next(line for line in report.splitlines() if line.startswith("medgen_stranger_ops::log_sech"))
        assert row.split()[1] == "native"

    def test_without_a_compiler_the_reference_runs(self, stranger, tmp_path):
        without = {"CXX": "no-such-compiler", "MEDGEN_CACHE": str(tmp_path)}
        out = stranger.ok("-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider", "tests/test_ops.py", "tests/test_model.py", **without)
        assert "no-such-compiler" in out  # the one skip says why
        assert "medgen_stranger_ops cpu   reference: the compiler named by CXX" in stranger.medgen("doctor", **without)
