"""`medgen anatomy` is found, lists its commands and knows a mistyped one."""

from __future__ import annotations

import importlib

import pytest

from medgen.cli.main import main
from medgen_anatomy.cli.main import COMMANDS


def test_it_is_a_command_of_medgen(capsys):
    assert main(["--help"]) == 0
    assert "anatomy" in capsys.readouterr().out
    assert main(["anatomy", "--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"{name} " in out and text in out for name, text in COMMANDS.items())


def test_unknown_commands_are_one_line(capsys):
    assert main(["anatomy", "densifi"]) == 2
    assert "unknown command 'anatomy densifi'" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command, capsys):
    module = importlib.import_module(f"medgen_anatomy.cli.{command}")
    with pytest.raises(SystemExit) as stop:
        module.run(["--help"])
    assert stop.value.code == 0
    assert f"medgen anatomy {command}" in capsys.readouterr().out
