"""What the model's density says of held-out data."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medgen.data.samples import Array
from medgen.interfaces import DensityModel, Noise, evaluating
from medgen.report.blocks import Block, Picture, Section, Text
from medgen.report.context import Context
from medgen.report.figures import Tile, tile_rows
from medgen.report.plots import histogram
from medgen.runs.apply import batches_of

__all__ = ["log_density"]

_SCORED = {0: 2000, 1: 300, 2: 300, 3: 48}
_EXTREMES = 6


def log_density(context: Context) -> Section | None:
    """DensityModel with data: histograms over training and held-out samples, and the samples at both ends."""
    model = context.model
    if not isinstance(model, DensityModel) or context.data is None:
        return None
    n = _SCORED[context.spec.dim]
    held = context.held_out(n)
    values = {context.split_name: _scores(context, model, held)}
    train = context.data.splits["train"]
    if context.split != "train":
        values = {"training": _scores(context, model, train[:: max(1, len(train) // n)][:n]), **values}
    kind = {"exact": "exact", "bound": "a lower bound, one draw per sample", "estimate": "a Monte Carlo estimate"}[model.log_prob_kind]
    what = (
        "ln p(x) with respect to model units" if model.log_prob_measure == "density" else "ln P(x), the probability mass of stored values"
    )
    text = f"{what}; it is {kind}."
    parts = [f"{name} {float(v.mean()):.2f} +- {2 * float(v.std()) / math.sqrt(len(v)):.2f}" for name, v in values.items() if len(v) > 1]
    if parts:
        text += f" Mean +- 2 standard errors: {', '.join(parts)} nats."
    if not all(bool(v.isfinite().all()) for v in values.values()):
        return Section("density", "Log-density", [Text(text), Text("Some values are infinite or undefined; no histogram.", "warning")])
    hint = "Held-out values far to the left of the training ones mean overfitting." if len(values) > 1 else ""
    figure = histogram({name: v.numpy() for name, v in values.items()}, x="ln p(x) in nats")
    blocks: list[Block] = [
        Text(text),
        Picture.of(figure, "Histograms of the log-density", hint, vector=True),
    ]
    if context.spec.dim:
        blocks.append(_extremes(context, held, values[context.split_name]))
    return Section("density", "Log-density", blocks)


def _scores(context: Context, model: DensityModel, rows: Array) -> Tensor:
    with evaluating(model):
        parts = [
            model.log_prob(batch.x, condition=batch.condition, noise=Noise(context.seed, batch.index)).double().cpu()
            for batch in batches_of(model, context.data, rows)  # type: ignore[arg-type]
        ]
    return torch.cat(parts)


def _extremes(context: Context, rows: Array, values: Tensor) -> Block:
    assert context.data is not None
    order = values.argsort()
    count = min(_EXTREMES if not context.volumes else 3, max(1, len(rows) // 2))
    ends = [order[:count], order[-count:].flip(0)]
    tiles = [[Tile(x) for x in context.data.stored(rows[end.numpy()])] for end in ends]
    figure = tile_rows(tiles, context.display, width=8.0, row_names=("least\nlikely", "most\nlikely"))
    return Picture.of(
        figure, "The least and the most likely real samples", f"The least and most likely of {len(rows)} {context.split_name} samples."
    )
