"""`medgen list`: what is installed. Imports no torch."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from medgen.cli.common import make_parser, print_json, print_table
from medgen.registry import (
    INTERFACES,
    LOG_PROBS,
    Capabilities,
    Declared,
    families,
    find,
    get_host,
    search,
    shortest_names,
)

__all__ = ["run"]

_EXAMPLES = """\
  medgen list                           every family
  medgen list '*vae*'                   those whose name matches
  medgen list --interface density       those with a log-density
  medgen list --dims 3 --condition label
  medgen list --datasets                what --data accepts besides paths
  medgen list --metrics --json

A condition marked ! is one that the family cannot do without.
"""


def run(argv: Sequence[str]) -> int:
    """List families, datasets or metrics; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.datasets or options.metrics:
        if any((options.interface, options.dims is not None, options.log_prob, options.condition)):
            parser.error("--interface, --dims, --log_prob and --condition choose among families")
        hook = "medgen_datasets" if options.datasets else "medgen_metrics"
        items = search(hook, options.pattern)
    else:
        hook = "medgen_families"
        items = families(
            options.pattern,
            interface=options.interface,
            spatial_dim=options.dims,
            log_prob=options.log_prob,
            condition=options.condition,
        )
    if not items:
        _explain_nothing(hook, options.pattern)
    _print(hook, items, options.json)
    _print_failures()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = make_parser("list", "List what is installed: families (default), datasets or metrics.", _EXAMPLES)
    parser.add_argument("pattern", nargs="?", default="*", help="wildcard over names, aliases and DISTRIBUTION/NAME")
    parser.add_argument("--interface", choices=INTERFACES, help="families with this interface")
    parser.add_argument("--dims", type=int, choices=(0, 1, 2, 3), help="families for this number of spatial axes; 0 means vectors")
    parser.add_argument("--log_prob", "--log-prob", choices=LOG_PROBS, help="families whose log-density is of this kind")
    parser.add_argument("--condition", metavar="SLOT", help="families that accept a condition slot of this name or kind")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--datasets", action="store_true", help="list datasets")
    kind.add_argument("--metrics", action="store_true", help="list metrics")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


def _print(hook: str, items: list[Declared], as_json: bool) -> None:
    names = shortest_names(hook, items)
    if as_json:
        rows = zip(names, items, strict=True)
        print_json([{"shown_as": name, "distribution": i.distribution, "version": i.version, **asdict(i.spec)} for name, i in rows])
    elif items:
        headers, cells = _COLUMNS[hook]
        print_table(headers, [(name, item.distribution, *cells(item.spec)) for name, item in zip(names, items, strict=True)])


def _family_cells(spec: Any) -> tuple[str, ...]:
    can: Capabilities = spec.capabilities
    return (
        ",".join(spec.interfaces),
        ",".join(map(str, can.spatial_dims)),
        can.log_prob,
        ",".join(slot.name + ("!" if slot.required else "") for slot in can.conditions),
        spec.summary,
    )


# hook -> (headers, the cells of a spec after name and distribution)
_COLUMNS: dict[str, tuple[tuple[str, ...], Callable[[Any], tuple[str, ...]]]] = {
    "medgen_families": (("name", "distribution", "interfaces", "dims", "log_prob", "conditions", "summary"), _family_cells),
    "medgen_datasets": (("name", "distribution", "options", "summary"), lambda spec: (",".join(spec.options), spec.summary)),
    "medgen_metrics": (("name", "distribution", "kind", "better", "summary"), lambda spec: (spec.kind, spec.better, spec.summary)),
}


def _explain_nothing(hook: str, pattern: str) -> None:
    """A plain name that matches nothing is a mistake; a wildcard or filter that matches nothing is an answer."""
    if not re.search(r"[*?\[]", pattern):
        find(hook, pattern)
    print("nothing matches.", file=sys.stderr)


def _print_failures() -> None:
    if failed := [status.name for status in get_host().plugins if status.failed or status.rejected]:
        print(f"medgen: not everything is listed ({', '.join(failed)}); `medgen doctor` says why.", file=sys.stderr)
