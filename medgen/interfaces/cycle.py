"""`Cycles`: a translator that also knows the way back."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

__all__ = ["Cycles"]


@runtime_checkable
class Cycles(Protocol):
    """What a `Translator` G may have beside its interface: a translator F the other way. It can then be checked without any truth.

    |F(G(x)) - x|, the cycle residual, is shown by evaluation and report. It says what of a source did not survive the translation; a small
    one does not say that the translation is right.

    Paper: Unpaired Image-to-Image Translation using Cycle-Consistent Adversarial Networks (Zhu et al., 2017) |
    https://arxiv.org/abs/1703.10593
    """

    def translate_back(self, y: Tensor) -> Tensor:
        """F(y): targets [B, C', *S] in model units to sources [B, C, *S] in theirs, without gradients; always the same."""

    def cycle(self, x: Tensor) -> Tensor:
        """F(G(x)) of sources [B, C, *S] in model units, without gradients; always the same."""
