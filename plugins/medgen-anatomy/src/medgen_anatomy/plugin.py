"""What this distribution offers. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

import medgen

__all__ = ["medgen_commands"]


@medgen.hookimpl
def medgen_commands() -> Iterator[medgen.CommandSpec]:
    """medgen anatomy."""
    yield medgen.CommandSpec(name="anatomy", run="medgen_anatomy.cli.main:run", summary="valid shapes: densify, correct, smooth, measure")
