"""The families of this distribution. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator

import medgen


@medgen.hookimpl
def medgen_families() -> Iterator[medgen.FamilySpec]:
    """ae, vae, beta_vae, cvae."""
    yield from ()
