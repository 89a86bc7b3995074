"""Runs that train in a fraction of a second, and the command line called within the process."""

from __future__ import annotations

import atexit
import contextlib
import functools
import io
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import medgen
from medgen.cli.main import main
from medgen.runs import Run

PHANTOM = "cardiac_phantom?n=60&size=16"
MODEL = {"latent_dim": 2, "channels": [4, 8], "blocks": 0}
TRAIN = (
    "--model.latent_dim",
    2,
    "--model.channels",
    4,
    8,
    "--model.blocks",
    0,
    "--steps",
    2,
    "--batch_size",
    8,
    "--device",
    "cpu",
    "--quiet",
)
VAE = ("train", "vae", "--data", PHANTOM, *TRAIN)
"""A whole command, but for its folder."""


@dataclass(frozen=True)
class Answer:
    """What a command did."""

    code: int
    out: str
    err: str


def cli(*words: object) -> Answer:
    """One command of `medgen`, in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(word) for word in words])
    return Answer(code, out.getvalue(), err.getvalue())


def ok(*words: object) -> str:
    """stdout of a command that must succeed."""
    answer = cli(*words)
    assert answer.code == 0, answer.err
    return answer.out


def refused(*words: object) -> str:
    """The error of a command that must fail as a user's mistake does: exit code 2, nothing on stdout, one line, no traceback."""
    answer = cli(*words)
    assert (answer.code, answer.out) == (2, ""), answer
    assert answer.err.startswith("medgen: error: "), answer.err
    assert answer.err.count("\n") == 1, answer.err
    return answer.err.removeprefix("medgen: error: ").rstrip("\n")


@functools.cache
def _scratch() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="medgen-tests-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def trained(family: str = "vae", data: str = PHANTOM, **options: Any) -> Path:
    """The folder of a run, trained once per process. Do not write into it: see `copied`."""
    name = f"{family}-{len(list(_scratch().iterdir()))}"
    return medgen.train(family, data, _scratch() / name, model=MODEL, steps=2, batch_size=8, device="cpu", show=False, **options).path


def copied(tmp_path: Path, family: str = "vae", **options: Any) -> Run:
    """A run of the test's own."""
    shutil.copytree(trained(family, **options), tmp_path / family)
    return Run.open(tmp_path / family)


def contents(folder: Path) -> dict[str, bytes]:
    """Relative path -> bytes of every file, hidden ones too."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def images(n: int = 40, size: int = 16, seed: int = 0) -> np.ndarray:
    """Seeded float32 noise."""
    return np.random.Generator(np.random.Philox(seed)).random((n, size, size), dtype=np.float32)
