"""`import medgen` and the commands that look around load no torch; the lazy names are what they say."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import fakes
import pytest

import medgen

REPORT = "import sys\nprint('LOADED', *sorted(m for m in {heavy!r} if m in sys.modules))\n"
HEAVY = ("torch", "numpy", "scipy", "monai", "rich")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    return fakes.Site(tmp_path_factory.mktemp("site")).add("fake-good", fakes.SEVEN["fake-good"])


def loaded(site, code):
    done = site.python(code + "\n" + REPORT.format(heavy=HEAVY))
    assert done.returncode == 0, done.stderr
    return set(done.stdout.splitlines()[-1].split()[1:])


@pytest.mark.parametrize(
    "code",
    [
        "import medgen; medgen.list_families(); medgen.ImageSpec(channels=1, shape=(4,)); medgen.Config",
        *(f"from medgen.cli.main import main; main({words!r})" for words in ([], ["list"], ["list", "--metrics"], ["doctor"])),
        "from medgen.cli.main import main; assert main(['show', 'fake_vae']) == 0",
        "from medgen.cli.main import main; assert main(['show', 'fake_vae', '--yaml']) == 0",
    ],
)
def test_no_heavy_import(site, code):
    assert loaded(site, code) == set()


def test_import_medgen_loads_nothing_but_itself(site):
    assert loaded(site, "import medgen, sys; assert [m for m in sys.modules if m.startswith('medgen')] == ['medgen']") == set()


def test_a_name_that_needs_torch_loads_it(site):
    assert "torch" in loaded(site, "import medgen; medgen.Noise")


def exports():
    return vars(medgen)["_EXPORTS"]


@pytest.mark.parametrize("name", sorted(exports()))
def test_every_lazy_name_is_what_its_module_defines(name):
    module = importlib.import_module(exports()[name])
    assert getattr(medgen, name) is getattr(module, name)
    assert name in module.__all__


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(medgen.__file__).read_text())
    typed = {
        alias.asname: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == exports()


def test_unknown_name():
    assert set(dir(medgen)) == set(medgen.__all__)
    with pytest.raises(AttributeError, match="module 'medgen' has no attribute 'trian'"):
        medgen.trian  # noqa: B018
