"""`DecomposesBound`: a bound on the log-density as a sum over a chain."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

from medgen.interfaces.condition import Condition
from medgen.interfaces.noise import Noise

__all__ = ["DecomposesBound"]


@runtime_checkable
class DecomposesBound(Protocol):
    """What a model of a chain x_0, ..., x_T may have beside its interfaces; the report then shows where its bits go.

    -ln p(x) <= L_0 + L_1 + ... + L_T with L_0 = -E ln p(x_0 | x_1), L_t = E KL[q(x_t | x_{t+1}, x_0) || p(x_t | x_{t+1})] for 0 < t < T,
    and L_T = KL[q(x_T | x_0) || p(x_T)]. Diffusion is the hierarchical VAE whose q is fixed and whose latents have the size of the data.

    Paper: Denoising Diffusion Probabilistic Models (Ho, Jain, Abbeel, 2020), eq. 5 | https://arxiv.org/abs/2006.11239
    """

    def bound_terms(self, x: Tensor, *, condition: Condition | None = None, noise: Noise | int = 0) -> Tensor:
        """(L_0, L_1, ..., L_T) of each x, in nats [B, T + 1].

        Args:
            x: [B, C, *S] in model units; L_0 is with respect to what `log_prob` is: a density in these units, or a mass.
            condition: of the B samples.
            noise: of the x_t.
        """
