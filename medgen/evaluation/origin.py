"""What an evaluation.json is of: which weights were asked for what, and which samples they were judged on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import medgen
from medgen.data import Dataset
from medgen.data.samples import Array
from medgen.runs import Run
from medgen.weights import read_meta

__all__ = ["is_current", "load_origin", "origin_of", "truth_of"]


def truth_of(data: Dataset, rows: Array) -> str:
    """SHA-256 over samples as they are stored, and over their regions: figures of two models are comparable only where it is the same."""
    digest = hashlib.sha256()
    regions = data.samples.images.get("regions")
    numbers = np.asarray(rows, np.int64).reshape(-1)
    for values in (data.stored(numbers), *([] if regions is None else [regions.gather(numbers)])):
        digest.update(f"{values.dtype}|{values.shape}|".encode())
        digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()


def origin_of(run: Run, asked: Mapping[str, Any]) -> dict[str, Any]:
    """Weights, version of medgen and options of an evaluation, for JSON; "asked" is None where an option is an object of Python."""
    values = {name: list(value) if isinstance(value, tuple) else value for name, value in asked.items()}
    known = not any(callable(value) for value in values.values())
    weights = read_meta(run.weights_file)["sha256"]
    used = {"overrides": run.overrides, **({"elsewhere": run.elsewhere} if run.elsewhere else {})}
    return {"weights": weights, "medgen": medgen.__version__, "asked": {**values, **used} if known else None}


def load_origin(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a file of scores is of; empty where there is no such file, or it does not say."""
    try:
        value = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    found = value.get("of") if isinstance(value, dict) else None
    return found if isinstance(found, dict) else {}


def is_current(found: Mapping[str, Any], origin: Mapping[str, Any]) -> bool:
    """Whether figures of `found` are what `origin` asks for."""
    return origin["asked"] is not None and {k: v for k, v in found.items() if k != "truth"} == json.loads(json.dumps(dict(origin)))
