"""`medgen new-plugin NAME`: a complete distribution with one family, to be changed into one's own. Imports no torch."""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from string import Template

import medgen
from medgen.cli.common import make_parser
from medgen.cli.options import parse
from medgen.errors import ConfigError
from medgen.files import atomic_dir
from medgen.registry import get_host

__all__ = ["run", "write_plugin"]

_EXAMPLES = """\
  medgen new-plugin medgen-mine                      ./medgen-mine with the family `mine`
  medgen new-plugin medgen-mine --with-extension     and an op in C++ beside its PyTorch reference
  medgen new-plugin lung-models --family lung_ica --into ~/src

What is written works as it is: it installs, trains, samples, and keeps the laws. Then change it: docs/plugins.md.
"""

_TEMPLATES = Path(__file__).parent / "plugin_template"
_DISTRIBUTION = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")  # PEP 508
_FAMILY = re.compile(r"[a-z][a-z0-9_]*")
_RENAMED = {"gitignore": ".gitignore"}  # a file of that name would act on the template itself


def run(argv: Sequence[str]) -> int:
    """Write a plugin; returns the exit code."""
    parser = make_parser("new-plugin", "Write a complete plugin distribution with one working family.", _EXAMPLES)
    parser.add_argument("name", help="of the distribution, e.g. medgen-mine")
    parser.add_argument("--family", help="name of its family (default: NAME without medgen-)")
    parser.add_argument("--into", metavar="DIR", default=".", help="folder in which the folder NAME is made (default: the current one)")
    parser.add_argument("--with_extension", "--with-extension", action="store_true", help="add an op in C++ with its PyTorch reference")
    options = parse(parser, argv)
    target = write_plugin(options.name, family=options.family, into=options.into, extension=options.with_extension)
    names = _names(options.name, options.family)
    print(f"{target}: written. Next:")
    print(f"  pip install --no-build-isolation -e '{target}[dev]'")
    print(f"  medgen show {names['family']}")
    print(f"  medgen train {names['family']} --data 'cardiac_phantom?n=400&size=16' --steps 300")
    print(f"  medgen check {names['distribution']}")
    print(f"  pytest {target}")
    return 0


def write_plugin(name: str, *, family: str | None = None, into: str | Path = ".", extension: bool = False) -> Path:
    """Write the distribution `name` into the new folder `into`/`name`, whole or not at all; returns that folder.

    Args:
        name: of the distribution, as pip knows it.
        family: of its family; by default `name` without "medgen-".
        into: an existing folder.
        extension: with an op in C++.

    Raises:
        ConfigError: a name that cannot be or is taken, a folder that is there already or cannot hold it.
    """
    names = _names(name, family)
    _check_free(names)
    into = Path(into).expanduser()
    if not into.is_dir():
        raise ConfigError(f"--into must be an existing folder; got {into}.")
    target = into / name
    if target.exists() or target.is_symlink():
        raise ConfigError(f"{target} is there already; move it away, choose another name, or another folder with --into.")
    sech, ops = f"from {names['package']}.sech import ", f"from {names['package']}.ops import log_sech\n"
    names["imports"] = ops + sech + "draw" if extension else sech + "draw, log_sech"
    with atomic_dir(target) as folder:
        for part in ("base", "extension") if extension else ("base",):
            _render(_TEMPLATES / part, folder, names)
    return target


def _render(source: Path, folder: Path, names: dict[str, str]) -> None:
    """Every file of a template; one called FILE.append is added to the end of FILE."""
    for template in sorted(source.rglob("*.tmpl")):
        parts = [names["package"] if part == "PACKAGE" else part for part in template.relative_to(source).parts]
        last = parts[-1].removesuffix(".tmpl")
        appended, last = last.endswith(".append"), last.removesuffix(".append")
        path = folder.joinpath(*parts[:-1], _RENAMED.get(last, last))
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a" if appended else "x", encoding="utf-8") as file:
            file.write(Template(template.read_text(encoding="utf-8")).substitute(names))


def _names(name: str, family: str | None) -> dict[str, str]:
    """The names that the templates ask for.

    Raises:
        ConfigError: one cannot be.
    """
    if not _DISTRIBUTION.fullmatch(name):
        raise ConfigError(
            "the name of a distribution must be letters, digits, '-', '_' and '.', beginning and ending with a letter or digit; "
            f"got {name!r}."
        )
    package = re.sub(r"[-_.]+", "_", name).lower()
    if not package.isidentifier() or keyword.iskeyword(package):
        raise ConfigError(f"the name of a distribution must give a Python package; {name!r} gives {package!r}. Try 'medgen-{name}'.")
    chosen = package.removeprefix("medgen_") if family is None else family
    if not _FAMILY.fullmatch(chosen) or keyword.iskeyword(chosen):
        way = "" if family is not None else " Give one with --family."
        raise ConfigError(f"the name of a family must match [a-z][a-z0-9_]*, and be no word of Python; got {chosen!r}.{way}")
    return {
        "distribution": name,
        "package": package,
        "family": chosen,
        "Family": "".join(part.capitalize() for part in chosen.split("_")),
        "extension": f"{package}_ops",
        "medgen": medgen.__version__,
    }


def _check_free(names: dict[str, str]) -> None:
    """Neither the package nor the family is somebody else's.

    Raises:
        ConfigError: it is.
    """
    package, family = names["package"], names["family"]
    if package in sys.stdlib_module_names or importlib.util.find_spec(package) is not None:
        raise ConfigError(f"a Python package {package!r} is installed already; choose another name for the distribution.")
    for item in get_host().items("medgen_families"):
        if family in (item.spec.name, *item.spec.aliases):
            raise ConfigError(f"there is a family {family!r} already, in {item.distribution}; give another name with --family.")
