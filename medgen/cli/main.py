"""The `medgen` program: dispatches to one module per command and turns every error into one line and an exit code.

Exit codes: 0 done, 1 internal error (or `doctor` found a problem, or `check` a broken law), 2 a mistake of the user, 3 a plugin failed,
4 a non-finite loss, 130 interrupted.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO, cast

import medgen
from medgen.errors import MedgenError, NonFiniteError, PluginError, UnknownNameError

__all__ = ["COMMANDS", "main"]

_Runner = Callable[[list[str]], int]

# group -> command -> one line. A command is the module `medgen.cli.<command>`, with _ for -, and its `run(argv) -> exit code`.
COMMANDS: dict[str, dict[str, str]] = {
    "Look around": {
        "list": "families, datasets and metrics that are installed",
        "show": "what a family can do, its papers, and every field of its configuration",
        "doctor": "versions, plugins and why one failed, optional packages",
        "demo": "the whole path below in a few minutes, on images that medgen draws itself",
    },
    "Train and use a model": {
        "train": "train a family on your data, or resume a run",
        "sample": "draw samples from a run",
        "reject": "draw from a run's density within ranges or at a temperature, by rejection",
        "reconstruct": "encode and decode images with a run",
        "translate": "one contrast or modality from others with a run",
        "inpaint": "fill in regions of images with a run",
        "score": "log-density of images under a run",
    },
    "Judge it": {
        "evaluate": "metrics of a run against data, each with its recipe",
        "compare": "several runs on the same data in one table and one picture",
        "report": "one HTML file with pictures, curves, metrics and the model card",
    },
    "Write a family": {
        "new-plugin": "a package with a family of your own that installs, trains and keeps the laws, to start from",
        "check": "the laws that every family must keep, checked on yours",
    },
}

_EXAMPLES = """\
A first run, on images that medgen draws itself:
  medgen train vae --data cardiac_phantom --out runs/heart
  medgen sample runs/heart -n 16 --out samples --format png
  medgen report runs/heart

Where to go next:
  medgen list                 what can be trained
  medgen show vae             its options; each is also --model.NAME of `medgen train vae`
  medgen COMMAND --help       options and examples of one command
  medgen doctor               when a plugin or package seems to be missing
"""

_INTERRUPTED = """
medgen: interrupted. Nothing finished is lost: `medgen train --resume RUN` continues a training, and the same `medgen sample` command
continues where it stopped."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: words after the program's name; by default those of the process.

    Returns:
        The exit code.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    with _one_line_warnings():
        try:
            code = _dispatch(words)
            sys.stdout.flush()
        except SystemExit as stop:  # of argparse
            return _exit_code(stop)
        except BrokenPipeError:  # `medgen list | head`
            _silence_stdout()
            return 0
        except KeyboardInterrupt:
            print(_INTERRUPTED, file=sys.stderr)
            return 130
        except MedgenError as error:
            if debug:
                traceback.print_exc()
            print(f"medgen: error: {error}", file=sys.stderr)
            return _error_code(error)
        except Exception:
            traceback.print_exc()
            print(
                f"medgen: internal error in `medgen {' '.join(words)}` (medgen {medgen.__version__}): this is a bug; "
                "please report it with the traceback above.",
                file=sys.stderr,
            )
            return 1
        return code


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_help(), end="")
        return 0
    if words[0] in ("-V", "--version"):
        print(f"medgen {medgen.__version__}")
        return 0
    code: int = _runner(words[0])(words[1:])
    return code


def _runner(command: str) -> _Runner:
    """What runs a command: its module here, or the function that a plugin declares."""
    own = [name for group in COMMANDS.values() for name in group]
    if command in own:
        module = importlib.import_module(f"medgen.cli.{command.replace('-', '_')}")
        return cast(_Runner, module.run)
    from medgen.registry import find, resolve, suggestion

    try:
        found = find("medgen_commands", command)
    except UnknownNameError:
        if not difflib.get_close_matches(command, own):
            raise
        raise UnknownNameError(f"unknown command {command!r}{suggestion(command, own)} See `medgen --help`.") from None
    return cast(_Runner, resolve(found.spec.run, owner=f"command {found.owner}"))


def _help() -> str:
    lines = [
        "usage: medgen COMMAND [OPTIONS]",
        "",
        "Generative models of medical images, all trained and used in one way.",
        "",
    ]
    for group, commands in COMMANDS.items():
        lines += [f"{group}:", *(f"  {name:<12} {text}" for name, text in commands.items()), ""]
    from medgen.registry import get_host, shortest_names

    added = get_host().items("medgen_commands")
    if added:
        names = shortest_names("medgen_commands", added)
        lines += ["From plugins:", *(f"  {name:<12} {item.spec.summary}" for name, item in zip(names, added, strict=True)), ""]
    lines += [
        "Everywhere:",
        "  --help       options and examples",
        "  --version    of medgen",
        "  --debug      the traceback of an error",
        "",
    ]
    return "\n".join(lines) + "\n" + _EXAMPLES


def _error_code(error: MedgenError) -> int:
    if isinstance(error, PluginError):
        return 3
    return 4 if isinstance(error, NonFiniteError) else 2


def _exit_code(stop: SystemExit) -> int:
    if stop.code is None or isinstance(stop.code, int):
        return stop.code or 0
    print(stop.code, file=sys.stderr)
    return 1


def _silence_stdout() -> None:
    """Python flushes stdout once more at exit; let that go nowhere."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # stdout is not a file
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 (lives as long as the process)


@contextmanager
def _one_line_warnings() -> Iterator[None]:
    """Warnings of medgen are one line on stderr, without Python's source line; all others stay as they are."""
    with warnings.catch_warnings():
        usual = warnings.showwarning

        def show(
            message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None, line: str | None = None
        ) -> None:
            if category.__module__.partition(".")[0] != "medgen":
                return usual(message, category, filename, lineno, file, line)
            text = " ".join(str(message).split())
            print(text if text.startswith("medgen:") else f"medgen: warning: {text}", file=file or sys.stderr)
            return None

        warnings.showwarning = show
        yield


if __name__ == "__main__":
    sys.exit(main())
