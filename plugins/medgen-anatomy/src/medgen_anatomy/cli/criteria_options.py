"""Options that say what a valid map is."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from medgen.cli.work import pairs
from medgen.errors import ConfigError

if TYPE_CHECKING:
    from medgen.registry import ImageSpec
    from medgen_anatomy.criterion import Criteria

__all__ = ["add_criteria", "criteria_of"]


def add_criteria(parser: argparse.ArgumentParser) -> None:
    """--criteria, --labels, --missing, --limits."""
    parser.add_argument(
        "--criteria", default="auto", choices=("auto", "echo", "mri", "myocardium"), help="default auto: by the names of the model's labels"
    )
    parser.add_argument(
        "--labels", nargs="+", metavar="NAME=NUMBER", help="of the structures, e.g. MYO=1 LV=2, where the data has no names"
    )
    parser.add_argument("--missing", choices=("invalid", "allowed"), help="maps without a structure (default: as the set has it)")
    parser.add_argument("--limits", nargs="+", metavar="NAME=LIMIT", help="other limits of some criteria, e.g. lv_concavity=2.5")


def criteria_of(options: argparse.Namespace, spec: ImageSpec) -> Criteria:
    """The set that the options choose for a model."""
    from medgen_anatomy.choice import choose_criteria

    numbers = pairs(options.labels)
    if any(number != int(number) for number in numbers.values()):
        raise ConfigError(f"--labels must be given as NAME=NUMBER with whole numbers; got {' '.join(options.labels)}.")
    labels = {name: int(number) for name, number in numbers.items()}
    return choose_criteria(spec, options.criteria, labels, missing=options.missing, limits=pairs(options.limits))
