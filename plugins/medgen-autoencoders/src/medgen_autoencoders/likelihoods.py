"""p(x | decoder output): Gaussian, Bernoulli, categorical. Each gives ln p per sample, the mean, and a draw."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgen.errors import ConfigError
from medgen.interfaces import Noise
from medgen.maths import log_normal
from medgen.registry import ImageSpec

__all__ = ["Bernoulli", "Categorical", "Gaussian", "Likelihood", "make_likelihood"]

_STREAM = 7  # of the observation noise; the latents use streams below 7


class Likelihood(nn.Module, ABC):
    """p(x | h) with h [B, C, *S] the decoder's output."""

    output_range: tuple[float, float] | None = None
    measure: Literal["density", "mass"] = "density"

    @abstractmethod
    def log_prob(self, x: Tensor, h: Tensor) -> Tensor:
        """ln p(x | h) in nats, [B]."""

    @abstractmethod
    def mean(self, h: Tensor) -> Tensor:
        """E[x | h], [B, C, *S]."""

    @abstractmethod
    def sample(self, h: Tensor, noise: Noise) -> Tensor:
        """A draw of x given h, [B, C, *S]."""


class Gaussian(Likelihood):
    """N(x; h, sd^2 I): alpha ||x - h||^2 with alpha = 1 / (2 sd^2), plus the constant that makes it a density.

    Args:
        sd: fixed standard deviation, or None for one learned number.
            Paper: Simple and Effective VAE Training with Calibrated Decoders (Rybkin et al., 2021) | https://arxiv.org/abs/2006.13202
    """

    def __init__(self, sd: float | None) -> None:
        super().__init__()
        log_var = torch.tensor(2.0 * math.log(sd if sd is not None else 0.3))
        if sd is None:
            self.log_var: Tensor = nn.Parameter(log_var)
        else:
            self.register_buffer("log_var", log_var)

    def _bounded(self) -> Tensor:
        # Soft lower bound at sd = 1e-3: on data without noise the optimum is sd = 0, where the density diverges.
        floor = 2.0 * math.log(1e-3)
        return floor + F.softplus(self.log_var - floor) if isinstance(self.log_var, nn.Parameter) else self.log_var

    def log_prob(self, x: Tensor, h: Tensor) -> Tensor:
        """ln N(x; h, sd^2 I), [B]."""
        return log_normal(x, h, self._bounded()).flatten(1).sum(1)

    def mean(self, h: Tensor) -> Tensor:
        """h itself."""
        return h

    def sample(self, h: Tensor, noise: Noise) -> Tensor:
        """h + sd eps."""
        return h + torch.exp(0.5 * self._bounded()) * noise.normal(*h.shape[1:], stream=_STREAM, dtype=h.dtype)


class Bernoulli(Likelihood):
    """Independent Bernoulli of probability sigmoid(h): binary cross-entropy. x in [0, 1]; grey values count as soft targets."""

    output_range = (0.0, 1.0)
    measure = "mass"

    def log_prob(self, x: Tensor, h: Tensor) -> Tensor:
        """sum x ln p + (1 - x) ln(1 - p), [B]."""
        return -F.binary_cross_entropy_with_logits(h, x, reduction="none").flatten(1).sum(1)

    def mean(self, h: Tensor) -> Tensor:
        """sigmoid(h)."""
        return torch.sigmoid(h)

    def sample(self, h: Tensor, noise: Noise) -> Tensor:
        """1 where a uniform falls below sigmoid(h)."""
        return (noise.uniform(*h.shape[1:], stream=_STREAM, dtype=h.dtype) < torch.sigmoid(h)).to(h.dtype)


class Categorical(Likelihood):
    """One class per position, probabilities softmax(h) over channels: softmax cross-entropy. x one-hot (or soft) [B, C, *S]."""

    output_range = (0.0, 1.0)
    measure = "mass"

    def log_prob(self, x: Tensor, h: Tensor) -> Tensor:
        """sum over positions of ln p(class), [B]."""
        return (x * F.log_softmax(h, 1)).flatten(1).sum(1)

    def mean(self, h: Tensor) -> Tensor:
        """softmax(h)."""
        return torch.softmax(h, 1)

    def sample(self, h: Tensor, noise: Noise) -> Tensor:
        """One-hot by the Gumbel maximum: argmax(h - ln(-ln u))."""
        u = noise.uniform(*h.shape[1:], stream=_STREAM, dtype=h.dtype)
        return F.one_hot((h - (-u.log()).log()).argmax(1), h.shape[1]).movedim(-1, 1).to(h.dtype)


def make_likelihood(kind: str, sd: float | None, spec: ImageSpec) -> Likelihood:
    """The likelihood of a configuration; "auto" goes by the content of the data.

    >>> type(make_likelihood("auto", None, ImageSpec(channels=3, shape=(8, 8), content="labels"))).__name__
    'Categorical'
    """
    if kind == "auto":
        kind = "categorical" if spec.content == "labels" else "gaussian"
    if kind == "gaussian":
        return Gaussian(sd)
    if kind == "categorical" and spec.channels == 1:
        raise ConfigError(
            "the categorical likelihood is for one-hot label maps of 2 or more classes; got one channel (see --content labels)."
        )
    return Bernoulli() if kind == "bernoulli" else Categorical()
