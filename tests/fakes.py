"""Throw-away plugin distributions for tests: a site folder with real packages and real `.dist-info` metadata."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import medgen
from medgen.registry import Host, PluginWarning

_TESTED = Path(medgen.__file__).parents[1]  # the medgen of this process, which need not be the installed one

FAMILY = """\
import medgen

@medgen.hookimpl
def medgen_families():
    yield medgen.FamilySpec(
        name="{name}", interfaces=("generator",), model="{module}.model:Fake", config="{module}.config:FakeConfig"{more}
    )
"""

CONFIG = """\
from pydantic import Field
import medgen

class FakeConfig(medgen.Config):
    latent_dim: int = Field(4, ge=1, le=64, description="Size of the latent vector.")
    rate: float = Field(1e-05, gt=0, description="Step of the solver.")
"""


def family(name: str, module: str, more: str = "") -> str:
    """Source of a plugin module with one family."""
    return FAMILY.format(name=name, module=module, more=", " + more if more else "")


# The seven: one good, one duplicate of the good one's family (by another distribution), five broken in their own way.
SEVEN = {
    "fake-good": family("fake_vae", "fake_good"),
    "fake-import": "import a_module_that_nobody_has\n",
    "fake-raising": "import medgen\n\n@medgen.hookimpl\ndef medgen_families():\n    raise RuntimeError('the hook\\nbroke')\n",
    "fake-arguments": "import medgen\n\n@medgen.hookimpl\ndef medgen_families(size):\n    return []\n",
    "fake-invalid": family("Not A Name", "fake_invalid"),
    "fake-duplicate": family("fake_vae", "fake_duplicate"),
    "fake-newer": family("fake_future", "fake_newer", "api_version=99"),
}
BROKEN = ("fake-import", "fake-raising", "fake-arguments", "fake-invalid", "fake-newer")


@dataclass(frozen=True)
class Site:
    """A folder that stands on a path like site-packages.

    Args:
        path: of the folder.
    """

    path: Path

    def add(self, distribution: str, plugin: str, *, version: str = "1.0", entry_points: str = "", **modules: str) -> Site:
        """Install `distribution`; `plugin` is the source of its plugin module, `modules` are more modules of its package."""
        package = distribution.replace("-", "_")
        folder = self.path / package
        folder.mkdir(parents=True)
        for name, source in {"__init__": "", "plugin": plugin, "config": CONFIG, **modules}.items():
            (folder / f"{name}.py").write_text(textwrap.dedent(source))
        entry_points = entry_points or f"[medgen]\n{package} = {package}.plugin\n"
        self.metadata(distribution, entry_points, version=version)
        return self

    def metadata(self, distribution: str, entry_points: str, *, version: str = "1.0", lost: bool = False) -> None:
        """Only the `.dist-info`; `lost` leaves METADATA out, as an interrupted pip does."""
        info = self.path / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "entry_points.txt").write_text(entry_points)
        (info / "RECORD").write_text("")
        if not lost:
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n")

    def load(self, **options: Any) -> tuple[Host, list[str]]:
        """A host of this site's plugins only, in this process, and the warnings it gave. The site must be on `sys.path`."""
        found = [e for d in metadata.distributions(path=[str(self.path)]) for e in d.entry_points.select(group="medgen")]
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            host = Host(found, **options)
        return host, [str(w.message) for w in caught if w.category is PluginWarning]

    def python(self, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run code in a fresh Python that sees this site."""
        return self._run("-c", code, environment=environment)

    def medgen(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the command line in a fresh Python that sees this site; only plugins called fake-*, unless MEDGEN_PLUGINS is given."""
        return self._run("-m", "medgen.cli.main", *words, environment={"MEDGEN_PLUGINS": "fake-*", **environment})

    def _run(self, *words: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("MEDGEN_", "PYTHON"))}
        return subprocess.run(
            [sys.executable, *words],
            env={**clean, "PYTHONPATH": f"{self.path}{os.pathsep}{_TESTED}", **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
            cwd=self.path,
        )


def seven(path: Path) -> Site:
    """A site with the seven distributions of `SEVEN`."""
    site = Site(path)
    for distribution, plugin in SEVEN.items():
        site.add(distribution, plugin)
    return site


def forget() -> None:
    """Drop imported fake modules, so that the next test's are its own."""
    for name in [name for name in sys.modules if name.startswith("fake_")]:
        del sys.modules[name]


def states(host):
    """State of each distribution."""
    return {status.distribution: status.state for status in host.plugins}
