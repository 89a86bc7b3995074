"""What the commands that work on a run share: its options and a progress bar."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from medgen.errors import ConfigError
from medgen.registry import require

__all__ = ["add_input", "add_run", "pairs", "progress_bar"]


def add_run(parser: argparse.ArgumentParser) -> None:
    """RUN, --device and --quiet."""
    parser.add_argument("run", metavar="RUN", help="run folder made by `medgen train`")
    parser.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda"), help="where to compute (default auto: a GPU where there is one)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")


def add_input(parser: argparse.ArgumentParser) -> None:
    """DATA or --split."""
    parser.add_argument(
        "data", nargs="?", metavar="DATA", help="file or folder, read as the training data was; without it a split of that data"
    )
    parser.add_argument("--split", default="val", choices=("train", "val", "test"), help="split of the run's own data (default val)")


def pairs(words: list[str] | None) -> dict[str, float]:
    """Words "name=number" as a mapping.

    Raises:
        ConfigError: a word of another form, or a name given twice.

    >>> pairs(["age=61", "dose=0.5"])
    {'age': 61.0, 'dose': 0.5}
    """
    out: dict[str, float] = {}
    for word in words or []:
        name, _, number = word.partition("=")
        if name in out:
            raise ConfigError(f"attribute {name!r} is given twice.")
        try:
            out[name] = float(number)
        except ValueError:
            raise ConfigError(f"attributes are given as name=number; got {word!r}.") from None
    return out


@contextmanager
def progress_bar(title: str, total: int | None, *, show: bool) -> Iterator[Callable[[int], None]]:
    """A bar on stderr, so that stdout stays for results; the function takes the number done. Silent where nobody watches."""
    if not show or not sys.stderr.isatty():
        yield lambda _done: None
        return
    rich, console = require("rich.progress", "cli"), require("rich.console", "cli").Console(stderr=True)
    columns = (
        rich.TextColumn("{task.description}"),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TimeElapsedColumn(),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns, console=console) as bar:
        task = bar.add_task(title, total=total)
        yield lambda done: bar.update(task, completed=done)
