"""`medgen anatomy densify RUN --points N`: a store of valid shapes in the latent space of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medgen.cli.common import make_parser, print_json, print_table
from medgen.cli.work import add_run, open_run, parse_run, progress_bar
from medgen_anatomy.cli.criteria_options import add_criteria, criteria_of

__all__ = ["run"]

_EXAMPLES = """\
  medgen anatomy densify runs/hearts --points 5000000
  medgen anatomy densify runs/hearts --points 200000 --criteria myocardium --labels MYO=1 LV=2 --missing invalid
  medgen anatomy densify runs/hearts --points 200000 --rule fixed --factor 0.3 --out narrow
  medgen anatomy densify runs/hearts --points 10000 --proposal gaussian --envelope quartile --switch --out paper

Writes to RUN/densified: points/points.npy, flags.npy (0: valid), density.npz, densify.json. Interrupted or killed it is simply repeated: it
goes on where it stopped, to the same bytes. Then: medgen anatomy correct RUN masks/ --out corrected
"""


def run(argv: Sequence[str]) -> int:
    """Densify; returns the exit code."""
    parser = make_parser(
        "anatomy densify", "Draw latents from a Parzen density of a run's encodings, decode them and keep the valid ones.", _EXAMPLES
    )
    add_run(parser)
    parser.add_argument("--points", type=int, default=5_000_000, metavar="N", help="drawn from the density (default 5000000)")
    parser.add_argument("--out", help="folder of the store (default RUN/densified)")
    add_criteria(parser)
    parser.add_argument("--spacing", type=float, nargs=2, metavar=("DY", "DX"), help="mm per pixel of the model's maps, where it has none")
    rules = ("leave_one_out", "scott", "silverman", "grid", "fixed")
    parser.add_argument("--rule", default="leave_one_out", choices=rules, help="of the bandwidth (default leave_one_out)")
    kinds = ("full", "diagonal", "scalar", "absolute")
    parser.add_argument("--kind", default="full", choices=kinds, help="what the rule's factor is on (default full: the covariance)")
    parser.add_argument("--factor", type=float, default=1.0, help="the factor of rule fixed (default 1)")
    parser.add_argument(
        "--proposal", default="kernels", choices=("kernels", "gaussian", "mixture"), help="default kernels: exact draws, nothing rejected"
    )
    parser.add_argument("--widen", type=float, default=1.0, help="factor on the bandwidth of kernels, at least 1 (default 1)")
    parser.add_argument("--components", type=int, default=8, help="Gaussians in a mixture (default 8)")
    parser.add_argument("--envelope", default="auto", help="k of k Q >= P: auto (default), max, quartile, or ln k")
    parser.add_argument("--patience", type=float, default=3600.0, help="seconds of rejection; more is refused (default 3600)")
    parser.add_argument("--switch", action="store_true", help="draw from kernels rather than refusing")
    parser.add_argument("--seed", type=int, default=0, help="of all noise (default 0)")
    parser.add_argument("--batch", type=int, default=256, help="maps decoded at once (default 256)")
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"), help="of the decoder (default auto)")
    parser.add_argument("--devices", type=int, default=1, help="processes that draw by rejection (default 1)")
    parser.add_argument("--threads", type=int, help="that measure maps (default one per CPU)")
    parser.add_argument("--json", action="store_true", help="print the whole summary as JSON")
    options, overrides = parse_run(parser, argv)

    from medgen_anatomy.densify import Proposals, densify

    done = open_run(options, overrides)
    criteria = criteria_of(options, done.model.image_spec)
    how = Proposals(
        options.proposal, options.widen, options.components, _envelope(options.envelope), options.patience, switch=options.switch
    )
    with progress_bar("points", 3 * options.points, show=not options.quiet) as bar:
        store = densify(
            done,
            options.points,
            criteria,
            Path(options.out) if options.out else done.path / "densified",
            spacing=None if options.spacing is None else tuple(options.spacing),
            rule=options.rule,
            kind=options.kind,
            factor=options.factor,
            proposals=how,
            seed=options.seed,
            batch=options.batch,
            precision=options.precision,
            devices=options.devices,
            threads=options.threads,
            progress=lambda step, part, of: bar(_STEPS[step] * options.points + options.points * part // of),
        )
    summary = store.note["summary"]
    if options.json:
        print_json(summary)
        return 0
    print_table(("violated", "points"), [(name, str(count)) for name, count in summary["violations"].items()])
    spent = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in summary["seconds"].items())
    print(
        f"{store.folder}: {summary['valid']} valid of {summary['points']} points ({summary['valid_share']:.3g}), {summary['failed']} failed"
    )
    print(f"acceptance {summary['acceptance']:.3g}, ln k = {summary['ln_k']:.4g} ({summary['envelope']}); {spent}")
    return 0


_STEPS = {"encoding": 0, "drawing": 1, "judging": 2}


def _envelope(word: str) -> Any:
    try:
        return float(word)
    except ValueError:
        return word
