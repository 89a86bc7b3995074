"""The pilot: what share of proposals will be accepted and how long it takes, before a run that might never end."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from medgen.interfaces import Noise
from medgen.sampling.rejection.cells import Work
from medgen.sampling.rejection.densities import Proposal
from medgen.sampling.rejection.target import Envelope

__all__ = ["Plan", "duration", "make_plan"]

_FIRST = 2**62  # number of the pilot's first proposal, where no run comes to


@dataclass(frozen=True)
class Plan:
    """What to expect of a run.

    Args:
        n: points wanted.
        acceptance: expected share of accepted proposals, conditions included.
        error: its standard error.
        rate: proposals per second.
        envelope: ln k and where it comes from.
    """

    n: int
    acceptance: float
    error: float
    rate: float
    envelope: Envelope

    @property
    def proposals(self) -> float:
        """How many are expected to be needed."""
        return self.n / self.acceptance if self.acceptance > 0 else math.inf

    @property
    def seconds(self) -> float:
        """How long it is expected to take."""
        return self.proposals / self.rate

    def __str__(self) -> str:
        share = "all" if self.acceptance == 1.0 else f"about {self.acceptance:.2g}"
        what = f"{share} of its proposals" if self.acceptance > 0 else "none of its pilot's proposals"
        needs = f"{self.proposals:.2g} of them, about {duration(self.seconds)} at {self.rate:.2g} a second"
        return f"accepts {what} (ln k = {self.envelope.log_k:.4g}, {self.envelope.source}); {self.n} points need {needs}"


def make_plan(work: Work, envelope: Envelope, n: int, *, pilot: int = 4096, workers: int = 1) -> Plan:
    """Estimate acceptance from a few thousand draws, and the rate from one cell.

    Where P is normalised and can be drawn from, acceptance is E_P[min(1 / k, Q / P)] over draws from P, which finds 1e-14 as well as 0.1;
    else it is E_Q[min(1, P / k Q)] over proposals. Conditions are asked about all of these draws.

    Args:
        work: what a run would do.
        envelope: of `work`.
        n: points wanted.
        pilot: draws.
        workers: that share the run.
    """
    noise = Noise(work.seed, torch.arange(_FIRST, _FIRST + pilot, device=work.device))
    target, value = work.target, _values(work, noise)
    weights = value[1]
    if target.keep:
        weights = weights * target.allowed(value[0]).to(weights)
    acceptance, error = float(weights.mean()), float(weights.std()) / math.sqrt(pilot)
    return Plan(n, acceptance, error, workers * _rate(work), envelope)


def _values(work: Work, noise: Noise) -> tuple[Tensor, Tensor]:
    """Draws [B, D], and what each contributes to the acceptance, float64 [B]."""
    target, q = work.target, work.proposal
    p: Any = target.density
    with torch.no_grad():
        if work.direct:
            x = q.draw(noise)
            return x, torch.ones(len(x), dtype=torch.float64, device=x.device)
        of_target = target.temperature == 1.0 and isinstance(p, Proposal)
        x = p.draw(noise) if of_target else q.draw(noise)
        ratio = q.log_prob(x).to(torch.float64) - target.log_prob(x).to(torch.float64)  # ln Q / P
    if of_target:
        return x, ratio.clamp(max=-work.log_k).exp()
    return x, (-work.log_k - ratio).clamp(max=0.0).exp()


def _rate(work: Work) -> float:
    """Proposals per second of a cell, the first of which may build kernels."""
    seconds = math.inf
    for _ in range(2):
        start = time.perf_counter()
        work.cell(_FIRST // work.size)
        if work.device.type == "cuda":
            torch.cuda.synchronize(work.device)
        seconds = min(seconds, time.perf_counter() - start)
        if seconds > 2.0:
            break
    return work.size / max(seconds, 1e-9)


def duration(seconds: float) -> str:
    """In the largest unit that it fills.

    >>> duration(0.25), duration(600.0), duration(1e10)
    ('0.25 s', '10 min', '320 years')
    """
    for unit, length in (("years", 31_557_600.0), ("days", 86_400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= length:
            return "for ever" if math.isinf(seconds) else f"{float(f'{seconds / length:.2g}'):,.10g} {unit}"
    return f"{seconds:.2g} s"
