"""`medgen compare RUN RUN ...`: several runs judged on the same samples, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medgen.cli.common import make_parser
from medgen.cli.options import parse
from medgen.cli.work import add_evaluation, evaluation_options, on_data, progress_bar
from medgen.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from medgen.evaluation import Comparison

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
        "Judge runs on the same held-out samples, in one table and one picture. A run's evaluation.json is used where "
        "it is of the same weights and options, and written otherwise.",
        _EXAMPLES,
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="two or more run folders")
    parser.add_argument("--out", metavar="DIR", help="folder for comparison.json and comparison.png")
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
    runs = [on_data(one, options) for one in runs]
    with progress_bar("comparing runs", len(runs), show=not options.quiet) as bar:
        found = compare(runs, progress=bar, **evaluation_options(options))
    print(found)
    if options.out is None:
        return 0
    out = Path(options.out)
    found.save(out / "comparison.json")
    print(f"figures: {out / 'comparison.json'}")
    figure = _picture(found)
    if figure is not None:
        from medgen.files import atomic_path

        with atomic_path(out / "comparison.png") as path:
            figure.savefig(path, format="png")
        print(f"picture: {out / 'comparison.png'}")
    return 0


def _picture(found: Comparison) -> Figure | None:
    from medgen.evaluation.unpaired import is_unpaired
    from medgen.interfaces import Generator
    from medgen.report.comparison import samples_beside, translations_beside

    if not found.same_truth:
        return None
    if found.by_subject:
        return None if any(is_unpaired(one.run) for one in found.runs) else translations_beside(found)
    models = [one.run.model for one in found.runs]
    return samples_beside(found) if all(isinstance(model, Generator) and model.image_spec.dim for model in models) else None
