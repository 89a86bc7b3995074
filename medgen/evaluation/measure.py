"""From arrays to scores. Metrics are found by name through the registry, so that a plugin's metric is computed like medgen's own.

What a metric function is called with depends on the `kind` of its `MetricSpec`:

    paired        f(real [B, C, *S], fake [B, C, *S], *, value_range, mask) -> Tensor [B], one figure per sample
    distribution  f(real [N, F], fake [M, F]) -> float, of features; of images [N, C, *S] where its plan says on="images";
                  where it says labels=True, f(real, fake, labels of real [N], labels asked for [M])
    density       f(log_prob [N], image_spec) -> Tensor [N], one figure per sample
    latent        f(z [N, L], attributes [N, A]) -> float, or Tensor [A], one figure per attribute, whose mean is the score

Everything else about it (constants for the recipe, possible values, the least n, warnings) is what it declares with
`medgen.evaluation.metric_plan`; without one the defaults hold. The interval follows from the kind alone: per-sample figures are
averaged, with a percentile bootstrap over samples (`bootstrap_mean`); statistics of sets are computed on random parts drawn without
replacement (`subsample`), since drawing a sample twice falsifies neighbours, kernels and covariances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from medgen.errors import DataError, PluginError
from medgen.evaluation.bootstrap import bootstrap_mean, interval_recipe
from medgen.evaluation.lookup import Metric
from medgen.evaluation.paired import Range
from medgen.evaluation.score import Score
from medgen.evaluation.ssim import scales_that_fit
from medgen.registry import ImageSpec, Intensity

__all__ = ["DENSITY", "PAIRED", "evaluate_density", "evaluate_pairs", "paired_values"]

PAIRED = ("mae", "mse", "psnr", "ssim_global", "ssim", "ms_ssim")
DENSITY = ("log_likelihood", "bits_per_dim", "bits_per_dim_model")

_FEW = 10  # below it a percentile interval is rough


def evaluate_pairs(
    real: Tensor,
    fake: Tensor,
    *,
    value_range: Range,
    mask: Tensor | None = None,
    metrics: Sequence[str] | None = None,
    groups: Sequence[Any] | None = None,
    seed: int = 0,
    bootstrap: int = 200,
) -> list[Score]:
    """Scores of B pairs: the mean over samples of each metric, with its median and sample standard deviation as details.

    Args:
        real: [B, C, *S].
        fake: the same shape: reconstructions or translations of the same subjects.
        value_range: (a, b), the interval of the units that the arrays are in.
        mask: True where voxels count, [B, 1 or C, *S].
        metrics: names; by default those of `PAIRED` that such images allow.
        groups: the subject of each sample; the bootstrap then draws subjects, whose slices are not independent.
        seed: of the bootstrap.
        bootstrap: resamples; 0 for no interval.

    Raises:
        DataError: arrays that do not fit, or are not finite.
        ConfigError, UnknownNameError: a metric of another kind, or none of this name.

    >>> print(evaluate_pairs(torch.zeros(8, 1, 4), torch.ones(8, 1, 4), value_range=(0, 1), metrics=["mae"])[0])
    mae 1.000 [1.000, 1.000] (lower is better, n=8) ! n < 10: the interval is rough
    """
    size = tuple(real.shape[1:])
    if groups is not None and len(groups) != len(real):
        raise DataError(f"`groups` must name the subject of each of {len(real)} samples; got {len(groups)} names.")
    context = {"image_size": list(size), "value_range": list(map(float, value_range)), "mask": "none" if mask is None else "given"}
    scores = []
    for name in _fitting(size) if metrics is None else metrics:
        metric = Metric.find(name, "paired")
        values = _values_of(metric, real, fake, value_range, mask)
        scores.append(
            _mean_score(metric, values, {**metric.plan.recipe_for(size), **context}, groups=groups, seed=seed, bootstrap=bootstrap)
        )
    return scores


def paired_values(real: Tensor, fake: Tensor, *, metric: str, value_range: Range, mask: Tensor | None = None) -> Tensor:
    """One figure per pair, [B]: what a per-subject table shows and `evaluate_pairs` averages. Arguments and errors as there.

    >>> paired_values(torch.zeros(2, 1, 2), torch.tensor([[[0.0, 1.0]], [[2.0, 2.0]]]), metric="mae", value_range=(0, 1)).tolist()
    [0.5, 2.0]
    """
    return _values_of(Metric.find(metric, "paired"), real, fake, value_range, mask)


def _fitting(size: tuple[int, ...]) -> tuple[str, ...]:
    if len(size) == 1:
        return ("mae", "mse")
    return PAIRED if scales_that_fit(size[1:]) else ("mae", "mse", "psnr", "ssim_global")


def _values_of(metric: Metric, real: Tensor, fake: Tensor, value_range: Range, mask: Tensor | None) -> Tensor:
    if real.shape != fake.shape or real.dim() < 2 or not len(real):
        raise DataError(
            f"`real` and `fake` must have the same shape [B, C, *S] with B >= 1; got {tuple(real.shape)} and {tuple(fake.shape)}."
        )
    if mask is not None and len(mask) != len(real):
        raise DataError(f"`mask` must have one entry per sample, {len(real)}; got {len(mask)}.")
    step = max(1, 2**22 // max(1, real[0].numel()))
    parts = []
    for start in range(0, len(real), step):
        rows = slice(start, start + step)
        values = metric.function(real[rows], fake[rows], value_range=value_range, mask=None if mask is None else mask[rows])
        parts.append(_per_sample(metric, values, len(real[rows])))
    return torch.cat(parts)


def _per_sample(metric: Metric, values: Any, n: int) -> Tensor:
    if not isinstance(values, Tensor) or tuple(values.shape) != (n,):
        got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise PluginError(f"metric {metric.qualified!r} must return one value per sample, shape ({n},); got {got}.")
    return values.detach().double().cpu()


def evaluate_density(
    log_prob: Tensor,
    spec: ImageSpec,
    *,
    kind: Literal["exact", "bound", "estimate"],
    measure: Literal["density", "mass"] = "density",
    metrics: Sequence[str] | None = None,
    seed: int = 0,
    bootstrap: int = 200,
) -> list[Score]:
    """Scores of N log-densities: nats, and bits per dimension in stored and model units; details hold +-2 standard errors.

    Args:
        log_prob: [N] nats with respect to model units, from `DensityModel.log_prob` on held-out samples.
        spec: of the samples; its intensity is the transform between the units.
        kind: what the numbers are, `DensityModel.log_prob_kind`.
        measure: `DensityModel.log_prob_measure`; probability mass does not change with the units.
        metrics: names; by default all of `DENSITY`.
        seed: of the bootstrap.
        bootstrap: resamples; 0 for no interval.

    Raises:
        DataError, ConfigError, UnknownNameError: as `evaluate_pairs`.

    >>> scores = evaluate_density(torch.full((16,), -4.0), ImageSpec(channels=1, shape=(4,)), kind="exact")
    >>> print(scores[0])
    log_likelihood -4.000 [-4.000, -4.000] (higher is better, n=16)
    """
    notes = {
        "exact": "",
        "bound": "from a lower bound of the log-density: the model is at least this good",
        "estimate": "from a Monte Carlo estimate of the log-density, which may be biased",
    }
    if measure == "mass":
        spec = replace(spec, intensity=Intensity())
    scale = [spec.intensity.scale(channel) for channel in range(spec.channels)]
    scores = []
    for name in DENSITY if metrics is None else metrics:
        metric = Metric.find(name, "density")
        values = _per_sample(metric, metric.function(log_prob, spec), len(log_prob))
        recipe = {**metric.plan.recipe_for(spec.size), "log_prob": kind, "measure": measure, "dim": spec.numel, "scale": scale}
        scores.append(_mean_score(metric, values, recipe, note=notes[kind], seed=seed, bootstrap=bootstrap))
    return scores


def _mean_score(
    metric: Metric,
    values: Tensor,
    recipe: Mapping[str, Any],
    *,
    note: str = "",
    groups: Sequence[Any] | None = None,
    seed: int,
    bootstrap: int,
) -> Score:
    array = values.numpy()
    n = len(array) if groups is None else len(set(map(str, groups)))
    low, high = bootstrap_mean(array, resamples=bootstrap, seed=seed, groups=groups)
    details = {"median": float(np.median(array))}
    if len(array) > 1 and np.isfinite(array).all():
        sd = float(array.std(ddof=1))
        details |= {"sd": sd, "two_se": 2.0 * sd / len(array) ** 0.5}
    notes = [note]
    if infinite := int((~np.isfinite(array)).sum()):
        notes.append(f"{infinite} of {len(array)} values are infinite (equal samples have an infinite PSNR): read the median")
    elif bootstrap and low is None:
        notes.append("one sample: no interval")
    elif bootstrap and n < _FEW:
        notes.append(f"n < {_FEW}: the interval is rough")
    drawn = "samples" if groups is None else f"{n} subjects"
    interval = interval_recipe(f"percentile bootstrap of the mean over {drawn}", bootstrap, seed)
    full = {"metric": metric.qualified, **recipe, "n": len(array), "interval": interval}
    text = "; ".join(filter(None, notes))
    return Score(metric.spec.name, float(array.mean()), low, high, len(array), full, metric.spec.better, text, details)
