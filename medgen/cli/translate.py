"""`medgen translate RUN INPUT... OUT`: one contrast or modality from others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medgen.cli.common import make_parser
from medgen.cli.work import add_run, open_run, parse_run, progress_bar
from medgen.errors import ConfigError

__all__ = ["run"]

_EXAMPLES = """\
  medgen translate runs/flair T1.nii.gz FLAIR.nii.gz               affine and shape of the input, units of the target
  medgen translate runs/flair T1.nii.gz T2.nii.gz FLAIR.nii.gz     several contrasts, in the order of the training
  medgen translate runs/ct mr/ ct/                                 every file of a folder; done ones are kept
  medgen translate runs/ct mr/ ct/ --memory 4                      volumes in tiles, as many at once as fit into 4 GiB
  medgen translate runs/cine masks.nii.gz cine.nii.gz --style other.nii.gz   with the look of another image (family spade)
  medgen translate runs/ct mr.nii.gz ct.nii.gz --draws 16          also ct_sd.nii.gz, of a model that draws translations
"""


def run(argv: Sequence[str]) -> int:
    """Translate; returns the exit code."""
    parser = make_parser("translate", "Translate images with a trained run; writes them in the form of the input.", _EXAMPLES)
    add_run(parser)
    parser.add_argument("paths", nargs="+", metavar="INPUT... OUT", help="a file or folder per contrast, then the file or folder to write")
    parser.add_argument("--seed", type=int, help="draw one of the translations of a stochastic model (default: the deterministic one)")
    parser.add_argument("--draws", type=int, default=1, help="translations to draw; their mean is written, and their deviation as OUT_sd")
    parser.add_argument("--style", metavar="IMAGE", help="an image of the target whose look the translations take, of families with styles")
    parser.add_argument("--overlap", type=float, default=0.5, help="share of a tile that its neighbour sees too (default 0.5)")
    parser.add_argument("--blend", default="hann", choices=("hann", "gaussian"), help="weights of overlapping tiles (default hann)")
    parser.add_argument("--memory", type=float, metavar="GIB", help="GiB that the network may take beside its weights and the image")
    parser.add_argument("--tiles", type=int, help="slices or tiles at once, instead of --memory")
    options, overrides = parse_run(parser, argv)
    if len(options.paths) < 2:
        raise ConfigError("give an input and an output: medgen translate RUN INPUT OUT.")

    from medgen.runs import Work, translate_to

    *data, out = options.paths
    work = Work(options.seed, options.draws, options.overlap, options.blend, options.memory, options.tiles)
    done = open_run(options, overrides)
    with progress_bar("translating", None, show=not options.quiet) as bar:
        written = translate_to(done, data, Path(out), work=work, style=options.style, progress=bar)
    print(f"{written[0] if len(written) == 1 else out}: {len(written)} file{'s' * (len(written) != 1)}")
    return 0
