"""Times to train on: all alike, or by importance."""

from __future__ import annotations

from collections import deque

import torch
import torch.distributed as dist
from torch import Tensor, nn

from medgen.interfaces import Noise

__all__ = ["ImportantTimes", "UniformTimes"]


class UniformTimes(nn.Module):
    """t uniform on 0..T-1.

    Args:
        steps: T.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps

    def draw(self, noise: Noise, stream: int) -> tuple[Tensor, Tensor]:
        """t int64 [B], and the weight of each sample's loss that makes its mean unbiased, [B]."""
        t = noise.integers(self.steps, stream=stream)
        return t, torch.ones_like(t, dtype=torch.float32)

    def note(self, t: Tensor, losses: Tensor) -> None:
        """What the losses were at these times, before weighting."""

    def learn(self) -> None:
        """After an optimizer step."""


class ImportantTimes(UniformTimes):
    """p_t in proportion to sqrt(E[L_t^2]) over the last 10 losses at t, mixed with 0.001 of the uniform; weights 1 / (T p_t).

    Uniform until 10 losses are known for every t. The losses are buffers, so that a resumed training goes on exactly; several ranks learn
    from each other's, in the order of the whole batch.

    Paper: Improved Denoising Diffusion Probabilistic Models (Nichol, Dhariwal, 2021) | https://arxiv.org/abs/2102.09672, section 3.3

    Args:
        steps: T.
        history: losses that are remembered per time.
        uniform: share of uniform times.
    """

    losses: Tensor
    seen: Tensor

    def __init__(self, steps: int, *, history: int = 10, uniform: float = 1e-3) -> None:
        super().__init__(steps)
        self.history, self.uniform = history, uniform
        self.register_buffer("losses", torch.zeros(steps, history))
        self.register_buffer("seen", torch.zeros(steps, dtype=torch.int64))
        self._noted: deque[tuple[Tensor, Tensor]] = deque(maxlen=256)  # pieces of the present step

    def probabilities(self) -> Tensor:
        """p_t [T], float64."""
        size = self.losses.double().square().mean(1).sqrt()
        p = size / size.sum().clamp(min=1e-300) * (1 - self.uniform) + self.uniform / self.steps
        ready = (self.seen >= self.history).all() & (size.sum() > 0)
        return torch.where(ready, p, 1 / self.steps)

    def draw(self, noise: Noise, stream: int) -> tuple[Tensor, Tensor]:
        """t by the inverse of the cumulative probabilities, and 1 / (T p_t)."""
        if not self.training:
            return super().draw(noise, stream)
        p = self.probabilities()
        t = torch.searchsorted(p.cumsum(0), noise.uniform(stream=stream, dtype=torch.float64)).clamp(max=self.steps - 1)
        return t, (1 / (self.steps * p[t])).float()

    def note(self, t: Tensor, losses: Tensor) -> None:
        """Remembered until `learn`, so that the same batch has the same loss until then."""
        if self.training:
            self._noted.append((t.detach(), losses.detach()))

    @torch.no_grad()
    def learn(self) -> None:
        """Put the noted losses of all ranks in the place of the oldest."""
        if not self._noted:
            return
        t, losses = torch.cat([t for t, _ in self._noted]), torch.cat([x for _, x in self._noted]).to(self.losses.dtype)
        self._noted.clear()
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            t, losses = _gathered(t), _gathered(losses)
        order = t.argsort(stable=True)
        t, losses = t[order], losses[order]
        counts = torch.bincount(t, minlength=self.steps)
        nth = torch.arange(len(t), device=t.device) - (counts.cumsum(0) - counts)[t]  # of those at the same time
        fresh = nth >= (counts - self.history)[t]
        place = (self.seen[t] + nth) % self.history
        self.losses[t[fresh], place[fresh]] = torch.nan_to_num(losses[fresh], posinf=0.0, neginf=0.0)
        self.seen += counts


def _gathered(value: Tensor) -> Tensor:
    """The values of all ranks, one rank after the other; all have as many."""
    parts = [torch.empty_like(value) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, value)
    return torch.cat(parts)
