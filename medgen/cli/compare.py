"""`medgen compare RUN RUN ...`: several runs judged on the same samples, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medgen.cli.common import make_parser
from medgen.cli.options import parse
from medgen.cli.work import add_evaluation, evaluation_options, progress_bar
from medgen.errors import ConfigError

__all__ = ["run"]

_EXAMPLES = """\
  medgen compare runs/regression runs/pix2pix --split test --out comparison
  medgen compare runs/vae runs/gan runs/ddpm -n 1000 --metrics frechet_distance coverage
  medgen compare runs/*                      every run of a folder
"""


def run(argv: Sequence[str]) -> int:
    """Compare; returns the exit code."""
    parser = make_parser(
        "compare",
        "Judge runs on the same held-out samples, in one table; translators also in one picture. A run's evaluation.json is used where "
        "it is of the same weights and options, and written otherwise.",
        _EXAMPLES,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="two or more run folders")
    parser.add_argument("--out", metavar="DIR", help="folder for comparison.json, and of translators comparison.png")
    parser.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda"), help="where to compute (default auto: a GPU where there is one)"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress")
    add_evaluation(parser)
    options = parse(parser, argv)
    if options.out is not None and Path(options.out).exists() and not Path(options.out).is_dir():
        raise ConfigError(f"--out must be a folder; {options.out} is a file.")

    from medgen.evaluation import compare
    from medgen.runs import Run

    runs = [Run.open(path) for path in options.runs]
    for one in runs:
        one.model.to(one.device(options.device))
    with progress_bar("comparing runs", len(runs), show=not options.quiet) as bar:
        found = compare(runs, progress=bar, **evaluation_options(options))
    print(found)
    if options.out is None:
        return 0
    out = Path(options.out)
    found.save(out / "comparison.json")
    print(f"figures: {out / 'comparison.json'}")
    if found.by_subject and found.same_truth:
        from medgen.files import atomic_path
        from medgen.report.comparison import translations_beside

        with atomic_path(out / "comparison.png") as path:
            translations_beside(found).savefig(path, format="png")
        print(f"picture: {out / 'comparison.png'}")
    return 0
