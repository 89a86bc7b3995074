"""How many samples may be worked on at a time."""

from __future__ import annotations

from medgen.errors import ConfigError

__all__ = ["fitting"]


def fitting(limit: float, n: int, each: int, state: int) -> int:
    """How many of n samples may be worked on at a time.

    Args:
        limit: `sampling_memory`, in GiB.
        n: of which the results lie in memory all along.
        each, state: bytes that work on one takes, and that its result takes.

    Raises:
        ConfigError: not a single one.

    >>> fitting(1 / 2**20, 4, 256, 64)  # 1 KiB
    3
    """
    rows = int((limit * 2**30 - n * state) // each)
    if rows < 1:
        need = (each + n * state) / 2**30
        raise ConfigError(f"`sampling_memory` of {limit:g} GiB is too little: {n} samples, drawn one by one, need {need:.3g}.")
    return min(rows, n)
