"""`medgen reconstruct RUN [DATA] OUT`: encode and decode."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medgen.cli.common import make_parser
from medgen.cli.work import add_input, add_run, open_run, parse_run, progress_bar

__all__ = ["run"]

_EXAMPLES = """\
  medgen reconstruct runs/heart                                 the validation split, to RUN/reconstructions
  medgen reconstruct runs/brain T1.nii.gz --out T1_rec.nii.gz   same grid, affine and units as the input
  medgen reconstruct runs/ct scans/ --out reconstructed/
"""


def run(argv: Sequence[str]) -> int:
    """Reconstruct; returns the exit code."""
    parser = make_parser("reconstruct", "Encode and decode images with a trained run; writes them in the form of the input.", _EXAMPLES)
    add_run(parser)
    add_input(parser)
    parser.add_argument("--out", help="file or folder (default RUN/reconstructions)")
    options, overrides = parse_run(parser, argv)

    from medgen.runs import reconstruct_to

    done = open_run(options, overrides)
    out = Path(options.out) if options.out else done.path / "reconstructions"
    with progress_bar("reconstructing", None, show=not options.quiet) as bar:
        written = reconstruct_to(done, options.data, out, split=options.split, progress=bar)
    print(f"{written[0] if len(written) == 1 else out}: {len(written)} file{'s' * (len(written) != 1)}")
    return 0
