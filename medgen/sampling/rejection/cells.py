"""The work of rejection, in cells of proposals: a cell is a function of its number, so that they can be done anywhere, in any order."""

from __future__ import annotations

import copy
import multiprocessing
import queue
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from medgen.errors import DataError, MedgenError
from medgen.interfaces import Noise
from medgen.nn import Parzen
from medgen.ops import rejection_step
from medgen.sampling.rejection.densities import Gaussian, Proposal
from medgen.sampling.rejection.target import Target

__all__ = ["Cell", "Work", "cells"]

_ACCEPT = 2**32 - 7  # noise stream of u, away from those of proposals
_AHEAD = 2  # cells that a worker may be ahead of the others


class Cell(NamedTuple):
    """What one cell of proposals gave.

    Args:
        points: those accepted, [A, D], on the CPU, in the order of their proposals.
        proposed: how many proposals.
        passed: of these, those that the density accepted, before conditions.
        violations: of these, those where P > k Q.
        excess: largest ln P - ln k Q; -inf where none was looked at.
    """

    points: Tensor
    proposed: int
    passed: int
    violations: int
    excess: float


@dataclass(frozen=True)
class Work:
    """Cell c holds the proposals c size to (c + 1) size - 1. Proposal i is a function of (seed, i), and so is whether it is accepted.

    Args:
        target, proposal: P and Q.
        log_k: of the envelope.
        seed: of all noise.
        size: proposals per cell.
        device: where to compute.
    """

    target: Target
    proposal: Proposal
    log_k: float
    seed: int
    size: int
    device: torch.device

    @property
    def direct(self) -> bool:
        """Whether the proposal is P itself, so that there is nothing to compare."""
        return self.proposal is self.target.density and self.target.temperature == 1.0 and self.log_k == 0.0

    @property
    def fused(self) -> bool:
        """Whether one op proposes, evaluates and compares."""
        p, q = self.target.density, self.proposal
        if not isinstance(p, Parzen) or self.target.temperature != 1.0:
            return False
        return isinstance(q, Gaussian) or (isinstance(q, Parzen) and _alike(p.points, q.points) and _alike(p.weights, q.weights))

    @torch.no_grad()
    def cell(self, number: int) -> Cell:
        """One cell.

        Raises:
            DataError: P is NaN at a proposal.
        """
        index = torch.arange(number * self.size, (number + 1) * self.size, device=self.device)
        x, accepted, ratio = self._tested(Noise(self.seed, index))
        if bool(ratio.isnan().any()):
            at = int(ratio.isnan().nonzero()[0, 0]) + number * self.size
            raise DataError(f"the log-density of target or proposal is NaN at proposal {at}: {x[at % self.size].tolist()[:8]}.")
        excess = ratio - self.log_k
        slack = 1e-4 + 1e-6 * abs(self.log_k)  # what float32 log-densities may be off
        x = x if accepted is None else x[accepted]
        kept = x[self.target.allowed(x)] if self.target.keep and len(x) else x
        most = float(excess.max()) if len(excess) else -float("inf")
        return Cell(kept.to(torch.float32).cpu(), self.size, len(x), int((excess > slack).sum()), most)

    def _tested(self, noise: Noise) -> tuple[Tensor, Tensor | None, Tensor]:
        """Proposals [B, D], which of them the density accepts (None: all), and ln P - ln Q where it was looked at."""
        p, q = self.target.density, self.proposal
        if self.direct:
            x = q.draw(noise)
            return x, None, x.new_empty(0, dtype=torch.float64)
        if self.fused:
            assert isinstance(p, Parzen)
            mean, factor = (q.mean, q.factor) if isinstance(q, Gaussian) else (None, q.bandwidth)  # type: ignore[attr-defined]
            step = rejection_step(
                noise.seed, noise.index, p.points, p.bandwidth, log_k=self.log_k, mean=mean, proposal=factor, weights=p.weights
            )
            return step.proposals, step.accepted, step.log_p - step.log_q
        x = q.draw(noise)
        ratio = self.target.log_prob(x).to(torch.float64) - q.log_prob(x).to(torch.float64)
        u = noise.uniform(stream=_ACCEPT, dtype=torch.float64)
        return x, self.log_k + u.log() < ratio, ratio

    def moved(self, device: torch.device) -> Work:
        """The same work elsewhere, on copies of densities."""
        target, proposal = copy.deepcopy((self.target, self.proposal))  # together, since one may be part of the other
        for module in (target, proposal):
            if isinstance(module, torch.nn.Module):
                module.to(device)
        return Work(target, proposal, self.log_k, self.seed, self.size, device)


