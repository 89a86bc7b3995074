"""The program: dispatch, exit codes, one-line errors, warnings, interruption."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import types
import warnings

import pytest

import medgen
from medgen import errors
from medgen.cli.main import COMMANDS, main
from medgen.registry import PluginWarning

NAMES = [name for group in COMMANDS.values() for name in group]


@pytest.fixture
def command(monkeypatch):
    """Puts a function in the place of `medgen score`."""

    def install(function):
        module = types.ModuleType("medgen.cli.score")
        module.run = function
        monkeypatch.setitem(sys.modules, "medgen.cli.score", module)

    return install


def fail_with(error):
    def run(argv):
        raise error

    return run


class TestHelp:
    @pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
    def test_teaches(self, words, capsys):
        assert main(words) == 0
        text = capsys.readouterr().out
        for name, line in (pair for group in COMMANDS.values() for pair in group.items()):
            assert f"  {name:<12} {line}\n" in text
        for group in COMMANDS:
            assert f"{group}:\n" in text
        for hint in ("medgen train vae", "Where to go next", "medgen COMMAND --help", "--debug"):
            assert hint in text

    def test_version(self, capsys):
        assert main(["--version"]) == 0
        assert capsys.readouterr().out == f"medgen {medgen.__version__}\n"

    @pytest.mark.parametrize("name", NAMES)
    def test_every_command_has_help_with_examples(self, name, capsys):
        assert main([name, "--help"]) == 0
        text = capsys.readouterr().out
        assert f"medgen {name}" in text
        assert "examples" in text.lower()

    @pytest.mark.parametrize("name", NAMES)
    def test_every_command_is_a_module_with_run(self, name):
        assert callable(importlib.import_module(f"medgen.cli.{name.replace('-', '_')}").run)


class TestErrors:
    def test_unknown_command(self, capsys):
        assert main(["trian"]) == 2
        out, err = capsys.readouterr()
        assert (out, err) == ("", "medgen: error: unknown command 'trian'; did you mean 'train'? See `medgen --help`.\n")

    @pytest.mark.parametrize(
        "name", [name for name in errors.__all__ if issubclass(getattr(errors, name), errors.MedgenError) and name != "MedgenError"]
    )
    def test_one_line_and_exit_code(self, command, capsys, name):
        command(fail_with(getattr(errors, name)("`x` must be 1; got 2.")))
        code = main(["score", "anything"])
        assert code == {"PluginError": 3, "NonFiniteError": 4}.get(name, 2)
        assert capsys.readouterr() == ("", "medgen: error: `x` must be 1; got 2.\n")

    @pytest.mark.parametrize("words", [["--debug", "score"], ["score", "--debug"], ["score", "a", "--debug", "b"]])
    def test_debug_anywhere_shows_the_traceback(self, command, capsys, words):
        seen = []

        def run(argv):
            seen.extend(argv)
            raise errors.DataError("bad file")

        command(run)
        assert main(words) == 2
        text = capsys.readouterr().err
        assert text.startswith("Traceback")
        assert text.endswith("medgen: error: bad file\n")
        assert "--debug" not in seen

    def test_any_other_error_is_a_bug(self, command, capsys):
        command(fail_with(ZeroDivisionError("oops")))
        assert main(["score", "RUN"]) == 1
        text = capsys.readouterr().err
        assert text.startswith("Traceback")
        assert "ZeroDivisionError: oops" in text
        assert "medgen: internal error in `medgen score RUN`" in text.splitlines()[-1]
        assert "please report" in text

    def test_interrupted(self, command, capsys):
        command(fail_with(KeyboardInterrupt()))
        assert main(["score"]) == 130
        text = capsys.readouterr().err
        assert "medgen train --resume RUN" in text
        assert "Traceback" not in text

    def test_wrong_option(self, capsys):
        assert main(["list", "--colour"]) == 2
        assert "unrecognized arguments: --colour" in capsys.readouterr().err

    @pytest.mark.parametrize(("raised", "code"), [(SystemExit(), 0), (SystemExit(5), 5), (SystemExit("stopped"), 1)])
    def test_exit_of_a_command(self, command, raised, code):
        command(fail_with(raised))
        assert main(["score"]) == code

    @pytest.mark.parametrize("code", [0, 1, 7])
    def test_code_of_a_command(self, command, code):
        command(lambda argv: code)
        assert main(["score"]) == code

    def test_words_reach_the_command(self, command):
        seen = []
        command(lambda argv: seen.extend(argv) or 0)
        main(["score", "RUN", "--n", "3"])
        assert seen == ["RUN", "--n", "3"]


class TestWarnings:
    @pytest.fixture(autouse=True)
    def shown(self):
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            yield

    def test_of_medgen_are_one_line(self, command, capsys):
        def run(argv):
            warnings.warn("medgen: plugin x\nis left out", PluginWarning, stacklevel=1)
            return 0

        command(run)
        assert main(["score"]) == 0
        assert capsys.readouterr().err == "medgen: plugin x is left out\n"

    def test_of_others_stay(self, command, monkeypatch):
        shown = []
        monkeypatch.setattr(warnings, "showwarning", lambda *arguments: shown.append(arguments[0]))
        command(lambda argv: warnings.warn("not ours", UserWarning, stacklevel=1) or 0)
        main(["score"])
        assert [str(message) for message in shown] == ["not ours"]

    def test_the_process_gets_its_own_back(self, command):
        before = warnings.showwarning
        command(lambda argv: 0)
        main(["score"])
        assert warnings.showwarning is before


def test_closed_pipe_is_quiet():
    """`medgen list | true`: the reader is gone before the first line is written."""
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as gone:
        words = [sys.executable, "-m", "medgen.cli.main", "list"]
        done = subprocess.run(words, stdout=gone, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_installed_program():
    program = os.path.join(os.path.dirname(sys.executable), "medgen")
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, f"medgen {medgen.__version__}\n")
