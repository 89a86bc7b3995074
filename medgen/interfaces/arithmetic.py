"""`ChoosesArithmetic`: a model that decides in which arithmetic it draws samples."""

from __future__ import annotations

from abc import ABC, abstractmethod

__all__ = ["ChoosesArithmetic"]


class ChoosesArithmetic(ABC):
    """A generator that may draw samples in another type than that of its weights, e.g. in bfloat16 where the device is fast at it.

    A folder of samples says which it was, and is not continued in another: the same sample is the same to the bit in one arithmetic only.
    """

    @abstractmethod
    def arithmetic(self) -> str:
        """Name of the type, like "bfloat16": a function of configuration, weights and device, not of what is drawn."""
