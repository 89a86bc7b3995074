"""`medgen inpaint RUN DATA --mask MASK --out OUT`: fill in regions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medgen.cli.common import make_parser
from medgen.cli.work import add_run, open_run, pairs, parse_run, progress_bar

__all__ = ["run"]

_EXAMPLES = """\
  medgen inpaint runs/brain T1.nii.gz --mask known.nii.gz --out filled.nii.gz    same grid, affine and units as the input
  medgen inpaint runs/brain T1.nii.gz --mask lesions.nii.gz --invert --out healthy.nii.gz     the mask marks what to fill in
  medgen inpaint runs/chest xrays/ --mask masks/ --out filled/ --seed 1          a mask per file, in the order of the names
  medgen inpaint runs/heart hearts.npz --mask mask.npz --out filled.npz          one mask [1, H, W] for all, or one each

What is known comes back exactly as it was. Another --seed fills in something else.
"""


def run(argv: Sequence[str]) -> int:
    """Inpaint; returns the exit code."""
    parser = make_parser("inpaint", "Fill in what a mask leaves open of images; writes them in the form of the input.", _EXAMPLES)
    add_run(parser)
    parser.add_argument("data", metavar="DATA", help="file or folder, read as the training data was")
    parser.add_argument("--mask", required=True, help="file or folder on the grid of DATA; not zero where DATA is known")
    parser.add_argument("--invert", action="store_true", help="the mask is not zero where DATA is to be filled in")
    parser.add_argument("--out", required=True, help="file or folder")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default 0)")
    parser.add_argument("--label", help="class name or number; default: that of DATA")
    parser.add_argument(
        "--attributes", nargs="+", metavar="NAME=NUMBER", help="attributes in the units of the data; default: those of DATA"
    )
    options, overrides = parse_run(parser, argv)
    attributes = pairs(options.attributes)

    from medgen.runs import ConditionSource, inpaint_to

    done = open_run(options, overrides)
    asked = options.label is not None or attributes
    chosen = ConditionSource(done, label=options.label, attributes=attributes) if asked else None
    out = Path(options.out)
    with progress_bar("inpainting", None, show=not options.quiet) as bar:
        written = inpaint_to(
            done, options.data, options.mask, out, invert=options.invert, seed=options.seed, condition=chosen, progress=bar
        )
    print(f"{written[0] if len(written) == 1 else out}: {len(written)} file{'s' * (len(written) != 1)}")
    return 0
