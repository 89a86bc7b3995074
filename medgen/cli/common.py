"""What the commands share: an argument parser with examples, tables, JSON."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["field_lines", "make_parser", "print_json", "print_table"]


def make_parser(command: str, description: str, examples: str) -> argparse.ArgumentParser:
    """A parser of `medgen COMMAND` whose help ends with examples."""
    return argparse.ArgumentParser(
        prog=f"medgen {command}",
        description=description,
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def print_json(value: Any) -> None:
    """Indented JSON; what JSON has no type for is written as text."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table: by rich on a terminal, else plain columns that grep and awk can read. An empty cell is "-"."""
    cells = [[cell or "-" for cell in row] for row in rows]
    if not (sys.stdout.isatty() and _print_rich(headers, cells)):
        _print_plain(headers, cells)


def field_lines(pairs: Iterable[tuple[str, str]]) -> str:
    """Aligned "name  value" lines.

    >>> print(field_lines([("dims", "1, 2"), ("training", "plain")]))
    dims      1, 2
    training  plain
    """
    pairs = list(pairs)
    width = max(len(name) for name, _ in pairs)
    return "\n".join(f"{name:<{width}}  {value or '-'}" for name, value in pairs)


def _print_plain(headers: Sequence[str], rows: list[list[str]]) -> None:
    lines = [[header.upper() for header in headers], *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    for line in lines:
        print("  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)).rstrip())


def _print_rich(headers: Sequence[str], rows: list[list[str]]) -> bool:
    # Imported here only: rich costs a tenth of a second, and the core install does not have it.
    try:
        console, table, text = (importlib.import_module(f"rich.{name}") for name in ("console", "table", "text"))
    except ImportError:
        return False
    grid = table.Table(box=importlib.import_module("rich.box").SIMPLE_HEAD, pad_edge=False)
    for number, header in enumerate(headers):
        grid.add_column(header, overflow="fold", no_wrap=number == 0)
    for row in rows:
        # A space after each comma lets a narrow terminal break lists; Text, because square brackets are no markup.
        grid.add_row(*(text.Text(re.sub(r",(?=\S)", ", ", cell)) for cell in row))
    console.Console().print(grid)
    return True
