"""p(x_0 | x_1): how the last step of a chain ends in data: densities of continuous values, masses of levels and of classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from medgen.maths import log_discretised_normal, log_normal
from medgen.nn.flow import has_levels
from medgen.registry import ImageSpec

__all__ = ["Decoder"]


class Decoder:
    """ln p(x_0 | x_1) for p = N(mean, var) of the last step, by what the data are.

    - levels (integers in a window): the mass within half a level on either side, the outermost levels reaching to infinity;
    - classes (one-hot, -1 and 1): channels as two levels each, given that just one of them is 1;
    - all else: the density.

    Paper: Denoising Diffusion Probabilistic Models (Ho et al., 2020) | https://arxiv.org/abs/2006.11239, eq. 13

    Args:
        spec: of the data, whose bounds are -1 and 1 here.
    """

    def __init__(self, spec: ImageSpec) -> None:
        self.kind = "classes" if spec.content == "labels" else "levels" if has_levels(spec) else "density"
        low, high = (torch.tensor(v, dtype=torch.float64).view(-1, *[1] * spec.dim) for v in (spec.intensity.low, spec.intensity.high))
        self._low, self._width = low, high - low

    @property
    def mass(self) -> bool:
        """Whether it is a probability mass, else a density in the units of x_0."""
        return self.kind != "density"

    def log_prob(self, x0: Tensor, mean: Tensor, log_var: Tensor) -> Tensor:
        """[B], in nats."""
        if self.kind == "classes":
            z = mean * torch.exp(-0.5 * log_var)
            log_odds = torch.special.log_ndtr(z) - torch.special.log_ndtr(-z)
            each = (x0 + 1) / 2 * F.log_softmax(log_odds, 1)
        elif self.kind == "levels":
            low, width = self._low.to(x0), self._width.to(x0)
            first, last = low.round(), (low + width).round()
            level = (low + (x0 + 1) / 2 * width).round()
            centre, lowest, highest = (2 * (k - low) / width - 1 for k in (level, first, last))
            each = log_discretised_normal(centre, mean, log_var, 1 / width, lowest, highest)
        else:
            each = log_normal(x0, mean, log_var)
        return each.flatten(1).sum(1)
