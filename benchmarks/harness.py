"""Rivals side by side: round-robin in one process, in an order shuffled every round, judged by the median of per-round ratios."""

from __future__ import annotations

import gc
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

__all__ = ["Result", "as_json", "compare", "environment", "table"]


@dataclass
class Result:
    """One rival in one case.

    Args:
        case, rival: names.
        seconds: per round.
        work: units of work per round (images, steps, pairs), for a rate.
        unit: of the work.
        ratio: median over rounds of (baseline's seconds / this rival's): above 1 is faster than the baseline.
        spread: inter-quartile range of those ratios.
        note: accuracy, or why it is missing.
    """

    case: str
    rival: str
    seconds: list[float] = field(default_factory=list)
    work: float = 1.0
    unit: str = "calls"
    ratio: float = float("nan")
    spread: tuple[float, float] = (float("nan"), float("nan"))
    note: str = ""

    @property
    def median(self) -> float:
        """Median seconds."""
        return statistics.median(self.seconds) if self.seconds else float("nan")

    @property
    def rate(self) -> float:
        """Work per second."""
        return self.work / self.median


def compare(
    case: str, rivals: Mapping[str, Callable[[], Any]], *, baseline: str, rounds: int, work: float = 1.0, unit: str = "calls", seed: int = 0
) -> list[Result]:
    """Time each rival once per round, after one round that does not count.

    Args:
        case: its name.
        rivals: name -> what to run.
        baseline: whose seconds are the numerator of every ratio.
        rounds: that count.
        work, unit: done by one run.
        seed: of the order.
    """
    results = {name: Result(case, name, work=work, unit=unit) for name in rivals}
    order = list(rivals)
    shuffle = random.Random(seed)
    for number in range(rounds + 1):
        shuffle.shuffle(order)
        for name in order:
            gc.collect()
            start = time.perf_counter()
            rivals[name]()
            seconds = time.perf_counter() - start
            if number:
                results[name].seconds.append(seconds)
    base = results[baseline].seconds
    for result in results.values():
        ratios = [a / b for a, b in zip(base, result.seconds, strict=True)]
        result.ratio = statistics.median(ratios)
        quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
        result.spread = (quartiles[0], quartiles[2])
    return list(results.values())


def environment() -> dict[str, Any]:
    """What the numbers depend on."""
    cpu = platform.processor()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            cpu = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), cpu)
    except OSError:
        pass
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": device,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
    }


def table(results: Sequence[Result], baseline: str) -> str:
    """Plain text, one line per rival."""
    head = ("case", "rival", "median s", "rate", f"x {baseline}", "quartiles", "note")
    rows = [head]
    for r in results:
        timed = bool(r.seconds)
        rate = f"{r.rate:,.0f} {r.unit}/s" if timed else "-"
        spread = f"{r.spread[0]:.2f}-{r.spread[1]:.2f}" if timed else "-"
        rows.append((r.case, r.rival, f"{r.median:.4g}" if timed else "-", rate, f"{r.ratio:.2f}" if timed else "-", spread, r.note))
    widths = [max(len(row[c]) for row in rows) for c in range(len(head))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def as_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Plain JSON types."""
    return [asdict(r) | {"median": r.median, "rate": r.rate} for r in results]
