"""`medgen report RUN`: one HTML file with pictures, curves, metrics and the model card."""

from __future__ import annotations

from collections.abc import Sequence

from medgen.cli.common import make_parser
from medgen.cli.options import parse
from medgen.cli.work import add_run, open_run
from medgen.errors import ConfigError

__all__ = ["run"]

_EXAMPLES = """\
  medgen report runs/heart
  medgen report runs/heart --samples 16 --seed 7
  medgen evaluate runs/heart && medgen report runs/heart     with metrics
"""


def run(argv: Sequence[str]) -> int:
    """Write RUN/report.html and RUN/card.md; returns the exit code."""
    parser = make_parser("report", "Write RUN/report.html, one file that opens offline, and RUN/card.md, the model card.", _EXAMPLES)
    add_run(parser)
    parser.add_argument("--samples", type=int, default=64, help="generated samples to show (default 64; of volumes at most 12)")
    parser.add_argument("--seed", type=int, default=0, help="of the samples (default 0)")
    parser.add_argument("--open", action="store_true", help="show it in the browser")
    options = parse(parser, argv)
    if options.samples < 1 or options.seed < 0:
        raise ConfigError(f"--samples must be at least 1 and --seed not negative; got {options.samples} and {options.seed}.")

    from medgen.registry import require
    from medgen.report import write_report

    done = open_run(options)
    if options.quiet:
        path = write_report(done, samples=options.samples, seed=options.seed)
    else:
        with require("rich.console", "cli").Console(stderr=True).status("report") as status:
            path = write_report(done, samples=options.samples, seed=options.seed, progress=lambda part: status.update(f"report: {part}"))
    print(path)
    if options.open:
        import webbrowser

        webbrowser.open(path.resolve().as_uri())
    return 0