def _alike(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None:
        return a is b
    return a is b or torch.equal(a, b)


def cells(work: Work, numbers: Iterable[int], devices: Sequence[torch.device]) -> Iterator[Cell]:
    """The cells of the given numbers, in their order.

    Several CPUs are processes with one thread each, several GPUs threads; worker r does every R-th cell, at most two ahead of what is read.
    """
    if len(devices) == 1:
        here = work if devices[0] == work.device else work.moved(devices[0])
        for number in numbers:
            yield here.cell(number)
    elif all(device.type == "cpu" for device in devices):
        yield from _forked(work, numbers, len(devices))
    else:
        yield from _threaded(work, numbers, devices)


def _forked(work: Work, numbers: Iterable[int], count: int) -> Iterator[Cell]:
    """Processes, because conditions are often Python; forked, because conditions need not be importable."""
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe() for _ in range(count)]
    children = [context.Process(target=_serve, args=(work, theirs), daemon=True) for _, theirs in pipes]
    for child in children:
        child.start()
    for _, theirs in pipes:
        theirs.close()
    ours = [pipe for pipe, _ in pipes]
    try:
        yield from _in_turn(iter(numbers), [pipe.send for pipe in ours], [lambda p=pipe: _received(p) for pipe in ours])
    finally:
        for pipe in ours:
            pipe.close()
        for child in children:
            child.terminate()
        for child in children:
            child.join()


def _serve(work: Work, pipe: Any) -> None:
    """Answers cell numbers with cells, until the pipe closes. One thread: those of OpenMP do not survive a fork."""
    torch.set_num_threads(1)
    with suppress(EOFError, KeyboardInterrupt, BrokenPipeError, ConnectionResetError):
        while True:
            number = pipe.recv()
            try:
                cell = work.cell(number)
                pipe.send((cell.points.numpy(), *cell[1:]))
            except Exception as error:  # goes to the parent, which raises it
                pipe.send(error if isinstance(error, MedgenError) else RuntimeError(f"{type(error).__name__}: {error}"))


def _received(pipe: Any) -> Cell:
    try:
        answer = pipe.recv()
    except (EOFError, ConnectionResetError):
        raise MedgenError("a process of the rejection sampler died; what is on disk is whole, so that the same call goes on.") from None
    if isinstance(answer, Exception):
        raise answer
    return Cell(torch.from_numpy(answer[0]), *answer[1:])


def _threaded(work: Work, numbers: Iterable[int], devices: Sequence[torch.device]) -> Iterator[Cell]:
    asked: list[queue.Queue[int | None]] = [queue.Queue() for _ in devices]
    found: list[queue.Queue[Cell | Exception]] = [queue.Queue() for _ in devices]

    def serve(rank: int) -> None:
        own = work.moved(devices[rank])
        while (number := asked[rank].get()) is not None:
            try:
                found[rank].put(own.cell(number))
            except Exception as error:  # goes to the reader, which raises it
                found[rank].put(error)

    def answer(rank: int) -> Cell:
        cell = found[rank].get()
        if isinstance(cell, Exception):
            raise cell
        return cell

    workers = [threading.Thread(target=serve, args=(rank,), daemon=True) for rank in range(len(devices))]
    for worker in workers:
        worker.start()
    try:
        yield from _in_turn(iter(numbers), [q.put for q in asked], [lambda r=r: answer(r) for r in range(len(devices))])
    finally:
        for q in asked:
            q.put(None)


def _in_turn(numbers: Iterator[int], ask: Sequence[Any], answer: Sequence[Any]) -> Iterator[Cell]:
    """Ask worker r for every R-th number, a few at a time, and hand on the answers in order."""
    waiting: list[int] = []
    turn = 0

    def more() -> None:
        nonlocal turn
        number = next(numbers, None)
        if number is not None:
            rank = turn % len(ask)
            ask[rank](number)
            waiting.append(rank)
            turn += 1

    for _ in range(_AHEAD * len(ask)):
        more()
    while waiting:
        cell = answer[waiting.pop(0)]()
        more()
        yield cell
