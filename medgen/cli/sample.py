"""`medgen sample RUN -n N --out DIR`: draw samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medgen.cli.common import make_parser
from medgen.cli.work import add_run, open_run, pairs, parse_run, progress_bar

__all__ = ["run"]

_EXAMPLES = """\
  medgen sample runs/heart -n 100 --out samples --format png
  medgen sample runs/ct -n 8 --out samples --format nifti      voxel size, affine and HU of the training data
  medgen sample runs/chest -n 64 --label pneumonia
  medgen sample runs/chest -n 64 --label cycle                 every class in turn
  medgen sample runs/heart -n 1000000 --start 1000000          the second million, e.g. on another machine

Sample i depends on the weights, the seed and i alone. An interrupted command is simply repeated: it goes on where it stopped.
"""


def run(argv: Sequence[str]) -> int:
    """Draw samples; returns the exit code."""
    parser = make_parser("sample", "Draw samples from a trained run into a folder.", _EXAMPLES)
    add_run(parser)
    parser.add_argument("-n", type=int, default=16, help="how many (default 16)")
    parser.add_argument("--start", type=int, default=0, help="number of the first sample (default 0)")
    parser.add_argument("--out", help="folder (default RUN/samples)")
    parser.add_argument(
        "--format",
        choices=("auto", "png", "nifti", "npz", "csv"),
        default="auto",
        help="default: nifti where the data had an affine, png for images, else npz or csv",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default 0)")
    parser.add_argument("--label", help="class name or number, or cycle; default: as in the training data")
    parser.add_argument(
        "--attributes", nargs="+", metavar="NAME=NUMBER", help="attributes in the units of the data; default: as in the training data"
    )
    options, overrides = parse_run(parser, argv)
    attributes = pairs(options.attributes)

    from medgen.runs import ConditionSource, sample_format, sample_to_folder

    done = open_run(options, overrides)
    asked = options.label is not None or attributes
    chosen = ConditionSource(done, label=options.label, attributes=attributes) if done.model.conditions or asked else None
    out = Path(options.out) if options.out else done.path / "samples"
    form = sample_format(done.model.image_spec) if options.format == "auto" else options.format
    with progress_bar("sampling", options.n, show=not options.quiet) as bar:
        new = sample_to_folder(done, out, options.n, start=options.start, seed=options.seed, format=form, condition=chosen, progress=bar)
    kept = f", {options.n - new} were there already" if new < options.n else ""
    print(f"{out}: {new} new samples{kept}")
    return 0
