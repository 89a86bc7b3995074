"""Options that say what a valid map is."""

from __future__ import annotations

import argparse
import math
from typing import TYPE_CHECKING

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

    labels = {name: int(number) for name, number in _numbers(options.labels, "--labels", whole=True).items()}
    limits = _numbers(options.limits, "--limits")
    return choose_criteria(spec, options.criteria, labels, missing=options.missing, limits=limits)


def _numbers(words: list[str] | None, option: str, *, whole: bool = False) -> dict[str, float]:
    """Words "name=number" as a mapping.

    Raises:
        ConfigError: a word of another form, or a name given twice.
    """
    out: dict[str, float] = {}
    for word in words or []:
        name, _, text = word.partition("=")
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if not name or math.isnan(number) or (whole and number != int(number)) or name in out:
            what = "NAME=NUMBER with whole numbers" if whole else "NAME=NUMBER"
            raise ConfigError(f"{option} must be given as {what}, each name once; got {' '.join(words or [])}.")
        out[name] = number
    return out
