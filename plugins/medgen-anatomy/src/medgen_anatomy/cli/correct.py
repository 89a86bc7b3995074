"""`medgen anatomy correct RUN MASKS --out FOLDER`: label maps that violate criteria become the nearest valid shapes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from medgen.cli.common import make_parser, print_json, print_table
from medgen.cli.work import add_run, open_run, parse_run, progress_bar

__all__ = ["run"]

_EXAMPLES = """\
  medgen anatomy correct runs/hearts masks/ --out corrected
  medgen anatomy correct runs/hearts scan_seg.nii.gz --out corrected --truth scan_truth.nii.gz --centre
  medgen anatomy correct runs/hearts predictions.npz --key masks --spacing 1.4 1.4 --centre --out corrected

Needs the valid shapes of `medgen anatomy densify RUN`. Files keep their names, grids and types; maps that are valid stay as they are.
Beside them: correction.json (counts, Dice, Hausdorff distance, every case) and worst.png.
"""


def run(argv: Sequence[str]) -> int:
    """Correct; returns the exit code."""
    parser = make_parser("anatomy correct", "Correct label maps: what violates the criteria becomes the nearest valid shape.", _EXAMPLES)
    add_run(parser)
    parser.add_argument("masks", metavar="MASKS", help="NIfTI, npz or npy file, picture, folder of them, or pattern")
    parser.add_argument("--out", required=True, help="folder")
    parser.add_argument("--store", help="folder that `densify` made (default RUN/densified)")
    parser.add_argument("--truth", help="the same maps as they should be, to compare with (default: the input)")
    parser.add_argument("--spacing", type=float, nargs=2, metavar=("DY", "DX"), help="mm per pixel (default: what NIfTI says)")
    parser.add_argument("--axis", type=int, default=2, choices=(0, 1, 2), help="voxel axis across which maps lie in volumes (default 2)")
    parser.add_argument("--key", help="array of an npz file (default masks and the like)")
    parser.add_argument("--select", help="pattern of the file names to read in a folder")
    parser.add_argument("--centre", action="store_true", help="the model sees each map around its labels, not around its middle")
    parser.add_argument("--steps", type=int, default=10, help="of bisection (default 10)")
    parser.add_argument("--neighbours", type=int, default=8, help="valid latents that are tried (default 8)")
    parser.add_argument("--refine", type=int, default=0, metavar="STEPS", help="of descent on the latent towards the map (default 0)")
    parser.add_argument("--worst", type=int, default=6, help="cases in worst.png (default 6)")
    parser.add_argument("--threads", type=int, help="that measure maps (default one per CPU)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON, without its cases")
    options, overrides = parse_run(parser, argv)

    from medgen_anatomy.correct import open_store
    from medgen_anatomy.correction_report import correct_files, write_report
    from medgen_anatomy.map_files import read_maps

    done = open_run(options, overrides)
    store, decoder = open_store(done, Path(options.store) if options.store else done.path / "densified")
    files = read_maps(Path(options.masks), axis=options.axis, key=options.key, select=options.select)
    truth = read_maps(Path(options.truth), axis=options.axis, key=options.key, select=options.select) if options.truth else None
    out = Path(options.out)
    with progress_bar("correcting", sum(len(f.maps) for f in files), show=not options.quiet) as bar:
        groups = correct_files(
            decoder,
            store,
            files,
            truth,
            out,
            spacing=None if options.spacing is None else tuple(options.spacing),
            progress=lambda part, _of: bar(part),
            centre=options.centre,
            steps=options.steps,
            neighbours=options.neighbours,
            refine=options.refine,
            threads=options.threads,
        )
    about = {"run": str(done.path), "store": str(store.folder), "masks": options.masks, "truth": options.truth}
    report = write_report(groups, store.criteria, out, about, options.worst)
    if options.json:
        print_json({key: value for key, value in report.items() if key != "cases"})
        return 0
    rows = [(name, str(v["before"]), str(v["after"])) for name, v in report["violations"].items()]
    print_table(("maps that violate", "before", "after"), [*rows, ("any", str(report["invalid_before"]), str(report["invalid_after"]))])
    for key in ("dice_before", "dice_after"):
        if key in report:
            words = ", ".join(f"{name} {value:.4f}" for name, value in report[key]["all"].items() if value is not None)
            print(f"{key.replace('_', ' ')}, to the {report['compared_with']}: {words}")
    print(f"{out}: {len(files)} file{'s' * (len(files) != 1)}, correction.json, worst.png")
    if report["invalid_after"]:
        print(f"{report['invalid_after']} maps are still not valid on their own grid; correction.json names them.")
    return 0
