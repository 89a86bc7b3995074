"""q(z|x): a diagonal Gaussian, or one that an inverse autoregressive flow makes flexible.

Paper: Improving Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016) | https://arxiv.org/abs/1606.04934
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, Normal, constraints

from medgen.interfaces import Noise
from medgen.maths import kl_diagonal, log_normal
from medgen.nn.flow import Chain, MaskedAffineAutoregressive, Transform

__all__ = ["FlowPosterior", "Posterior", "PosteriorHead"]

_CONTEXT = 32  # features that the encoder hands to every step of the flow


@dataclass(frozen=True)
class Posterior:
    """z = f(mean + exp(log_var / 2) eps; h), with f the identity where there is no flow."""

    mean: Tensor
    log_var: Tensor
    flow: Transform | None = None
    context: Tensor | None = None

    def draw(self, noise: Noise, stream: int) -> tuple[Tensor, Tensor]:
        """z [B, L], and ln q(z|x) = -sum_i [eps_i^2 / 2 + ln(2 pi) / 2 + ln sd_i + sum_t ln g_t,i], [B]."""
        z = self.mean + torch.exp(0.5 * self.log_var) * noise.normal(self.mean.shape[1], stream=stream, dtype=self.mean.dtype)
        log_q = log_normal(z, self.mean, self.log_var).sum(1)
        if self.flow is None:
            return z, log_q
        z, log_det = self.flow(z, self.context)
        return z, log_q - log_det

    def kl(self, prior: tuple[Tensor, Tensor], z: Tensor, log_q: Tensor) -> Tensor:
        """KL[q || N(prior)] [B]: in closed form for a Gaussian, else its estimate ln q(z) - ln p(z) at a draw."""
        if self.flow is None:
            return kl_diagonal(self.mean, self.log_var, *prior).sum(1)
        return log_q - log_normal(z, *prior).sum(1)

    def distribution(self) -> Distribution:
        """With batch shape [B] and event shape [L]."""
        normal = Independent(Normal(self.mean, torch.exp(0.5 * self.log_var), validate_args=False), 1, validate_args=False)
        return normal if self.flow is None else FlowPosterior(normal, self.flow, self.context)


class FlowPosterior(Distribution):
    """f(z_0; h) with z_0 Gaussian; f costs one pass for a draw, and its inverse value after value for the density of any other z."""

    arg_constraints: ClassVar[dict[str, Any]] = {}
    has_rsample = True

    def __init__(self, base: Any, flow: Transform, context: Tensor | None) -> None:
        self.base, self.flow, self.context = base, flow, context
        super().__init__(batch_shape=base.batch_shape, event_shape=base.event_shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """f(mean of z_0): the flow's centre, which stands for the mean; that has no closed form."""
        return self.flow(self.base.mean, self.context)[0]

    @property
    def variance(self) -> Tensor:
        """Of 64 draws, always the same; it has no closed form."""
        rows, width = self.base.mean.shape
        noise = Noise(0, torch.arange(rows, device=self.base.mean.device)).normal(64, width, dtype=self.base.mean.dtype)
        return self._moved(self.base.mean + self.base.stddev * noise.transpose(0, 1)).var(0)

    @property
    def support(self) -> Any:
        """The reals."""
        return constraints.real_vector

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """[*sample_shape, B, L]."""
        return self._moved(self.base.rsample(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """ln q(value) [*sample_shape, B]."""
        flat = value.reshape(-1, value.shape[-1])
        start, log_det = self.flow.inverse(flat, self._repeated(len(flat)))
        return self.base.log_prob(start.view(value.shape)) + log_det.view(value.shape[:-1])

    def _moved(self, start: Tensor) -> Tensor:
        flat = start.reshape(-1, start.shape[-1])
        return self.flow(flat, self._repeated(len(flat)))[0].view(start.shape)

    def _repeated(self, rows: int) -> Tensor | None:
        return None if self.context is None else self.context.repeat(rows // max(1, len(self.context)), 1)


class PosteriorHead(nn.Module):
    """The encoder's output as a `Posterior`.

    A gated step is z' = g z + (1 - g) m with ln g = bounded(ln sigmoid(s)), s and m from the values before; the order turns from step to
    step.

    Args:
        latent: L.
        steps: of the flow; 0 for a Gaussian.
        hidden: widths within a step.
    """

    def __init__(self, latent: int, steps: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.latent = latent
        parts = [
            MaskedAffineAutoregressive(latent, hidden, context=_CONTEXT, order=order, activation="silu", form="gated")
            for order in (("sequential", "reversed")[step % 2] for step in range(steps))
        ]
        self.flow = Chain(parts) if parts else None

    @property
    def size(self) -> int:
        """Features that it takes from the encoder."""
        return 2 * self.latent + (0 if self.flow is None else _CONTEXT)

    def forward(self, h: Tensor) -> Posterior:
        """[B, size] -> q."""
        mean, log_var, context = h.split([self.latent, self.latent, h.shape[1] - 2 * self.latent], 1)
        # A log-variance beyond +-14 nats only ever comes from divergence; the bound keeps exp() and its gradient finite.
        return Posterior(mean, 14.0 * torch.tanh(log_var / 14.0), self.flow, None if self.flow is None else context)
