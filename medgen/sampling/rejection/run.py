"""`reject`: n points of a target density, through proposals of another."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from medgen import native
from medgen.errors import ConfigError
from medgen.interfaces import Noise
from medgen.nn import Parzen
from medgen.sampling.rejection.cells import Work, cells
from medgen.sampling.rejection.densities import Density, Proposal
from medgen.sampling.rejection.plan import Plan, duration, make_plan
from medgen.sampling.rejection.store import Store, Tally
from medgen.sampling.rejection.target import Envelope, Target, kernels, make_envelope

__all__ = ["Accepted", "forecast", "reject"]

CELL = 8192
"""Proposals per cell."""


@dataclass(frozen=True)
class Accepted:
    """Points of a target, and how they were come by.

    Args:
        points: [n, D], float32, in the order of their proposals; memory-mapped where they are on disk.
        tally: counts of the whole run, resumed parts included.
        envelope: ln k and where it comes from.
        plan: what the pilot expected; None where all points were there already, or no pilot was asked for.
        seconds: that this call took.
        note: what was done otherwise than asked, or "".
    """

    points: Tensor
    tally: Tally
    envelope: Envelope
    plan: Plan | None
    seconds: float
    note: str = ""

    @property
    def acceptance(self) -> float:
        """Share of proposals that were accepted."""
        return self.tally.accepted / max(1, self.tally.proposed)

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the acceptance."""
        return wilson(self.tally.accepted, self.tally.proposed)

    @property
    def violations(self) -> float:
        """Share of proposals at which P > k Q: there the points are too few."""
        return self.tally.violations / max(1, self.tally.proposed)

    def __str__(self) -> str:
        t, (low, high) = self.tally, self.interval
        text = f"{len(self.points)} points of {t.proposed} proposals: acceptance {self.acceptance:.3g} ({low:.3g} to {high:.3g})"
        if t.passed > t.accepted:
            text += f", of {t.passed} that the density accepted the conditions kept {t.accepted / t.passed:.3g}"
        text += f"; ln k = {self.envelope.log_k:.4g} ({self.envelope.source})"
        if t.violations:
            text += f"; P > k Q at {t.violations} proposals ({self.violations:.2g}), by up to {t.excess:.2g} nats"
        return text + (f"; {self.note}" if self.note else "")


def wilson(hits: int, trials: int, z: float = 1.959964) -> tuple[float, float]:
    """Interval of a share.

    Paper: Probable Inference, the Law of Succession, and Statistical Inference (Wilson, 1927)

    >>> low, high = wilson(0, 100)
    >>> low, round(high, 3)
    (0.0, 0.037)
    """
    if trials < 1:
        return 0.0, 1.0
    share, extra = hits / trials, z * z / trials
    middle, half = share + extra / 2, z * math.sqrt(share * (1 - share) / trials + extra / (4 * trials))
    return max(0.0, (middle - half) / (1 + extra)), min(1.0, (middle + half) / (1 + extra))


def reject(
    target: Target | Density,
    proposal: Proposal | None = None,
    n: int | None = None,
    *,
    seed: int = 0,
    envelope: float | Literal["auto", "max", "quartile"] = "auto",
    data: Tensor | None = None,
    out: str | os.PathLike[str] | None = None,
    devices: int | Sequence[str | torch.device] = 1,
    cell: int = CELL,
    shard: range | None = None,
    patience: float | None = 3600.0,
    switch: bool = False,
    about: Mapping[str, Any] | None = None,
    progress: Callable[[int], None] | None = None,
) -> Accepted:
    """Points x ~ Q that are kept with probability P(x) / (k Q(x)): draws from P, [n, D].

    Which proposals are accepted is a function of (target, proposal, k, seed, cell): not of `devices`, of shards, or of how often it was
    killed. Densities are compared in logarithms.

    Paper: Various techniques used in connection with random digits (von Neumann, 1951)

    Args:
        target: P, or a `Target` made of it: to a power, or under conditions.
        proposal: Q; by default `kernels(target)`, which for a plain `Parzen` density are exact draws.
        n: points wanted; None with `shard` for all that it has.
        seed: of all noise.
        envelope: how k is found, see `make_envelope`; or ln k.
        data: for the envelope.
        out: folder of a memory-mapped store; the same call goes on with one that was killed.
        devices: on a CPU, processes with one thread each that share the work; on GPUs how many of them; or the devices by name.
        cell: proposals that are worked on at once, and the grain of sharing; conditions see at most so many points.
        shard: only the cells of these numbers, e.g. range(0, 100): shards of several machines, in order, are the whole.
        patience: seconds; a run that the pilot expects to take longer is refused. None: no pilot.
        switch: rather than refusing, propose from `kernels(target)`.
        about: plain JSON values that belong to what is asked, e.g. a name of what conditions depend on; kept in the store and compared.
        progress: called with the number of points there are.

    Raises:
        ConfigError: it would take too long, or arguments do not fit.
        DataError: P or Q is NaN somewhere.
        RunError: `out` holds something else.

    >>> p = Parzen(torch.tensor([[0.0], [4.0]]), 1.0)
    >>> found = reject(Target(p, keep=[lambda x: x[:, 0] > 2]), n=1000)
    >>> bool((found.points > 2).all()), round(found.acceptance, 1), found.tally.violations
    (True, 0.5, 0)
    """
    goal = target if isinstance(target, Target) else Target(target)
    limit = _limit(n, shard, cell, seed, out)
    work, bounds = _work(goal, kernels(goal) if proposal is None else proposal, envelope, data, seed, cell)
    places, plan, note, started = _devices(devices, work.device), None, "", time.perf_counter()
    begun = out is not None and (Path(out) / "rejection.json").is_file()
    if patience is not None and limit and not (begun and not switch):
        work, bounds, plan, note = _planned(work, bounds, limit if shard is None else 1, patience, len(places), switch=switch)
    dim = work.proposal.draw(Noise.of(seed, [0], work.device)).shape[1]
    store = Store(limit, dim, None if out is None else Path(out), _asked(work, bounds, about))
    try:
        numbers = itertools.count() if shard is None else shard
        for one in cells(work, itertools.islice(numbers, store.tally.cells, None), places) if not store.full else ():
            store.add(*one)
            if progress is not None:
                progress(store.tally.rows)
            if store.full:
                break
        return Accepted(store.points(), store.tally, bounds, plan, time.perf_counter() - started, note)
    finally:
        store.close()


