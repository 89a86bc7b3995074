"""Where the bits of a bound go: every term of the chain."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medgen.interfaces import DecomposesBound, DensityModel, Noise
from medgen.report.blocks import Picture, Section, Table, Text
from medgen.report.context import Context
from medgen.report.plots import chain
from medgen.runs.apply import batches_of

__all__ = ["bound"]

_SCORED = {0: 500, 1: 32, 2: 8, 3: 2}  # every term of a long chain is a pass through the network


def bound(context: Context) -> Section | None:
    """DecomposesBound with data: the mean of each term over held-out samples, and the three parts of the sum."""
    model = context.model
    if not isinstance(model, DecomposesBound) or context.data is None:
        return None
    rows = context.held_out(_SCORED[context.spec.dim])
    bits = _terms(context, model, rows) / (context.spec.numel * math.log(2.0))
    last = bits.shape[1] - 1
    text = (
        f"-ln p(x) <= L_0 + L_1 + ... + L_{last}, estimated on {len(rows)} {context.split_name} samples, one draw of the noise each. "
        "L_0 is the cost of the data given the first latent, L_t that of one step of the chain, and the last term what is left of the data "
        "at its end."
    )
    if isinstance(model, DensityModel) and model.log_prob_measure == "density":
        text += " L_0 is with respect to model units, so that it may be negative."
    if not bool(bits.isfinite().all()):
        return Section("bound", "The bound, term by term", [Text(text), Text("Some terms are infinite or undefined; no curve.", "warning")])
    parts = {
        f"L_{last}, the prior": bits[:, last],
        f"L_1 + ... + L_{last - 1}": bits[:, 1:last].sum(1),
        "L_0, the data": bits[:, 0],
        "all": bits.sum(1),
    }
    table = [(name, *_figures(value), *_figures(value * context.spec.numel * math.log(2.0))) for name, value in parts.items()]
    low, high = (bits.quantile(q, 0).numpy() for q in (0.1, 0.9))
    figure = chain(bits.mean(0).numpy(), low, high, x="t", y="L_t in bits/dim")
    hint = "Terms that are not positive have no place on a logarithmic axis." if bool((bits.mean(0) <= 0).any()) else ""
    return Section(
        "bound",
        "The bound, term by term",
        [
            Text(text),
            Picture.of(figure, "Each term of the bound over the steps of the chain", hint, vector=True),
            Table(("part", "bits/dim", "+- 2 standard errors", "nats", "+- 2 standard errors"), table),
        ],
    )


def _terms(context: Context, model: DecomposesBound, rows: object) -> Tensor:
    """[N, T + 1] in nats, float64."""
    assert context.data is not None
    parts = [
        model.bound_terms(batch.x, condition=batch.condition, noise=Noise(context.seed, batch.index)).detach().double().cpu()
        for batch in batches_of(context.model, context.data, rows)
    ]
    return torch.cat(parts)


def _figures(values: Tensor) -> tuple[str, str]:
    """Mean, and twice its standard error."""
    error = 2 * values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return f"{values.mean().item():.4g}", f"{error:.2g}" if math.isfinite(error) else "-"
