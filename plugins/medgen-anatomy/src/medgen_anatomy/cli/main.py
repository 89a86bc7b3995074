"""`medgen anatomy COMMAND`: dispatches to one module per command. Imports no torch."""

from __future__ import annotations

import importlib
from collections.abc import Sequence

from medgen.errors import UnknownNameError
from medgen.registry import suggestion

__all__ = ["COMMANDS", "run"]

# command -> one line. A command is the module `medgen_anatomy.cli.<command>` and its `run(argv) -> exit code`.
COMMANDS: dict[str, str] = {
    "densify": "valid shapes in the latent space of a run, millions of them",
    "correct": "label maps that violate criteria become the nearest valid shapes",
    "indices": "clinical indices of the left ventricle from two label volumes",
    "smooth": "sequences of label maps made consistent in time",
}


def run(argv: Sequence[str]) -> int:
    """Run one command of `medgen anatomy`; returns the exit code."""
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_help(), end="")
        return 0
    if argv[0] not in COMMANDS:
        raise UnknownNameError(f"unknown command 'anatomy {argv[0]}'{suggestion(argv[0], COMMANDS)} See `medgen anatomy --help`.")
    module = importlib.import_module(f"medgen_anatomy.cli.{argv[0]}")
    code: int = module.run(argv[1:])
    return code


def _help() -> str:
    lines = ["usage: medgen anatomy COMMAND [OPTIONS]", "", "Shapes that are anatomically valid, by construction.", ""]
    return "\n".join([*lines, *(f"  {name:<10} {text}" for name, text in COMMANDS.items()), "", "Each has --help with examples."]) + "\n"
