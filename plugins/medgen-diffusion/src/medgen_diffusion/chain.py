"""`Chain`: the forward process q, and the terms of the bound that a network's outputs make with it.

x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps, t = 0..T-1; abar_{-1} = 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from medgen.maths import alpha_bars, cosine_betas, kl_diagonal, kl_prior, linear_betas, log_variances, posterior_coefficients, to_x0
from medgen_diffusion.decoder import Decoder

__all__ = ["Chain"]


class Chain:
    """A schedule of T steps. Its tables are float64 whatever the type of the model, since 1 - abar loses four digits at the first step.

    Args:
        schedule, steps: which, and T.
        prediction: what the network predicts.
        variance: of the reverse steps; learned ones are the second half of the output's channels.
        decoder: p(x_0 | x_1).
        clip: whether the predicted x_0 is clamped to [-1, 1] in the bound, as it is in sampling.

    Papers: Denoising Diffusion Probabilistic Models (Ho et al., 2020) | https://arxiv.org/abs/2006.11239;
    Improved DDPM (Nichol, Dhariwal, 2021) | https://arxiv.org/abs/2102.09672
    """

    def __init__(
        self,
        schedule: Literal["linear", "cosine"],
        steps: int,
        *,
        prediction: Literal["eps", "x0", "v"],
        variance: Literal["beta", "posterior", "learned"],
        decoder: Decoder,
        clip: bool,
    ) -> None:
        self.alpha_bar = alpha_bars(linear_betas(steps) if schedule == "linear" else cosine_betas(steps))
        """[T], float64, on the CPU."""
        self._last = float(self.alpha_bar[-1])
        self.prediction, self.variance, self.decoder, self.clip = prediction, variance, decoder, clip
        before = torch.cat((self.alpha_bar.new_ones(1), self.alpha_bar[:-1]))
        low, high = log_variances(self.alpha_bar, before)
        if variance == "beta":
            low = torch.cat((low[:1], high[1:]))  # that of the decoder is btilde, as in the published models
        self._rows = {torch.device("cpu"): torch.stack((self.alpha_bar, before, low, high))}

    def __len__(self) -> int:
        return len(self.alpha_bar)

    def noised(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x_t of x_0 [B, C, *S] at t [B]."""
        at = self._at(t)[0]
        return _like(at.sqrt(), x0) * x0 + _like((1 - at).sqrt(), x0) * eps

    def target(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """What the network should predict from x_t."""
        if self.prediction == "v":
            at = self._at(t)[0]
            return _like(at.sqrt(), x0) * eps - _like((1 - at).sqrt(), x0) * x0
        return eps if self.prediction == "eps" else x0

    def split(self, output: Tensor) -> tuple[Tensor, Tensor | None]:
        """The prediction, and v in [-1, 1] of a learned variance."""
        if self.variance != "learned":
            return output, None
        mean, variance = output.chunk(2, 1)
        return mean, variance

    def predicted(self, output: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The x_0 that a prediction means, as it is."""
        at = self._at(t)[0]
        return to_x0(output, x, _like(at.sqrt(), x), _like((1 - at).sqrt(), x), self.prediction)

    def term(self, x0: Tensor, x: Tensor, t: Tensor, mean: Tensor, variance: Tensor | None, *, clip: bool | None = None) -> Tensor:
        """L_t in nats [B]: KL[q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)], and -ln p(x_0 | x_t) where t = 0.

        Args:
            x0, x: data, and x_t.
            t: int64 [B].
            mean, variance: the network's output, split.
            clip: instead of the chain's own.
        """
        predicted = self.predicted(mean, x, t)
        if self.clip if clip is None else clip:
            predicted = predicted.clamp(-1.0, 1.0)
        at, before, *ends = self._at(t.clamp(min=1))  # there is no KL at 0
        on_x0, _, own = posterior_coefficients(at, before)
        error, own = _like(on_x0, x) * (x0 - predicted), _like(own.log(), x)
        kl = kl_diagonal(error, own, torch.zeros_like(own), self._log_variance(ends, x, variance))
        decoded = self.decoder.log_prob(x0, predicted, self._log_variance(self._at(torch.zeros_like(t))[2:], x, variance))
        return torch.where(t == 0, -decoded, kl.flatten(1).sum(1))

    def prior(self, x0: Tensor) -> Tensor:
        """L_T = KL[q(x_T | x_0) || N(0, I)] in nats [B]."""
        return kl_prior(x0, self._last).flatten(1).sum(1)

    def _log_variance(self, ends: Sequence[Tensor], x: Tensor, variance: Tensor | None) -> Tensor:
        low, high = (_like(end, x) for end in ends)
        return low if variance is None else low + (high - low) * ((variance + 1) / 2)

    def _at(self, t: Tensor) -> tuple[Tensor, ...]:
        """abar_t, abar_{t-1}, and the ends of ln var: float64 [B] each."""
        if t.device not in self._rows:
            self._rows[t.device] = self._rows[torch.device("cpu")].to(t.device)
        return self._rows[t.device][:, t].unbind(0)


def _like(row: Tensor, x: Tensor) -> Tensor:
    """[B] -> [B, 1, ...] of x's type."""
    return row.to(x.dtype).view(-1, *[1] * (x.dim() - 1))
