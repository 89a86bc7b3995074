"""Eight Gaussians on a circle: which game keeps all of them.

Papers: Unrolled Generative Adversarial Networks (Metz et al., 2017) | https://arxiv.org/abs/1611.02163;
VEEGAN (Srivastava et al., 2017), for the counts | https://arxiv.org/abs/1705.07761
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import medgen
from medgen.data.phantoms import eight_gaussians
from medgen.registry import ImageSpec, Intensity, require
from medgen_gans.toys.game import play

__all__ = ["GAMES", "Contest", "Count", "Snapshot", "count", "draw_modes", "keeps"]

Points = NDArray[np.float64]

_SAMPLES, _BATCH = 2500, 256
_NETWORKS = {"latent_dim": 2, "channels": [128, 128, 128], "generator_norm": "none", "spectral_norm": False}


@dataclass(frozen=True)
class Contest:
    """A family with its configuration on top of the networks that all share, and how long it trains by default."""

    family: str
    config: Mapping[str, Any]
    steps: int


GAMES = {
    "vanilla": Contest("gan", {"generator_lr": 1e-3, "discriminator_lr": 1e-4}, 2000),
    "balanced": Contest("gan", {"generator_lr": 1e-3, "discriminator_lr": 1e-3}, 2000),
    "r1": Contest("gan", {"generator_lr": 1e-3, "discriminator_lr": 1e-3, "r1": 0.2}, 2000),
    "wgan_gp": Contest("wgan_gp", {"generator_lr": 1e-3, "discriminator_lr": 1e-3, "gradient_penalty": 0.1}, 1000),
}
"""vanilla has the rates of the unrolled GAN's notebook, balanced the same for both players, r1 and wgan_gp a penalty more."""


@dataclass(frozen=True)
class Count:
    """What 2,500 samples show. A sample is good within 3 standard deviations of its nearest mean.

    Args:
        modes: means with at least one good sample.
        kept: means with at least 20.
        share: of good samples.
        divergence: KL of the good samples' modes to the uniform distribution, in nats; infinite without any.
    """

    modes: int
    kept: int
    share: float
    divergence: float


@dataclass(frozen=True)
class Snapshot:
    """Samples [N, 2] after some steps."""

    step: int
    points: Points
    count: Count


def count(points: Points) -> Count:
    """The modes of `eight_gaussians()` in points [N, 2].

    >>> count(eight_gaussians().sample(400)).modes, count(np.zeros((10, 2)))
    (8, Count(modes=0, kept=0, share=0.0, divergence=inf))
    """
    density = eight_gaussians()
    distance = np.linalg.norm(points[:, None] - np.array(density.means), axis=-1)
    good = distance.min(1) <= 3.0 * density.sd
    counts = np.bincount(distance.argmin(1)[good], minlength=8)
    if not good.any():
        return Count(0, 0, 0.0, float("inf"))
    parts = counts[counts > 0] / counts.sum()
    return Count(int((counts >= 1).sum()), int((counts >= 20).sum()), float(good.mean()), float((parts * np.log(8 * parts)).sum()))


def keeps(name: str, steps: int | None = None, *, looks: int = 5, seed: int = 0, batch_size: int = _BATCH) -> list[Snapshot]:
    """Train one of `GAMES`, and look at its samples now and then; the last look is at the end."""
    game = GAMES[name]
    steps = game.steps if steps is None else steps
    spec = ImageSpec(channels=2, shape=(), content="features", intensity=Intensity(clip=False, rule="identity"))
    model: Any = medgen.create(game.family, spec, seed=seed, config={**_NETWORKS, **game.config})
    points = torch.tensor(eight_gaussians().sample(5000, seed), dtype=torch.float32)
    found = []
    for step in play(model, points, steps=steps, batch_size=batch_size, every=max(1, steps // looks), seed=seed):
        drawn = model.sample(_SAMPLES, noise=seed, micro_batch=_SAMPLES).double().numpy()
        found.append(Snapshot(step, drawn, count(drawn)))
    return found


def draw_modes(runs: Mapping[str, Sequence[Snapshot]]) -> Any:
    """A row per game, a column per look: a `matplotlib.figure.Figure`."""
    columns = max(len(looks) for looks in runs.values())
    figure = require("matplotlib.figure", "eval").Figure(figsize=(1.7 * columns, 1.9 * len(runs)), layout="constrained")
    grid = figure.subplots(len(runs), columns, squeeze=False)
    means = np.array(eight_gaussians().means)
    for row, (name, looks) in zip(grid, runs.items(), strict=True):
        for axes, look in zip(row, looks, strict=False):
            axes.plot(*means.T, "+", color="#c33", ms=9, mew=1)
            axes.plot(*look.points.T, ".", color="#235", ms=1.5, alpha=0.3)
            axes.set(xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[], aspect="equal")
            axes.set_title(f"step {look.step}: {look.count.modes} modes, {look.count.share:.0%}", fontsize=7)
        row[0].set_ylabel(name)
    return figure
