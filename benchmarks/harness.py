"""Rivals side by side: round-robin in one process, in an order shuffled every round, judged by the median of per-round ratios.

A call is repeated until `LEAST` seconds have passed, after one that does not count: what is timed is a warm loop, not the waking of
threads that sleep since the rival before.
"""

from __future__ import annotations

import gc
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

__all__ = ["Floor", "Result", "as_json", "compare", "here", "missing", "set_threads", "sweep", "use_device"]

LEAST = 0.02
SLOW, FEW = 1.0, 3  # a rival whose call takes more seconds than this sits out after so many rounds
Calls = Mapping[str, Callable[[], Any]]

_device = torch.device("cpu")


def use_device(name: str) -> None:
    """Where the cases put their tensors. A `with torch.device(...)` would cost every call tens of microseconds."""
    global _device  # noqa: PLW0603
    _device = torch.device(name)


def here() -> torch.device:
    """The device of this run."""
    return _device


@dataclass
class Result:
    """One rival in one case.

    Args:
        case, rival: names.
        seconds: of one call, per round.
        work: units of work per call (images, steps, pairs), for a rate.
        unit: of the work.
        ratio: median over rounds of (baseline's seconds / this rival's): above 1 is faster than the baseline.
        spread: inter-quartile range of those ratios.
        share: median over rounds of (the floor's seconds / this rival's): 1 is the machine's limit.
        note: accuracy, or why it is missing.
        size, threads: of a point of a scaling curve.
    """

    case: str
    rival: str
    seconds: list[float] = field(default_factory=list)
    work: float = 1.0
    unit: str = "calls"
    ratio: float = float("nan")
    spread: tuple[float, float] = (float("nan"), float("nan"))
    share: float | None = None
    note: str = ""
    size: int | None = None
    threads: int | None = None

    @property
    def median(self) -> float:
        """Median seconds of a call."""
        return statistics.median(self.seconds) if self.seconds else float("nan")

    @property
    def rate(self) -> float:
        """Work per second."""
        return self.work / self.median


@dataclass
class Floor:
    """What no implementation can beat: named rivals of the same rounds, each times how often a call needs it, added up.

    Args:
        of: the rival it is the floor of.
        parts: (name of a rival that does a bare piece of the work, how many of its calls one call of `of` needs).
    """

    of: str
    parts: Sequence[tuple[str, float]]


def compare(
    case: str,
    rivals: Calls,
    *,
    baseline: str,
    rounds: int,
    work: float = 1.0,
    unit: str = "calls",
    shares: Mapping[str, float] | None = None,
    floors: Sequence[Floor] = (),
    notes: Mapping[str, str] | None = None,
    seed: int = 0,
) -> list[Result]:
    """Time each rival in every round.

    Args:
        case: its name.
        rivals: name -> what to run.
        baseline: whose seconds are the numerator of every ratio.
        rounds: that count.
        work, unit: done by one call.
        shares: slow rival -> the share of the work that its call does; its seconds are divided by it.
        floors: to take shares of.
        notes: rival -> what stands beside it; names that do not run become lines of their own.
        seed: of the order.
    """
    results = {name: Result(case, name, work=work, unit=unit) for name in rivals}
    print(f"{case}: {', '.join(rivals)}", file=sys.stderr, flush=True)  # long runs show where they are
    cost = {name: _cost(run) for name, run in rivals.items()}
    slow = {name for name in rivals if cost[name] > SLOW and cost[name] > 3 * cost[baseline]}
    order = list(rivals)
    shuffle = random.Random(seed)
    gc.collect()
    gc.freeze()  # so that collecting between rivals does not go through every module there is
    for number in range(rounds):
        shuffle.shuffle(order)
        for name in order:
            if name in slow and number >= FEW:
                continue
            gc.collect()
            repeats = max(1, math.ceil(LEAST / max(cost[name], 1e-7)))
            if repeats > 1:
                rivals[name]()
            results[name].seconds.append(_clock(rivals[name], repeats) / (shares or {}).get(name, 1.0))
    gc.unfreeze()
    base = results[baseline].seconds
    for result in results.values():
        result.ratio, result.spread = _quotient(base, result.seconds)
    for floor in floors:
        least = [sum(results[part].seconds[i] * times for part, times in floor.parts) for i in range(rounds)]
        results[floor.of].share = _quotient(least, results[floor.of].seconds)[0]
    for name, note in (notes or {}).items():
        results.setdefault(name, Result(case, name)).note = note
    return list(results.values())


def sweep(
    case: str, sizes: Sequence[int], build: Callable[[int], tuple[Calls, float]], *, baseline: str, rounds: int, unit: str
) -> list[Result]:
    """A scaling curve: the rivals over sizes, with one thread and with all.

    Args:
        case: its name.
        sizes: to go through.
        build: size -> rivals and the work of one call.
        baseline, rounds, unit: as in `compare`.
    """
    found = []
    every = torch.get_num_threads()
    for threads in sorted({1, every}):
        with set_threads(threads):
            for size in sizes:
                rivals, work = build(size)
                for result in compare(case, rivals, baseline=baseline, rounds=rounds, work=work, unit=unit):
                    result.size, result.threads = size, threads
                    found.append(result)
    return found


def missing(case: str, names: Mapping[str, str]) -> list[Result]:
    """A line for each rival that cannot run, with the reason."""
    return [Result(case, name, note=note) for name, note in names.items()]


@contextmanager
def set_threads(threads: int) -> Any:
    """Torch's threads (and those of medgen's ops, which follow them) within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def as_json(results: Sequence[Result]) -> list[dict[str, Any]]:
    """Plain JSON types."""
    return [asdict(r) | {"median": r.median, "rate": r.rate} for r in results]


def _clock(run: Callable[[], Any], times: int) -> float:
    """Seconds per call, the device's work included."""
    _wait()
    start = time.perf_counter()
    for _ in range(times):
        run()
    _wait()
    return (time.perf_counter() - start) / times


def _cost(run: Callable[[], Any]) -> float:
    """Seconds of a call, after one that compiles and allocates."""
    run()
    return _clock(run, 1)


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _quotient(above: Sequence[float], below: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Median and inter-quartile range of the quotients of the rounds that both ran in."""
    ratios = [a / b for a, b in zip(above, below, strict=False)]
    quartiles = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else [ratios[0]] * 3
    return statistics.median(ratios), (quartiles[0], quartiles[2])
