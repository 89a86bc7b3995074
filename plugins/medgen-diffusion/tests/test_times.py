"""Times drawn by importance: unbiased, and the history that of the paper's code."""

from __future__ import annotations

import torch
import torch.multiprocessing as mp
from hypothesis import given, settings
from hypothesis import strategies as st

from medgen.interfaces import Noise
from medgen_diffusion.times import ImportantTimes, UniformTimes

T = 6


def naive(updates, history=10, uniform=1e-3):
    """improved-diffusion's LossSecondMomentResampler, one loss after the other."""
    kept = [[] for _ in range(T)]
    for t, loss in updates:
        kept[t] = [*kept[t], loss][-history:]
    if any(len(k) < history for k in kept):
        return torch.full((T,), 1 / T, dtype=torch.float64)
    size = torch.tensor([sum(x * x for x in k) / history for k in kept], dtype=torch.float64).sqrt()
    if size.sum() == 0:
        return torch.full((T,), 1 / T, dtype=torch.float64)
    return size / size.sum() * (1 - uniform) + uniform / T


LOSSES = st.lists(st.tuples(st.integers(0, T - 1), st.floats(0, 10, width=32)), min_size=1, max_size=60)


@given(batches=st.lists(LOSSES, min_size=1, max_size=6), parts=st.integers(1, 3))
@settings(max_examples=60)
def test_history(batches, parts):
    times = ImportantTimes(T).train()
    every = [(t, 1.0 + t) for t in range(T) for _ in range(10)]
    for batch in [every, *batches]:
        t, losses = torch.tensor([t for t, _ in batch]), torch.tensor([x for _, x in batch])
        for a, b in zip(t.chunk(parts), losses.chunk(parts), strict=True):  # accumulation
            times.note(a, b)
        times.learn()
    torch.testing.assert_close(times.probabilities(), naive([u for batch in [every, *batches] for u in batch]))


def test_uniform_until_every_time_is_known():
    times = ImportantTimes(T).train()
    times.note(torch.arange(T - 1).repeat(10), torch.ones(10 * (T - 1)))
    times.learn()
    assert times.probabilities().tolist() == [1 / T] * T


def ready():
    times = ImportantTimes(T).train()
    times.note(torch.arange(T).repeat(10), torch.arange(T).repeat(10).float())
    times.learn()
    return times


def test_the_weighted_mean_is_that_of_uniform_times():
    times, n = ready(), 200_000
    t, weight = times.draw(Noise(3, torch.arange(n)), 0)
    torch.testing.assert_close(torch.bincount(t, minlength=T) / n, times.probabilities().float(), rtol=0.05, atol=1e-3)
    values = torch.tensor([3.0, -1.0, 4.0, 1.0, -5.0, 9.0])
    error = (weight * values[t]).std() / n**0.5
    assert abs((weight * values[t]).mean() - values.mean()) < 5 * error


def test_validation_is_uniform_and_learns_nothing():
    times = ready().eval()
    t, weight = times.draw(Noise(3, torch.arange(5)), 0)
    plain, ones = UniformTimes(T).draw(Noise(3, torch.arange(5)), 0)
    assert torch.equal(t, plain)
    assert torch.equal(weight, ones)
    before = times.seen.clone()
    times.note(t, weight)
    times.learn()
    assert torch.equal(times.seen, before)


def test_losses_that_are_not_finite_do_not_stay():
    times = ready()
    times.note(torch.tensor([2]), torch.tensor([torch.inf]))
    times.learn()
    assert bool(times.probabilities().isfinite().all())


def _rank(rank, file, queue):
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    times = ImportantTimes(T).train()
    t = torch.arange(T).repeat(10).chunk(2)[rank]
    times.note(t, t.float())
    times.learn()
    queue.put((rank, times.losses.tolist(), times.seen.tolist()))
    torch.distributed.destroy_process_group()


def test_ranks_learn_from_each_other(tmp_path):
    context = mp.get_context("spawn")
    queue = context.Queue()
    workers = [context.Process(target=_rank, args=(rank, tmp_path / "store", queue)) for rank in range(2)]
    for worker in workers:
        worker.start()
    found = [queue.get(timeout=120) for _ in workers]
    for worker in workers:
        worker.join()
    alone = ready()
    for _, losses, seen in found:
        assert losses == alone.losses.tolist()
        assert seen == alone.seen.tolist()
