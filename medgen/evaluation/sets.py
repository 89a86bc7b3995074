"""From two sets of arrays, generated and real, to scores. What a metric function is called with: see `medgen.evaluation.measure`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medgen.errors import ConfigError, DataError, PluginError
from medgen.evaluation.bootstrap import interval_recipe, subsample
from medgen.evaluation.features import RANDOM_CONV, Extractor, extract, resized
from medgen.evaluation.lookup import Metric
from medgen.evaluation.network import load_extractor
from medgen.evaluation.paired import Range
from medgen.evaluation.score import Score

__all__ = ["DISTRIBUTION", "RECOGNITION", "evaluate_sets"]

DISTRIBUTION = ("frechet_distance", "kid", "mmd", "precision", "recall", "density", "coverage")
RECOGNITION = "class_recognition"
"""Of `DISTRIBUTION` too where the model is conditional on a label."""

_Rows = npt.NDArray[np.int64]


def evaluate_sets(
    real: Tensor,
    fake: Tensor,
    *,
    value_range: Range,
    metrics: Sequence[str] | None = None,
    extractor: str | Extractor = RANDOM_CONV,
    resize: Sequence[int] | None = None,
    labels: tuple[Tensor, Tensor] | None = None,
    seed: int = 0,
    bootstrap: int = 200,
) -> list[Score]:
    """Scores of a generated set against a real one.

    Args:
        real: [N, C, *S], samples that the model was not trained on.
        fake: [M, C, *S]; figures are comparable at equal N and M only.
        value_range: (a, b), the interval of the units that the arrays are in; vectors ignore it.
        metrics: names; by default all of `DISTRIBUTION`.
        extractor: a name, file or callable as in `load_extractor`, or an `Extractor`.
        resize: spatial size that both sets are brought to before anything else.
        labels: classes of the real samples [N] and those that the generated ones were asked for [M]; some metrics need them.
        seed: of the bootstrap.
        bootstrap: parts drawn for the intervals; 0 for none. 200 cost about 50 times the figure itself.

    Raises:
        DataError: sets that do not fit, are too small, or are not finite.
        ConfigError, UnknownNameError: a metric that needs labels without them,
            an extractor that cannot be had, a metric of another kind, or none of this name.

    >>> x = torch.linspace(0, 1, 64 * 9).view(64, 1, 9)
    >>> print(evaluate_sets(x, x, value_range=(0, 1), metrics=["coverage"], bootstrap=0)[0])
    coverage 1.000 (higher is better, n=64) ! n = 64 < 100: balls are large and the figure is coarse
    """
    _check_sets(real, fake, value_range)
    chosen = [Metric.find(name, "distribution") for name in (DISTRIBUTION if metrics is None else metrics)]
    _check_labels(chosen, labels, (len(real), len(fake)))
    context: dict[str, Any] = {
        "n_real": len(real),
        "n_fake": len(fake),
        "image_size": list(real.shape[1:]),
        "resize": "none" if resize is None else {"to": list(resize), "how": "cell means down, linear up"},
        "value_range": list(map(float, value_range)),
    }
    if resize is not None:
        real, fake = resized(real.float(), tuple(resize)), resized(fake.float(), tuple(resize))
    note = _range_note(real, fake, value_range) if real.dim() > 2 else ""
    inputs = {"images": (real, fake)}
    recipes = {"images": context}
    if any(metric.plan.on == "features" for metric in chosen):
        net = load_extractor(extractor, real) if isinstance(extractor, str) else extractor
        inputs["features"] = extract(net, real, value_range), extract(net, fake, value_range)
        recipes["features"] = {"extractor": net.name, "features": net.dim, **net.recipe, **context}
    options: dict[str, Any] = {"note": note, "seed": seed, "bootstrap": bootstrap}
    return [_set_score(m, *inputs[m.plan.on], labels if m.plan.labels else (), recipes[m.plan.on], **options) for m in chosen]


def _check_labels(chosen: Sequence[Metric], labels: tuple[Tensor, Tensor] | None, sizes: tuple[int, int]) -> None:
    need = [metric.spec.name for metric in chosen if metric.plan.labels]
    if need and labels is None:
        raise ConfigError(f"metric {need[0]!r} compares classes; give `labels`, or evaluate a model that is conditional on a label.")
    if labels is not None and tuple(map(len, labels)) != sizes:
        raise DataError(f"`labels` must name the class of each of {sizes} samples; got {tuple(map(len, labels))}.")


def _set_score(
    metric: Metric,
    real: Tensor,
    fake: Tensor,
    labels: tuple[Tensor, ...] | None,
    recipe: Mapping[str, Any],
    *,
    note: str,
    seed: int,
    bootstrap: int,
) -> Score:
    plan, n, m = metric.plan, len(real), len(fake)
    sets = (real, fake, *(labels or ()))
    if min(n, m) < plan.least:
        raise DataError(f"metric {metric.spec.name!r} needs at least {plan.least} samples in each set; got {n} real and {m} generated.")
    value = metric.function(*sets)
    if not isinstance(value, float | int):
        raise PluginError(f"metric {metric.qualified!r} must return a number; got {type(value).__name__}.")
    share = plan.share(n, m)
    low, high = subsample(
        _of_rows(metric.function, sets),
        (n, m),
        value=float(value),
        share=share or 0.5,
        resamples=bootstrap if share else 0,
        seed=seed,
        limits=plan.limits,
    )
    details = dict(plan.details(*sets))
    facts = ", ".join(f"{key} {number:.4g}" for key, number in details.items())
    missing = "" if low is not None or not bootstrap else "all parts agree: no interval" if share else "too few samples for an interval"
    notes = [note, facts, plan.advice(n, m, real[0].numel()), missing]
    interval = interval_recipe("centred quantiles over random parts of both sets, without replacement", bootstrap if share else 0, seed)
    if share and bootstrap:
        interval["share"] = round(share, 6)
    full = {"metric": metric.qualified, **plan.recipe_for(tuple(real.shape[1:])), **recipe, "interval": interval}
    return Score(metric.spec.name, float(value), low, high, m, full, metric.spec.better, "; ".join(filter(None, notes)), details)


def _of_rows(function: Callable[..., Any], sets: tuple[Tensor, ...]) -> Callable[[_Rows, _Rows], float]:
    """The statistic of parts: rows of the first set, and of the second; labels, where there are any, follow."""

    def statistic(i: _Rows, j: _Rows) -> float:
        rows = torch.from_numpy(i), torch.from_numpy(j)
        return float(function(*(part[rows[k % 2]] for k, part in enumerate(sets))))

    return statistic


def _check_sets(real: Tensor, fake: Tensor, value_range: Range) -> None:
    if real.dim() < 2 or real.shape[1:] != fake.shape[1:]:
        raise DataError(
            f"`real` and `fake` must be sets [N, C, *S] of equal sample shape; got {tuple(real.shape)} and {tuple(fake.shape)}."
        )
    if not value_range[0] < value_range[1]:
        raise DataError(f"`value_range` must be (low, high) with low < high; got {value_range}.")
    for name, value in (("real", real), ("fake", fake)):
        if not len(value):
            raise DataError(f"`{name}` must hold at least one sample; got none.")
        if bad := torch.nonzero(~value.isfinite().flatten(1).all(1))[:, 0].tolist():
            raise DataError(f"`{name}` must be finite; got NaN or infinity in {len(bad)} samples, the first is number {bad[0]}.")


def _range_note(real: Tensor, fake: Tensor, value_range: Range) -> str:
    parts = []
    for name, value in (("real", real), ("generated", fake)):
        share = float(((value < value_range[0]) | (value > value_range[1])).double().mean())
        if share > 0.01:
            parts.append(f"{100 * share:.1f} % of {name} values lie outside value_range")
    return ", ".join(parts)
