"""What a folder of results is for, so that an interrupted command may be repeated and another one is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from medgen.errors import RunError
from medgen.files import sweep, write_json

__all__ = ["claim"]

_SHORT = {"arithmetic", "device", "ops", "overrides", "torch", "draws", "overlap", "blend"}


def claim(manifest: Path, asked: Mapping[str, object], *, held: bool, what: str) -> None:
    """Note what a folder is for, before its first result; or check that it is for the same.

    Args:
        manifest: JSON file in the folder.
        asked: plain values that the results depend on.
        held: whether the folder holds results already.
        what: "samples", for messages.

    Raises:
        RunError: it is for something else.
    """
    out = manifest.parent
    sweep(out)
    if not manifest.is_file():
        if held:
            raise RunError(f"{out} holds {what}, but no {manifest.name} that says of what; choose another --out.")
        write_json(manifest, dict(asked))
        return
    try:
        known = dict(json.loads(manifest.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{manifest} is not what medgen wrote ({error}); choose another --out, or delete the folder.") from None
    if different := [key for key, value in asked.items() if known.get(key) != value]:
        named = ", ".join(f"{key} ({known.get(key)}, not {asked[key]})" if key in _SHORT else key for key in different)
        raise RunError(f"{out} holds {what} with another {named}; choose another --out, or delete it.")
