"""`medgen anatomy indices ED ES`: clinical indices of the left ventricle from two label volumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from medgen.cli.common import make_parser, print_json, print_table
from medgen.cli.options import parse
from medgen_anatomy.cli.labels import label_numbers

__all__ = ["run"]

_EXAMPLES = """\
  medgen anatomy indices ED.nii.gz ES.nii.gz
  medgen anatomy indices ED.nii.gz ES.nii.gz --heart_rate 62 --height 1.86 --bsa 2.02
  medgen anatomy indices ED.nii.gz ES.nii.gz --labels LV=2 MYO=1 --json"""


def run(argv: Sequence[str]) -> int:
    """Measure; returns the exit code."""
    parser = make_parser(
        "anatomy indices", "Volumes, ejection fraction, cardiac output, mass and wall thickness from label volumes (NIfTI).", _EXAMPLES
    )
    parser.add_argument("ed", metavar="ED", help="label volume at end-diastole; the size of its voxels is read from its header")
    parser.add_argument("es", metavar="ES", help="label volume at end-systole")
    parser.add_argument("--labels", nargs="+", metavar="NAME=NUMBER", help="of LV (cavity) and MYO (default LV=3 MYO=2, as in ACDC)")
    parser.add_argument("--heart_rate", type=float, metavar="N", help="per minute; adds the cardiac output")
    parser.add_argument("--height", type=float, metavar="M", help="of the body in m; adds the indices per height")
    parser.add_argument("--bsa", type=float, metavar="M2", help="body surface area in m^2; adds the indices per area and the cardiac index")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parse(parser, argv)
    numbers = {"LV": 3, "MYO": 2} | label_numbers(options.labels)

    from medgen_anatomy.clinical import UNITS, indices
    from medgen_anatomy.volumes import read_label_volume

    (ed, ed_spacing), (es, es_spacing) = (read_label_volume(path) for path in (options.ed, options.es))
    found = indices(
        ed,
        es,
        ed_spacing,
        es_spacing,
        cavity=numbers["LV"],
        myocardium=numbers["MYO"],
        heart_rate=options.heart_rate,
        height=options.height,
        bsa=options.bsa,
    )
    if options.json:
        print_json({"ed": options.ed, "es": options.es, "labels": numbers, **asdict(found), "units": UNITS})
    else:
        print_table(("index", "value", "unit"), [(name, f"{value:.1f}", UNITS[name]) for name, value in found.known().items()])
    return 0
