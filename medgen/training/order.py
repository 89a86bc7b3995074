"""Which samples each step sees: a pure function of (seed, batch number), so that resuming needs one integer."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from medgen.errors import DataError
from medgen.interfaces import Batch

__all__ = ["BatchOrder", "prefetched"]


class BatchOrder:
    """Shuffled batches over epochs: every epoch is a fresh permutation; a last short batch of an epoch is left out.

    Args:
        index: the training samples.
        batch_size: at most as many as there are samples; more are cut down, which `size` tells.
        seed: of the permutations.
        divisor: `size` stays divisible by it (devices * accumulation).

    >>> order = BatchOrder(np.arange(10), 4, seed=0)
    >>> order.per_epoch, len(order.batch(7))
    (2, 4)
    """

    def __init__(self, index: NDArray[np.int64], batch_size: int, seed: int, divisor: int = 1) -> None:
        if len(index) < divisor:
            raise DataError(f"the training split must hold at least {divisor} sample(s), one per device and part; got {len(index)}.")
        self.index = np.asarray(index, dtype=np.int64)
        self.size = min(batch_size, len(index) // divisor * divisor)
        self.seed = seed
        self.per_epoch = len(index) // self.size
        self._epoch, self._permutation = -1, self.index

    def epoch(self, number: int) -> int:
        """Epoch of batch `number`."""
        return number // self.per_epoch

    def batch(self, number: int) -> NDArray[np.int64]:
        """Samples of batch `number`, counted from the start of training."""
        epoch, position = divmod(number, self.per_epoch)
        if epoch != self._epoch:
            # Philox is specified, so the order is the same on every platform and NumPy version.
            generator = np.random.Generator(np.random.Philox(key=[self.seed, epoch]))
            self._epoch, self._permutation = epoch, self.index[np.argsort(generator.random(len(self.index)), kind="stable")]
        return self._permutation[position * self.size : (position + 1) * self.size]


def prefetched(read: Callable[[int], Batch], first: int) -> Generator[Batch, None, None]:
    """read(first), read(first + 1), ...; the next is read while the current one trains."""
    with ThreadPoolExecutor(1, thread_name_prefix="medgen-reader") as reader:
        waiting: Future[Batch] = reader.submit(read, first)
        number = first
        while True:
            batch = waiting.result()
            number += 1
            waiting = reader.submit(read, number)
            yield batch
