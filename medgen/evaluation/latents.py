"""Scores of latents against attributes of the samples. What a metric function is called with: see `medgen.evaluation.measure`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from medgen.errors import DataError, PluginError
from medgen.evaluation.bootstrap import interval_recipe, subsample
from medgen.evaluation.lookup import Metric
from medgen.evaluation.score import Score

__all__ = ["evaluate_latents"]


def evaluate_latents(
    z: Tensor, attributes: Tensor, names: Sequence[str], *, metrics: Sequence[str], seed: int = 0, bootstrap: int = 200
) -> list[Score]:
    """Scores of N encoded samples whose attributes are known; where a metric has one figure per attribute, these are its details.

    Args:
        z: latents [N, L].
        attributes: [N, A].
        names: of the A attributes.
        metrics: names, of kind "latent".
        seed: of the bootstrap.
        bootstrap: parts drawn for the intervals; 0 for none.

    Raises:
        DataError: arrays that do not fit, or are not finite, or too few samples.
        ConfigError, UnknownNameError: a metric of another kind, or none of this name.
    """
    if z.dim() != 2 or attributes.dim() != 2 or len(z) != len(attributes) or attributes.shape[1] != len(names):
        raise DataError(f"`z` must be [N, L] and `attributes` [N, {len(names)}]; got {tuple(z.shape)} and {tuple(attributes.shape)}.")
    if not (len(z) and names and bool(z.isfinite().all() and attributes.isfinite().all())):
        raise DataError(f"latents and attributes must be finite, and there must be some; got {len(z)} samples of the attributes {names}.")
    z, attributes = z.detach().double().cpu(), attributes.detach().double().cpu()
    return [_score(Metric.find(name, "latent"), z, attributes, names, seed, bootstrap) for name in metrics]


def _score(metric: Metric, z: Tensor, attributes: Tensor, names: Sequence[str], seed: int, bootstrap: int) -> Score:
    plan, n = metric.plan, len(z)
    if n < plan.least:
        raise DataError(f"metric {metric.spec.name!r} needs at least {plan.least} samples; got {n}.")
    value, details = _figures(metric, z, attributes, names)
    share = plan.share(n, n)

    def of_part(rows: Any, _: Any) -> float:
        return _figures(metric, z[torch.from_numpy(rows)], attributes[torch.from_numpy(rows)], names)[0]

    parts = bootstrap if share else 0
    low, high = subsample(of_part, (n, n), value=value, share=share or 0.5, resamples=parts, seed=seed, limits=plan.limits)
    interval = interval_recipe("centred quantiles over random parts, without replacement", parts, seed)
    if parts:
        interval["share"] = round(share, 6)
    recipe = {"metric": metric.qualified, **plan.recipe_for((z.shape[1],)), "n": n, "latents": z.shape[1], "attributes": list(names)}
    note = ", ".join(f"{name} {figure:.3f}" for name, figure in details.items())
    return Score(metric.spec.name, value, low, high, n, {**recipe, "interval": interval}, metric.spec.better, note, details)


def _figures(metric: Metric, z: Tensor, attributes: Tensor, names: Sequence[str]) -> tuple[float, dict[str, float]]:
    """The figure, and those of the attributes that it is the mean of, if it is one."""
    found = metric.function(z, attributes)
    if isinstance(found, Tensor) and tuple(found.shape) == (len(names),):
        return float(found.mean()), dict(zip(names, found.tolist(), strict=True))
    if isinstance(found, float | int):
        return float(found), {}
    got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
    raise PluginError(f"metric {metric.qualified!r} must return a number, or one per attribute, shape ({len(names)},); got {got}.")
