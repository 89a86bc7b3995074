"""`medgen score RUN [DATA]`: log-density of images under a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medgen.cli.common import make_parser
from medgen.cli.work import add_input, add_run, open_run, parse_run, progress_bar
from medgen.errors import ConfigError

__all__ = ["run"]

_EXAMPLES = """\
  medgen score runs/heart                              mean over the validation split
  medgen score runs/heart --importance_samples 500     a tighter bound (IWAE)
  medgen score runs/chest new_scans/ --out scores.csv  one row per image
"""


def run(argv: Sequence[str]) -> int:
    """Score; returns the exit code."""
    parser = make_parser("score", "Log-density of images under a trained run, in nats and bits per dimension.", _EXAMPLES)
    add_run(parser)
    add_input(parser)
    parser.add_argument("--importance_samples", type=int, default=1, help="draws per image, for bounds and estimates (default 1: the ELBO)")
    parser.add_argument("--seed", type=int, default=0, help="of their noise (default 0)")
    parser.add_argument("--limit", type=int, help="only the first so many images")
    parser.add_argument("--out", help="CSV file with one row per image")
    options, overrides = parse_run(parser, argv)
    if options.out and options.data and Path(options.out).resolve() == Path(options.data).resolve():
        raise ConfigError(f"--out {options.out} is the input itself; choose another.")

    from medgen.runs import score

    done = open_run(options, overrides)
    with progress_bar("scoring", None, show=not options.quiet) as bar:
        scores = score(
            done,
            options.data,
            split=options.split,
            importance_samples=options.importance_samples,
            seed=options.seed,
            limit=options.limit,
            progress=bar,
        )
    print(scores)
    if options.out:
        scores.write(Path(options.out))
        print(options.out)
    return 0
