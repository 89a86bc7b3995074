"""One self-describing file per model: tensors in safetensors, everything else as JSON in its header. Never pickle, never eval.

The header's key "medgen" holds: schema_version, family, distribution, version, weights_version, config, image_spec, conditions, data,
training, and sha256 over the JSON and every tensor.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from medgen.errors import WeightsError
from medgen.files import atomic_path

__all__ = ["MIGRATIONS", "SCHEMA_VERSION", "load_tensors", "migrate", "read", "read_meta", "save_tensors", "write"]

SCHEMA_VERSION = 1
"""Version of the header's layout. Raise it when the layout changes, and add the way up to `MIGRATIONS`."""

Migration = Callable[[dict[str, Any], dict[str, Tensor]], tuple[dict[str, Any], dict[str, Tensor]]]

MIGRATIONS: dict[int, Migration] = {}
"""Schema version -> function that lifts (meta, tensors) to the next version."""

_KEY = "medgen"


def write(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write tensors and their description, atomically.

    Args:
        path: usually `model.safetensors`.
        tensors: state dict; shared or strided tensors are stored as they read.
        meta: JSON types; "schema_version" and "sha256" are added.
    """
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    full = {**meta, "schema_version": SCHEMA_VERSION}
    full["sha256"] = _sha256(full, plain)
    save_tensors(path, plain, {_KEY: json.dumps(full, sort_keys=True, allow_nan=False)})


def save_tensors(path: str | os.PathLike[str], tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write a plain safetensors file, atomically."""
    with atomic_path(path) as temporary:
        safetensors.torch.save_file(dict(tensors), temporary, dict(metadata) if metadata else None)


def load_tensors(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read a plain safetensors file.

    Raises:
        WeightsError: the file is truncated or something else.
    """
    _check_whole(Path(path))
    return safetensors.torch.load_file(path)


def read_meta(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The description alone, without reading the tensors or checking the checksum.

    Raises:
        WeightsError: missing, truncated, not a safetensors file, or not written by medgen.
    """
    path = Path(path)
    _check_whole(path)
    with safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get(_KEY)
    if text is None:
        raise WeightsError(f"{path} is a safetensors file that medgen did not write (its header has no {_KEY!r} entry).")
    try:
        meta = json.loads(text)
    except json.JSONDecodeError as error:
        raise WeightsError(f"{path} was altered: the description in its header is not JSON ({error}).") from None
    if meta.get("schema_version", 0) > SCHEMA_VERSION:
        raise WeightsError(
            f"{path} has weights schema {meta['schema_version']}, this medgen reads up to {SCHEMA_VERSION}; upgrade: pip install -U medgen"
        )
    return dict(meta)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Description and tensors, checksum verified, lifted to the current schema.

    Raises:
        WeightsError: as `read_meta`, or the checksum does not match.
    """
    meta = read_meta(path)
    tensors = safetensors.torch.load_file(path)
    claimed = meta.pop("sha256", "")
    actual = _sha256(meta, tensors)
    if claimed != actual:
        raise WeightsError(
            f"{path} was altered after it was saved: its SHA-256 is {actual[:12]}..., the header says {str(claimed)[:12]}..."
        )
    return migrate(meta, tensors)


def migrate(
    meta: dict[str, Any], tensors: dict[str, Tensor], *, migrations: Mapping[int, Migration] = MIGRATIONS, target: int = SCHEMA_VERSION
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Lift (meta, tensors) step by step to schema `target`.

    Raises:
        WeightsError: there is no way up from the file's version.
    """
    while (version := meta["schema_version"]) < target:
        if version not in migrations:
            raise WeightsError(f"weights schema {version} is too old for this medgen, which has no migration from it.")
        meta, tensors = migrations[version](dict(meta), dict(tensors))
        meta["schema_version"] = version + 1
    return meta, tensors


def _sha256(meta: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(meta, sort_keys=True, allow_nan=False).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _check_whole(path: Path) -> None:
    """Tell a missing, a truncated and a foreign file apart; safetensors' own error does not."""
    if not path.is_file():
        raise WeightsError(f"there is no weights file at {path}.")
    try:
        with safe_open(path, framework="pt"):
            return
    except (SafetensorError, OSError) as error:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(9)
        header = int.from_bytes(head[:8], "little")
        looks_right = len(head) < 9 or (head[8:9] == b"{" and header < 100_000_000)
        if looks_right:
            raise WeightsError(f"{path} is truncated: {size} bytes are fewer than its header promises ({error}). Copy it again.") from None
        raise WeightsError(f"{path} is not a safetensors file ({error}).") from None
