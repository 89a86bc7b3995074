"""Samples of a run, streamed: sample i is the same number for number however many are drawn, in whatever pieces."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from medgen import native
from medgen.data import Format, save_samples
from medgen.errors import ConfigError, RunError
from medgen.interfaces import ChoosesArithmetic, Condition, Generator, Model, Noise
from medgen.runs.claim import claim
from medgen.runs.conditions import ConditionSource
from medgen.runs.run import Run
from medgen.weights import read_meta

__all__ = ["CELL", "arithmetic", "generator_of", "sample_cells", "sample_to_folder"]

CELL = 32
"""Samples per micro-batch. Cells start at multiples of it, so that a sample's neighbours, and with them its last bits, never change."""

_PREFIX = "sample_"  # of the names that `save_samples` gives


def generator_of(run: Run) -> Generator:
    """The run's model, if it can draw samples.

    Raises:
        RunError: the family does not.
    """
    if not isinstance(run.model, Generator):
        raise RunError(f"family {run.config.family!r} does not draw samples; `medgen list --interface generator` shows those that do.")
    return run.model


def sample_cells(
    model: Generator, start: int, stop: int, *, seed: int, condition: Callable[[Noise], Condition] | None = None
) -> Iterator[tuple[int, Tensor, Condition]]:
    """Samples start..stop-1 as (number of the first, [B, C, *S], their conditions), one cell at a time.

    A cell is always computed whole, even where only part of it is asked for.
    """
    for cell in range(start // CELL * CELL, stop, CELL):
        noise = Noise(seed, torch.arange(cell, cell + CELL))
        chosen = condition(noise) if condition is not None else Condition()
        x = model.sample(CELL, condition=chosen, noise=noise, micro_batch=CELL)
        rows = slice(max(start - cell, 0), min(stop - cell, CELL))
        yield cell + rows.start, x[rows], chosen[rows]


def sample_to_folder(
    run: Run,
    out: Path,
    n: int,
    *,
    start: int = 0,
    seed: int = 0,
    format: Format = "png",
    condition: ConditionSource | None = None,
    progress: Callable[[int], None] | None = None,
) -> int:
    """Write samples start..start+n-1 into a folder; those that are there already are kept, so an interrupted call is simply repeated.

    Args:
        run: a finished run.
        out: the folder.
        n, start: how many, and the number of the first.
        seed: of the noise.
        format: "nifti", "npz", "png" or "csv".
        condition: see `ConditionSource`.
        progress: called with the number of samples done.

    Returns:
        How many were newly written.

    Raises:
        ConfigError: `n`, `start` or `seed` is out of range.
        DataError: the format cannot hold such samples.
        RunError: the folder holds samples of another model, seed, format or condition, with other overrides, or computed otherwise.
    """
    model = generator_of(run)
    if n < 1 or start < 0 or not 0 <= seed < 2**64:
        raise ConfigError(f"`n` must be at least 1, `start` not negative and `seed` in [0, 2^64); got {n}, {start} and {seed}.")
    save_samples(torch.empty(0, *model.image_spec.size), model.image_spec, out, 0, format)  # a wrong format shows before anything is made
    weights, given = read_meta(run.weights_file)["sha256"], condition.text if condition else ""
    asked = {"weights": weights, "overrides": run.overrides, "seed": seed, "format": format, "condition": given}
    claim(out / "samples.json", {**asked, **arithmetic(model)}, held=out.is_dir() and any(out.glob(f"{_PREFIX}*")), what="samples")
    there, new = _there(out), 0
    for cell in range(start // CELL * CELL, start + n, CELL):
        for first, last in _gaps(there, max(cell, start), min(cell + CELL, start + n)):
            for number, x, _ in sample_cells(model, first, last, seed=seed, condition=condition):
                save_samples(x, model.image_spec, out, number, format)
            new += last - first
        if progress is not None:
            progress(min(cell + CELL, start + n) - start)
    return new


def arithmetic(model: Model) -> dict[str, object]:
    """What the last bits of a sample depend on beside the weights: elsewhere it is the same up to rounding only."""
    kind: Literal["cpu", "cuda"] = "cuda" if model.device.type == "cuda" else "cpu"
    ops = "native" if native.load(kind).library else "reference"
    chosen = {"arithmetic": model.arithmetic()} if isinstance(model, ChoosesArithmetic) else {}
    return {"device": kind, "ops": ops, "torch": torch.__version__.partition("+")[0], **chosen}


def _there(out: Path) -> list[tuple[int, int]]:
    """Ranges [a, b) of the samples that the folder holds. Files appear whole, so that their names are proof enough."""
    names = (re.match(rf"{_PREFIX}(\d+)\.", entry.name) for entry in os.scandir(out))
    numbers = np.sort(np.fromiter((int(name[1]) for name in names if name), np.int64))
    if not len(numbers):
        return []
    ends = np.flatnonzero(np.diff(numbers) > 1)
    firsts, lasts = numbers[[0, *(ends + 1)]], numbers[[*ends, -1]] + 1
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


def _gaps(ranges: list[tuple[int, int]], first: int, last: int) -> list[tuple[int, int]]:
    """What of [first, last) the sorted ranges leave open.

    >>> _gaps([(0, 3), (5, 7)], 2, 9)
    [(3, 5), (7, 9)]
    """
    out: list[tuple[int, int]] = []
    for a, b in ranges:
        if first < min(a, last):
            out.append((first, min(a, last)))
        first = max(first, min(b, last))
    return [*out, (first, last)] if first < last else out
