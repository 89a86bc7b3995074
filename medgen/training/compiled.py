"""`Losses`: each phase's loss, through `torch.compile` where asked and where that works."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from medgen.interfaces import Batch, Phase, Step
from medgen.ops._define import ensure_native

__all__ = ["Losses"]

Loss = Callable[[Batch, Step], Mapping[str, Tensor]]


class Losses:
    """What to call for the loss of a phase.

    Compilation happens at the first calls, forward and backward, and may fail there: no compiler, or code that it cannot follow. Then the
    phase goes on without, and a warning says why.

    Args:
        phases: of the model.
        device: where it trains.
        compiled: whether to compile.
    """

    def __init__(self, phases: Sequence[Phase], device: torch.device, *, compiled: bool) -> None:
        if compiled:
            ensure_native(device)  # looking for the native ops is nothing that a compiler can follow
        self._compiled: dict[str, Loss] = {phase.name: torch.compile(phase.loss) for phase in phases} if compiled else {}

    def __getitem__(self, phase: Phase) -> Loss:
        return self._compiled.get(phase.name, phase.loss)

    def give_up(self, phase: Phase, error: Exception) -> bool:
        """After an error: whether the phase was compiled, and from now on is not, so that the call is worth repeating."""
        if self._compiled.pop(phase.name, None) is None:
            return False
        reason = next((line for line in str(error).splitlines() if line.strip()), "")
        warnings.warn(
            f"phase {phase.name!r} trains without compilation: {type(error).__name__}: {reason.strip()[:200]}. "
            "Install a C++ compiler (g++ or clang++) if there is none, or leave --compile out.",
            stacklevel=2,
        )
        return True
