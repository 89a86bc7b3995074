"""`Inpainter`: a model that fills in what is not known of an array."""

from __future__ import annotations

from abc import abstractmethod
from typing import final

import torch
from torch import Tensor

from medgen.errors import DataError
from medgen.interfaces.condition import Condition
from medgen.interfaces.model import Model, cells, evaluating
from medgen.interfaces.noise import Noise, as_noise

__all__ = ["Inpainter"]


class Inpainter(Model):
    """A model that fills in what is not known of an array."""

    @abstractmethod
    def _inpaint(self, x: Tensor, mask: Tensor, condition: Condition, noise: Noise) -> Tensor:
        """[B, C, *S] in model units: x where `mask`, bool [B, C, *S], is set, and elsewhere, where x is 0, values drawn to fit it.

        Every random number from `noise`. Called in evaluation mode without gradients.
        """

    @final
    def inpaint(
        self, x: Tensor, mask: Tensor, *, condition: Condition | None = None, noise: Noise | int = 0, micro_batch: int = 64
    ) -> Tensor:
        """Fill in x [B, C, *S] where it is not known; what is known comes back to the bit, and what stands elsewhere is never looked at.

        Args:
            x: in model units.
            mask: bool, True where x is known; [B, 1, *S], or whatever broadcasts to x. Channels of a label map are known together.
            condition: of the B samples.
            noise: a seed, or the noise of the B samples: sample i depends on (weights, seed, i, x_i, mask_i, condition_i) only.
            micro_batch: samples that go through the network at once.

        Raises:
            DataError, ConditionError: input that does not fit.
        """
        x = self._checked_x(x, self.image_spec)
        known = _checked_mask(mask, x, one_hot=self.image_spec.content == "labels")
        checked, source = self._checked(condition, len(x)), as_noise(noise, len(x), x.device)
        with evaluating(self):
            given = torch.where(known, x, 0)
            parts = [self._inpaint(given[r], known[r], checked[r], source[r]) for r in cells(len(x), micro_batch)]
            return torch.where(known, x, torch.cat(parts)) if parts else x.clone()


def _checked_mask(mask: Tensor, x: Tensor, *, one_hot: bool) -> Tensor:
    if mask.dtype != torch.bool:
        raise DataError(f"`mask` must be bool, True where `x` is known; got {mask.dtype}.")
    shape = (len(x), 1, *x.shape[2:]) if one_hot else x.shape
    try:
        return mask.to(x.device).broadcast_to(shape).expand_as(x)
    except RuntimeError:
        raise DataError(f"`mask` must broadcast to [{', '.join(map(str, shape))}]; got {tuple(mask.shape)}.") from None
