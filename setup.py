"""Build script: everything is declared in pyproject.toml; MEDGEN_BUILD=cpu|cuda compiles the native ops ahead of time."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from setuptools import Distribution, find_namespace_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).parent))
from medgen import native  # the standard library alone

DEVICES = {"": (), "none": (), "cpu": ("cpu",), "cuda": ("cpu", "cuda")}
WANTED = os.environ.get("MEDGEN_BUILD", "")
if WANTED not in DEVICES:
    sys.exit(f"MEDGEN_BUILD must be none, cpu or cuda; got {WANTED!r}")


class BuildWithOps(build_py):
    """Puts the libraries beside medgen/native; an editable install builds on first use, because its sources change."""

    def run(self) -> None:
        super().run()
        for device in () if self.editable_mode else DEVICES[WANTED]:
            plan = native.plan_of(device, native.policy(), every_isa=True)
            with tempfile.TemporaryDirectory() as folder:
                shutil.copy2(native.compile_into(plan, Path(folder)), Path(self.build_lib) / "medgen" / "native")


class PlatformWheel(bdist_wheel):
    """One wheel for every Python: the libraries know torch's stable ABI only."""

    def get_tag(self) -> tuple[str, str, str]:
        return ("py3", "none", super().get_tag()[2])


class WithOps(Distribution):
    """A distribution with libraries belongs to its platform."""

    def has_ext_modules(self) -> bool:
        return bool(DEVICES[WANTED])


setup(
    distclass=WithOps,
    packages=[*find_namespace_packages(include=["medgen*"]), "medgen._csrc"],
    package_dir={"medgen._csrc": "csrc"},
    cmdclass={"build_py": BuildWithOps, "bdist_wheel": PlatformWheel},
    # asked for by pip before an isolated build; any torch from 2.11 gives the same library
    setup_requires=["torch>=2.11", "ninja"] if DEVICES[WANTED] else [],
)