def forecast(
    target: Target | Density,
    proposal: Proposal | None = None,
    n: int = 1000,
    *,
    seed: int = 0,
    envelope: float | Literal["auto", "max", "quartile"] = "auto",
    data: Tensor | None = None,
    cell: int = CELL,
) -> Plan:
    """What `reject` with the same arguments would take, from its pilot alone.

    >>> p = Parzen(torch.tensor([[0.0], [4.0]]), 1.0)
    >>> round(forecast(p, kernels(Target(p), 2.0)).acceptance, 3)
    0.5
    """
    goal = target if isinstance(target, Target) else Target(target)
    _limit(n, None, cell, seed, None)
    work, bounds = _work(goal, kernels(goal) if proposal is None else proposal, envelope, data, seed, cell)
    return make_plan(work, bounds, n)


def _limit(n: int | None, shard: range | None, cell: int, seed: int, out: Any) -> int:
    """Points at most."""
    if cell < 1 or not 0 <= seed < 2**64:
        raise ConfigError(f"`cell` must be at least 1 and `seed` in [0, 2^64); got {cell} and {seed}.")
    if shard is not None:
        if n is not None or out is not None or shard.start < 0 or shard.step != 1:
            raise ConfigError("a `shard` is a range of cells from 0 on, without `n` and `out`: all that it accepts is returned.")
        return cell * len(shard)
    if n is None or n < 0:
        raise ConfigError(f"`n` must be given and not be negative; got {n}.")
    return n


def _work(goal: Target, proposal: Proposal, envelope: Any, data: Tensor | None, seed: int, cell: int) -> tuple[Work, Envelope]:
    bounds = make_envelope(goal, proposal, envelope, data)
    tensors = itertools.chain(goal.parameters(), goal.buffers())
    return Work(goal, proposal, bounds.log_k, seed, cell, next((t.device for t in tensors), torch.device("cpu"))), bounds


def _planned(work: Work, bounds: Envelope, n: int, patience: float, workers: int, *, switch: bool) -> tuple[Work, Envelope, Plan, str]:
    """What to do after a look ahead.

    Raises:
        ConfigError: it would take too long.
    """
    plan, note, goal = make_plan(work, bounds, n, workers=workers), "", work.target
    other = kernels(goal) if isinstance(goal.density, Parzen) else None
    better = other is not None and not (isinstance(work.proposal, Parzen) and torch.equal(work.proposal.bandwidth, other.bandwidth))
    if plan.seconds > patience and switch and better:
        assert other is not None
        note = f"took the kernels of the target, since the proposal asked for {plan}"
        work, bounds = _work(goal, other, "auto", None, work.seed, work.size)
        plan, better = make_plan(work, bounds, n, workers=workers), False
    if plan.seconds > patience:
        hint = "leave `proposal` out for the kernels of the target, or " if better else ""
        raise ConfigError(f"rejection would take too long: it {plan}, more than {duration(patience)}; {hint}raise `patience`.")
    return work, bounds, plan, note


def _devices(devices: int | Sequence[str | torch.device], home: torch.device) -> list[torch.device]:
    if not isinstance(devices, int):
        found = [torch.device(d) for d in devices]
    elif home.type == "cuda" and devices > 1:
        found = [torch.device("cuda", k) for k in range(min(devices, torch.cuda.device_count()))]
    else:
        found = [home] * devices
    if not found or (isinstance(devices, int) and len(found) < devices):
        raise ConfigError(f"`devices` must be at least 1 and no more than there are; got {devices}.")
    return found


def _asked(work: Work, bounds: Envelope, about: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the points depend on, to the last bit."""
    kind: Literal["cpu", "cuda"] = "cuda" if work.device.type == "cuda" else "cpu"
    return {
        "target": _digest(work.target.density),
        "temperature": work.target.temperature,
        "conditions": [getattr(c, "__name__", type(c).__name__) for c in work.target.keep],
        "proposal": _digest(work.proposal),
        "log_k": bounds.log_k,
        "envelope": bounds.source,
        "seed": work.seed,
        "cell": work.size,
        "device": kind,
        "ops": "native" if native.load(kind).library else "reference",
        "about": dict(about or {}),
    }


def _digest(density: Any) -> str:
    """Its class, and a hash of its tensors."""
    found = hashlib.sha256()
    if isinstance(density, nn.Module):
        for name, value in density.state_dict().items():
            found.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
            found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return f"{type(density).__name__} {found.hexdigest()[:16]}"
