"""`medgen anatomy smooth RUN SEQUENCE`: label maps made consistent in time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medgen.cli.common import make_parser, print_json, print_table
from medgen.cli.work import add_run, open_run, parse_run, progress_bar
from medgen_anatomy.cli.labels import label_numbers

__all__ = ["run"]

_EXAMPLES = """\
  medgen anatomy smooth runs/ar sequence.npz --reference annotations.npz --out smoothed/
  medgen anatomy smooth runs/ar cine.nii.gz --limits camus --labels LV=1 MYO=2 --out smoothed/
  medgen anatomy smooth runs/vae 'cardiac_sequence?n=5&spikes=2' --reference 'cardiac_sequence?n=50&seed=1' --out smoothed/"""


def run(argv: Sequence[str]) -> int:
    """Smooth; returns the exit code."""
    parser = make_parser(
        "anatomy smooth",
        "Encode each frame, smooth the latents over time, decode: no attribute bends more than in sequences that count as consistent.",
        _EXAMPLES,
    )
    add_run(parser)
    parser.add_argument("data", metavar="SEQUENCE", help="npz [T, H, W], NIfTI with time as its third axis, or a folder of label pictures")
    parser.add_argument("--out", required=True, help="folder for the smoothed maps, report.json and report.png")
    parser.add_argument("--reference", metavar="DATA", help="sequences that count as consistent: give bounds and thresholds")
    parser.add_argument(
        "--limits", metavar="FILE", help="instead: 'camus', or a JSON file {attribute: [low, high, tau]} in pixels of the run's grid"
    )
    parser.add_argument("--truth", metavar="DATA", help="the same frames as they should be; adds Dice")
    parser.add_argument(
        "--attributes", nargs="+", metavar="NAME", default=[], help="attributes to hold (default: all that can be measured)"
    )
    parser.add_argument(
        "--labels", nargs="+", metavar="NAME=NUMBER", help="LV=NUMBER MYO=NUMBER, where the class names of the run do not say"
    )
    parser.add_argument(
        "--mode",
        default="auto",
        choices=("auto", "attributes", "decoded"),
        help="attributes: dimensions of an ar_vae under their own constraints; decoded: one weight for all, found on the decoded maps",
    )
    parser.add_argument("--weight", type=float, default=50.0, metavar="W", help="of latent dimensions without attribute (default 50)")
    parser.add_argument(
        "--whole",
        action="store_true",
        help="smooth and decode every frame of a sequence with errors, as published; else frames away from errors stay",
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    options, overrides = parse_run(parser, argv)
    numbers = label_numbers(options.labels)

    from medgen_anatomy.smoothing import smooth_to

    opened = open_run(options, overrides)
    with progress_bar("smoothing", None, show=not options.quiet and not options.json) as bar:
        report = smooth_to(
            opened,
            options.data,
            Path(options.out),
            reference=options.reference,
            limits=options.limits,
            truth=options.truth,
            attributes=options.attributes,
            labels=numbers,
            mode=options.mode,
            weight=options.weight,
            whole=options.whole,
            progress=bar,
        )
    print_json(report) if options.json else _print(report, Path(options.out))
    return 0


def _print(report: dict[str, Any], out: Path) -> None:
    kinds = ("before", "after", "gaussian")
    rows = [
        ("sequences with errors", *(f"{100 * report[k]['sequences_with_errors']:.1f} %" for k in kinds)),
        ("inconsistent frames", *(f"{sum(report[k]['inconsistent_frames'])} of {report[k]['frames']}" for k in kinds)),
        ("share in those sequences", *(f"{100 * report[k]['share_of_inconsistent_frames']:.1f} %" for k in kinds)),
        ("mean |d| / tau", *(f"{report[k]['mean_ratio']:.3f}" for k in kinds)),
    ]
    for name in report["before"]["attributes"]:
        values = (report[k]["attributes"][name] for k in kinds)
        rows.append((f"frames with {name} in error", *(str(v["inconsistent_frames"]) for v in values)))
    for name in report["before"].get("dice", {}):
        rows.append((f"Dice {name}", *(f"{report[k]['dice'].get(name, 0.0):.3f}" for k in kinds)))
    print_table(("", *kinds), rows)
    kept = ", ".join(f"{name} {value:.3f}" for name, value in report["reconstruction"].items())
    print(f"Dice of the model's reconstructions of the input (frames that it decodes are hardly truer): {kept}")
    left = sum(bool(row["inconsistent_after"]) for row in report["sequences"])
    if left:
        print(f"{left} sequence(s) still have frames in error; the model cannot decode them more smoothly.")
    print(f"{out}: {len(report['files'])} file(s), report.json, report.png")
