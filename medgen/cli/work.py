"""What the commands that work on a run share: its options and a progress bar."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from medgen.cli.options import add_config, given, parse, parse_known
from medgen.errors import ConfigError, MedgenError
from medgen.registry import find_family, require

if TYPE_CHECKING:
    from medgen.registry.config import Config
    from medgen.runs import Run

__all__ = ["add_evaluation", "add_input", "add_run", "evaluation_options", "on_data", "open_run", "pairs", "parse_run", "progress_bar"]

_MODEL = "--model."
_EVALUATION = (
    "n", "split", "limit", "metrics", "extractor", "resize", "importance_samples", "bootstrap", "seed", "draws", "segmenter",
)  # fmt: skip

_ELSEWHERE: dict[str, dict[str, Any]] = {
    "key": {"help": "npz array with the targets"},
    "channels": {"nargs": "+", "type": int, "help": "their channels to keep"},
    "source": {"nargs": "+", "help": "npz arrays, columns of a table of files, or files and folders with the sources"},
    "source_channels": {"nargs": "+", "type": int, "help": "their channels to keep"},
    "pairing": {"choices": ("auto", "name", "subject", "unpaired"), "help": "how files of both go together"},
    "regions": {"nargs": "+", "help": "masks of regions"},
    "select": {"help": "pattern of the file names to read in a folder"},
    "columns": {"nargs": "+", "help": "column of a table with the files of the targets"},
    "subjects": {"help": "npz array, column, or regex with one group on file names"},
    "test_subjects": {"nargs": "+", "help": "subjects of the split test; the others are then for train and val"},
    "val_subjects": {"nargs": "+", "help": "subjects of the split val"},
}
"""Fields of `DataConfig` that say where things are in other data; not made from it, since help must not wait for torch."""


def add_run(parser: argparse.ArgumentParser) -> None:
    """RUN, --device and --quiet."""
    parser.add_argument("run", metavar="RUN", help="run folder made by `medgen train`")
    parser.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda"), help="where to compute (default auto: a GPU where there is one)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")


def parse_run(parser: argparse.ArgumentParser, argv: Sequence[str]) -> tuple[argparse.Namespace, dict[str, Any]]:
    """`parse`, with options --model.NAME for the configuration of RUN's family; also returns those that were given.

    Whether they may be given is for `Config.overridden` to say; `--help` shows those that may.

    Raises:
        ConfigError: see `parse`; or --model.NAME before RUN.
    """
    words = [word for word in argv if word not in ("-h", "--help")]
    before = words[: next((k for k, word in enumerate(words) if word.startswith(_MODEL)), None)]
    fields: list[str] = []
    if len(before) < len(words):
        if all(word.startswith("-") for word in before):
            raise ConfigError(f"RUN comes before {words[len(before)]}: its family says which options there are.")
        fields = _add_model(parser, _config_of(parse_known(parser, before)[0].run))
    elif len(words) < len(argv):
        parser.epilog = f"{parser.epilog}\nName a run to see the options of its model: {parser.prog} RUN --help"
        with suppress(MedgenError):  # no RUN, or none that opens: help shows what every run takes
            fields = _add_model(parser, _config_of(parse_known(parser, before)[0].run))
    options = parse(parser, argv)
    return options, given(options, "model.", fields)


def open_run(options: argparse.Namespace, overrides: Mapping[str, Any] | None = None) -> Run:
    """The run that the options name, its model on the device that they name."""
    from medgen.runs import Run

    run = Run.open(options.run, **(overrides or {}))
    run.model.to(run.device(options.device))
    return run


def _config_of(run: str) -> type[Config]:
    from medgen.factory import config_class
    from medgen.runs import Run

    return config_class(find_family(Run.open(run).config.family))


def _add_model(parser: argparse.ArgumentParser, config: type[Config]) -> list[str]:
    """An option for every field, visible for those that can be overridden; returns their names."""
    rows = list(config.rows())
    fixed = [row.name for row in rows if not row.runtime]
    add_config(parser, config, "model (not given: as trained)", prefix="model.", hide=fixed)
    return [row.name for row in rows]


def add_input(parser: argparse.ArgumentParser) -> None:
    """DATA or --split."""
    parser.add_argument(
        "data", nargs="?", metavar="DATA", help="file or folder, read as the training data was; without it a split of that data"
    )
    parser.add_argument("--split", default="val", choices=("train", "val", "test"), help="split of the run's own data (default val)")


def add_evaluation(parser: argparse.ArgumentParser) -> None:
    """The options of `medgen.evaluate`."""
    parser.add_argument("-n", type=int, help="generated samples (default: as many as real ones)")
    parser.add_argument("--split", choices=("train", "val", "test"), help="real samples to compare with (default val; test with --data)")
    parser.add_argument("--limit", type=int, default=1000, help="real samples at most (default 1000)")
    parser.add_argument("--metrics", nargs="+", metavar="NAME", help="default: all that fit (`medgen list --metrics`)")
    parser.add_argument("--extractor", help="shipped name, TorchScript file, or package.module:callable")
    parser.add_argument("--resize", type=int, nargs="+", metavar="SIZE", help="spatial size before features are taken")
    parser.add_argument("--importance_samples", type=int, default=1, help="of the log-density (default 1: the ELBO)")
    parser.add_argument("--bootstrap", type=int, default=200, help="resamples of the intervals (default 200)")
    parser.add_argument("--seed", type=int, default=0, help="of samples and intervals (default 0)")
    parser.add_argument("--draws", type=int, default=1, help="translations of a stochastic translator, whose mean is judged (default 1)")
    parser.add_argument("--segmenter", help="package.module:function that finds lesions in targets and translations")
    parser.add_argument("--data", help="other data than the run's: pairs for a translator that was trained without")
    group = parser.add_argument_group("with --data, whose shape and intensity are made those of the training")
    for name, how in _ELSEWHERE.items():
        group.add_argument(f"--{name}", default=argparse.SUPPRESS, **how)


def evaluation_options(options: argparse.Namespace) -> dict[str, Any]:
    """Those options, as `medgen.evaluate` takes them."""
    split = options.split or ("val" if options.data is None else "test")
    return {**{name: getattr(options, name) for name in _EVALUATION}, "split": split}


def on_data(run: Run, options: argparse.Namespace) -> Run:
    """The run, on other data where the options name some.

    Raises:
        ConfigError: options of data without --data.
    """
    values = given(options, "", _ELSEWHERE)
    if options.data is not None:
        return run.on(options.data, **values)
    if values:
        raise ConfigError(f"--{next(iter(values))} says how other data is read; give --data too.")
    return run


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
