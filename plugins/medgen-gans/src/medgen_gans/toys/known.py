"""Two optima that are known: D* = p / (p + q) in one dimension, and the distance that a critic measures."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from medgen.interfaces import Noise, Step
from medgen.nn.adversarial import Discriminator, Game, adversarial_loss
from medgen.registry import require

__all__ = ["Optimum", "Shift", "best_discriminator", "critic_distance", "draw_optimum", "draw_shift"]

_GAP = 2.0  # between the means of p = N(-1, 1) and q = N(1, 1)


@dataclass(frozen=True)
class Optimum:
    """A trained D beside alpha p / (p + q) at x [N], and the value of the game beside its closed form."""

    x: NDArray[np.float64]
    trained: NDArray[np.float64]
    wanted: NDArray[np.float64]
    value: float
    wanted_value: float

    @property
    def error(self) -> float:
        """Largest difference."""
        return float(np.abs(self.trained - self.wanted).max())


def best_discriminator(alpha: float = 1.0, *, steps: int = 200, seed: int = 0) -> Optimum:
    """Train D on data from p = N(-1, 1) and a fixed generator q = N(1, 1), for which p / (p + q) = sigmoid(-2 x).

    The value is that of the smoothed game, E_p[alpha ln D + (1 - alpha) ln(1 - D)] + E_q[ln(1 - D)]; without smoothing at the optimum
    -ln 4 + 2 JSD(p || q).
    """
    torch.manual_seed(seed)
    judge = Discriminator(1, (), [64, 64])
    _fit(judge, Game(adversarial_loss("minimax", target=alpha)), torch.tensor([_GAP]), steps, seed, centre=-0.5 * _GAP)
    x = np.linspace(-3, 3, 121)
    with torch.no_grad():
        trained = torch.sigmoid(judge(torch.tensor(x, dtype=torch.float32)[:, None]).score).double().numpy()
    wanted = alpha / (1.0 + np.exp(_GAP * x))
    grid = np.linspace(-9, 9, 4001)
    p, q = (np.exp(-0.5 * (grid - m) ** 2) / math.sqrt(2 * math.pi) for m in (-0.5 * _GAP, 0.5 * _GAP))
    with torch.no_grad():
        logits = judge(torch.tensor(grid, dtype=torch.float32)[:, None]).score.double().numpy()
    best = np.log(alpha / (1.0 + np.exp(_GAP * grid)) / (1.0 - alpha / (1.0 + np.exp(_GAP * grid))))
    return Optimum(x, trained, wanted, _value(logits, p, q, alpha, grid), _value(best, p, q, alpha, grid))


def _value(logit: NDArray[np.float64], p: NDArray[np.float64], q: NDArray[np.float64], alpha: float, x: NDArray[np.float64]) -> float:
    real = -alpha * np.logaddexp(0.0, -logit) - (1.0 - alpha) * np.logaddexp(0.0, logit)
    return float(np.trapezoid(p * real - q * np.logaddexp(0.0, logit), x))


@dataclass(frozen=True)
class Shift:
    """A critic's estimate of the distance between N(0, I) and N(m, I), beside |m|, which it is."""

    length: float
    estimate: float

    @property
    def error(self) -> float:
        """Relative difference."""
        return abs(self.estimate / self.length - 1.0)


def critic_distance(length: float, *, weight: float = 100.0, steps: int = 200, seed: int = 0) -> Shift:
    """Train a critic with gradient penalty on N(0, I) against N(m, I) in the plane, |m| = `length`.

    A linear critic's slope is best at 1 + |m| / (2 lambda): with lambda = 10 the estimate for |m| = 2 is 10 % too long, with 100, 1 %.
    """
    torch.manual_seed(seed)
    judge = Discriminator(2, (), [64, 64], bias=False)
    m = length * torch.tensor([0.6, 0.8])
    _fit(judge, Game(adversarial_loss("wasserstein"), penalty=weight), m, steps, seed)
    x = Noise(seed + 1, torch.arange(20_000)).normal(2)  # the same points on both sides: their own spread cancels
    with torch.no_grad():
        estimate = (judge(x).score.mean() - judge(x + m).score.mean()).item()
    return Shift(length, estimate)


def _fit(judge: nn.Module, game: Game, shift: Tensor, steps: int, seed: int, *, centre: float = 0.0, rows: int = 512) -> None:
    """Data from N(centre, I), fakes from N(centre + shift, I), a rate that falls to 0."""
    optimizer = torch.optim.Adam(judge.parameters(), 4e-3, betas=(0.5, 0.9))
    for number in range(steps):
        noise = Noise(seed, torch.arange(rows) + rows * number)
        real, fake = (noise.normal(len(shift), stream=stream) + centre for stream in (0, 1))
        loss = game.discriminator(judge, real, fake + shift, Step(number, steps, noise))["loss"]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.param_groups[0]["lr"] = 4e-3 * (1.0 - number / steps)
        optimizer.step()


def draw_optimum(found: dict[float, Optimum]) -> Any:
    """Trained and best discriminators, by target alpha: a `matplotlib.figure.Figure`."""
    figure = require("matplotlib.figure", "eval").Figure(figsize=(5, 3.4), layout="constrained")
    axes = figure.subplots()
    for number, (alpha, one) in enumerate(found.items()):
        axes.plot(one.x, one.wanted, color=f"C{number}", lw=4, alpha=0.3, label=rf"${alpha:g}\, p / (p + q)$")
        axes.plot(one.x, one.trained, color=f"C{number}", lw=1, label=f"trained, target {alpha:g}")
    axes.set(xlabel="x", ylabel="D(x)", ylim=(0, 1))
    axes.legend(frameon=False)
    return figure


def draw_shift(found: list[Shift]) -> Any:
    """Estimates against true distances: a `matplotlib.figure.Figure`."""
    figure = require("matplotlib.figure", "eval").Figure(figsize=(4, 3.4), layout="constrained")
    axes = figure.subplots()
    ends = [0.0, 1.1 * max(one.length for one in found)]
    axes.plot(ends, ends, "k:", label="the distance itself")
    axes.plot([one.length for one in found], [one.estimate for one in found], "o", label="the critic's estimate")
    axes.set(xlabel="|m|", ylabel="E[f(x)] - E[f(x + m)]", aspect="equal")
    axes.legend(frameon=False)
    return figure
