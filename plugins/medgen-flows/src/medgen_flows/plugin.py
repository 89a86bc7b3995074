"""The families of this distribution. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

import medgen

__all__ = ["medgen_families"]


@medgen.hookimpl
def medgen_families() -> Iterator[medgen.FamilySpec]:
    """None yet."""
    return iter(())
