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

__all__ = ["GAMES", "Count", "Snapshot", "count", "draw_modes", "keeps"]

Points = NDArray[np.float64]

_SAMPLES, _BATCH = 2500, 256
_NETWORKS = {"latent_dim": 16, "channels": [128, 128], "generator_norm": "none", "spectral_norm": False}

GAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "vanilla": ("gan", {"loss": "non_saturating", "generator_lr": 1e-3, "discriminator_lr": 1e-4}),
    "r1": ("gan", {"loss": "non_saturating", "generator_lr": 1e-3, "discriminator_lr": 1e-3, "r1": 0.2}),
    "wgan_gp": ("wgan_gp", {"generator_lr": 1e-3, "discriminator_lr": 1e-3, "gradient_penalty": 0.1}),
}
"""Name -> family and configuration, on top of the same networks. The rates of vanilla are those of the unrolled GAN's notebook."""


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


def keeps(name: str, steps: int, *, looks: int = 5, seed: int = 0, batch_size: int = _BATCH) -> list[Snapshot]:
    """Train one of `GAMES`, and look at its samples now and then; the last look is at the end."""
    family, config = GAMES[name]
    spec = ImageSpec(channels=2, shape=(), content="features", intensity=Intensity(clip=False, rule="identity"))
    model = medgen.create(family, spec, seed=seed, config={**_NETWORKS, **config})
    points = torch.tensor(eight_gaussians().sample(5000, seed), dtype=torch.float32)
    found = []
    for step in play(model, points, steps=steps, batch_size=batch_size, every=max(1, steps // looks), seed=seed):
        drawn = model.sample(_SAMPLES, noise=seed, micro_batch=_SAMPLES).double().numpy()  # type: ignore[attr-defined]
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
