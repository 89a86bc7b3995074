"""How much memory a computation takes."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["PeakMemory", "forward_bytes"]


class PeakMemory(TorchDispatchMode):
    """Follows the tensors that operations make within it.

    Workspaces within an operation, and what the allocator keeps beside, are not seen.

    >>> with PeakMemory() as memory:
    ...     x = torch.zeros(256)
    ...     for _ in range(3):
    ...         x = x + 1
    >>> memory.peak
    2048
    """

    def __init__(self) -> None:
        super().__init__()
        self.now, self.peak = 0, 0
        self._live: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        known = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in known:
                self._note(leaf.untyped_storage())
        return out

    def _note(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._live:
            return
        self._live.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._live.discard(key)
        self.now -= size


def forward_bytes(function: Callable[..., Any], *inputs: Tensor) -> int:
    """Peak of what `function` of these inputs holds at a time, in bytes, without gradients; the inputs themselves are not counted.

    >>> forward_bytes(lambda x: (x * 2).sum(), torch.zeros(8))
    36
    """
    with torch.no_grad(), PeakMemory() as memory:
        function(*inputs)
    return memory.peak
