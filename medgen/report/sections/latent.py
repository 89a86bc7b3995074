"""The latent space: where data lies in it, what its directions do, and the way between two samples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from medgen.data.samples import Array
from medgen.interfaces import Batch, Condition, FollowsAttributes, LatentModel
from medgen.report.blocks import Block, Picture, Section, Text
from medgen.report.context import Context
from medgen.report.figures import Tile, sample_grid, tile_rows
from medgen.report.latent import Posterior, interpolate, manifold, posterior_of, principal_plane, quantiles, traversals
from medgen.report.plots import mesh, paths, responses, scatter
from medgen.report.style import FAKE, REAL

__all__ = ["choose_pairs", "interpolations", "latent_space"]

_ENCODED = 500
_STEPS = {0: 17, 1: 7, 2: 9, 3: 3}
_PAIRS = {0: 4, 1: 4, 2: 4, 3: 3}
_MANIFOLD = {0: 21, 1: 9, 2: 15, 3: 5}
_TRAVERSED = {0: 8, 1: 6, 2: 8, 3: 4}


def latent_space(context: Context) -> Section | None:
    """LatentModel: the decoded plane of a 2-D latent space, else traversals; and the posterior means of real samples."""
    model = context.model
    if not isinstance(model, LatentModel):
        return None
    posterior, batch = None, None
    if context.data is not None:
        batch = context.fetch(context.held_out(_ENCODED))
        posterior = posterior_of(model, batch.x, batch.condition)
    blocks: list[Block] = [Text(_size(model.latent_shape))]
    condition = context.neutral_condition()
    if condition is None:
        blocks.append(Text("Nothing is decoded here: the model needs an image as condition.", "note"))
    elif model.latent_shape == (2,):
        blocks.append(_plane(context, model, condition, posterior))
    else:
        blocks += _traversals(context, model, condition, posterior)
    if posterior is not None and batch is not None and posterior.mean[0].numel() > 1 and len(posterior.mean) > 2:
        blocks.append(_means(context, posterior, batch))
    return Section("latent", "Latent space", blocks)


def _size(shape: tuple[int, ...]) -> str:
    if len(shape) == 1:
        return f"A latent is a vector of {shape[0]} value{'s' if shape[0] > 1 else ''}."
    return f"A latent has shape {' x '.join(map(str, shape))}."


def _plane(context: Context, model: LatentModel, condition: Condition, posterior: Posterior | None) -> Block:
    n = _MANIFOLD[context.spec.dim]
    points = posterior is not None and not posterior.random
    centre, scale = (posterior.mean.mean(0), posterior.mean.std(0)) if points and posterior is not None else (None, None)
    x = context.stored(manifold(model, n, condition, centre=centre, scale=scale))
    where = "the Gaussian fitted to the encoded samples" if points else "N(0, 1)"
    caption = f"Decoded grid of the quantiles of {where}: z1 grows to the right, z2 upwards{_given(context)}."
    if context.spec.dim == 0 and context.spec.channels > 1:
        behind = None if context.data is None else context.data.stored(context.held_out(_ENCODED))
        return Picture.of(mesh(x.reshape(n, n, -1), _features(context), behind), "The latent plane in the space of the data", caption)
    if context.spec.dim == 0:
        return Picture.of(
            responses(quantiles(n).numpy(), x.reshape(n, n, -1)[[n // 2]], ["z1"], _features(context)), "Decoded line", caption
        )
    figure = sample_grid(x, context.display, columns=n, width=9.0 if len(context.display.views) > 1 else 7.0)
    return Picture.of(figure, "Grid of decoded latents", caption)


def _given(context: Context) -> str:
    return f" (given {text})" if (text := context.neutral_text()) else ""


def _features(context: Context) -> list[str]:
    return list(context.spec.channel_names) or [f"feature {k + 1}" for k in range(context.spec.channels)]


def _traversals(context: Context, model: LatentModel, condition: Condition, posterior: Posterior | None) -> list[Block]:
    """Rows for the latent values that carry most."""
    size, dim = int(np.prod(model.latent_shape)), context.spec.dim
    base, scale = torch.zeros(size), torch.ones(size)
    dims, notes = torch.arange(min(_TRAVERSED[dim], size)), [""] * size
    about = "the first latent values (without data their weight is unknown)"
    named = model.attribute_dimensions if isinstance(model, FollowsAttributes) else {}
    if posterior is not None:
        name, weight = posterior.weights()
        dims = weight.argsort(descending=True)[: _TRAVERSED[dim]]
        notes = [f"\n{float(w):.2g}" for w in weight]
        about = f"the latent values of largest {name}, written below each"
    if named:
        dims, about = torch.tensor(list(named.values())), "the latent values that follow the attributes, with their names"
        notes = [f"\n{name}" for name in _by_place(named, size)]
    values, way = torch.linspace(-2.5, 2.5, _STEPS[dim]), "from -2.5 to 2.5, the others stay at their mean"
    if posterior is not None and named:
        # Where an attribute lies, its latent values need not follow N(0, 1): the way goes through those of the data.
        low, high = posterior.mean.flatten(1).quantile(torch.tensor([0.05, 0.95]), 0)
        base, scale, values = (low + high) / 2, (high - low) / 2, values / 2.5
        way = "from the 5th (-1) to the 95th percentile (+1) of the encoded samples, the others stay in the middle"
    elif posterior is not None and not posterior.random:
        base, scale = posterior.mean.flatten(1).mean(0), posterior.mean.flatten(1).std(0)
        way = "from -2.5 to 2.5 standard deviations, the others stay at their mean"
    x = context.stored(traversals(model, dims, values, condition, base=base, scale=scale))
    rows = [f"z{_place(int(d), model.latent_shape)}{notes[int(d)]}" for d in dims]
    caption = f"Traversals: one value goes {way}{_given(context)}. Rows: {about}."
    if dim == 0:
        shaped = x.reshape(len(dims), len(values), -1)
        titles = [row.replace("\n", "  ") for row in rows]
        return [Picture.of(responses(values.numpy(), shaped, titles, _features(context)), "Decoded features against latents", caption)]
    figure = sample_grid(
        x, context.display, columns=len(values), width=8.0, row_names=rows, column_names=[f"{float(v):+.2g}" for v in values], colour=FAKE
    )
    return [Picture.of(figure, "Traversals of single latent values", caption), _weights(posterior, size)]


def _by_place(named: Mapping[str, int], size: int) -> list[str]:
    names = {place: name for name, place in named.items()}
    return [names.get(place, "") for place in range(size)]


def _weights(posterior: Posterior | None, size: int) -> Block:
    if posterior is None:
        return Text("")
    name, weight = posterior.weights()
    if not posterior.random:
        return Text(f"The {size} values have a total {name} of {float(weight.sum()):.3g}.")
    active = int((posterior.mean.flatten(1).var(0) > 0.01).sum())
    return Text(
        f"{active} of {size} latent values are in use (variance of the posterior mean above 0.01); total KL {float(weight.sum()):.2f} nats."
    )


def _place(number: int, shape: tuple[int, ...]) -> str:
    return str(number + 1) if len(shape) == 1 else str([int(i) for i in np.unravel_index(number, shape)])


def _means(context: Context, posterior: Posterior, batch: Batch) -> Block:
    mean = posterior.mean.flatten(1)
    points, axes, how = mean[:, :2], ("z1", "z2"), "Posterior means"
    if mean.shape[1] > 2:
        points, shares = principal_plane(mean)
        axes = tuple(f"component {k + 1} ({100 * share:.0f} %)" for k, share in enumerate(shares))  # type: ignore[assignment]
        how = "First two principal components of the posterior means"
    labels, names = _labels(context, batch.index)
    figure = scatter(points.numpy(), labels, names, axes)
    return Picture.of(figure, "Posterior means of real samples in the plane", f"{how} of {len(mean)} {context.split_name} samples.")


def _labels(context: Context, rows: Tensor) -> tuple[Array | None, tuple[str, ...]]:
    assert context.data is not None
    spec = next((c for c in context.data.conditions if c.kind == "label"), None)
    if spec is None or context.data.samples.labels is None:
        return None, ()
    return context.data.samples.labels[rows.numpy()], spec.names


def interpolations(context: Context) -> Section | None:
    """LatentModel with data: from one held-out sample to another, ends equal to their reconstructions."""
    model = context.model
    if not isinstance(model, LatentModel) or context.data is None:
        return None
    batch = context.fetch(context.held_out(_ENCODED))
    labels, _ = _labels(context, batch.index)
    pairs = choose_pairs(batch, labels, _PAIRS[context.spec.dim])
    if not pairs:
        return None
    t = torch.linspace(1.0, 0.0, _STEPS[context.spec.dim])
    walks = [
        interpolate(model, batch.x[a], batch.x[b], t, condition_a=batch.condition[a : a + 1], condition_b=batch.condition[b : b + 1])
        for a, b in pairs
    ]
    text = Text(
        "decode(t z_A + (1 - t) z_B) between two " + context.split_name + " samples A and B. At t = 1 and t = 0 it is their reconstruction."
    )
    if context.spec.dim == 0:
        lines = np.stack([context.stored(walk) for walk in walks])
        figure = paths(lines, _features(context), context.data.stored(context.held_out(_ENCODED)))
        return Section("interpolations", "Interpolations", [text, Picture.of(figure, "Paths between pairs of samples through the data")])
    rows = []
    for (a, b), walk in zip(pairs, walks, strict=True):
        ends = context.stored(batch.x[[a, b]])
        rows.append([Tile(ends[0], colour=REAL), *(Tile(x, colour=FAKE) for x in context.stored(walk)), Tile(ends[1], colour=REAL)])
    names = ["A", *(f"t = {float(v):.2g}" for v in t), "B"]
    figure = tile_rows(rows, context.display, width=9.0, column_names=names)
    return Section("interpolations", "Interpolations", [text, Picture.of(figure, "Rows of images that lead from one sample to another")])


def choose_pairs(batch: Batch, labels: Array | None, count: int) -> list[tuple[int, int]]:
    """Places of samples to walk between: of different classes where the model does not know the class, else of the same one.

    Samples with a missing condition are left out, and so are pairs whose classes the model would have to mix.
    """
    whole = [i for i in range(len(batch)) if all(bool(batch.condition.mask(name)[i]) for name in batch.condition.values)]
    flat = batch.x.flatten(1)
    whole = [i for i in whole if flat.shape[1] == 1 or flat[i].max() > flat[i].min()] or whole  # not from an empty slice
    fixed = {name: value for name, value in batch.condition.values.items() if not value.is_floating_point()}
    pairs: list[tuple[int, int]] = []
    free = [whole[i] for i in np.random.Generator(np.random.Philox(0)).permutation(len(whole))]  # neighbours in a file are often alike
    while free and len(pairs) < count:
        a = free.pop(0)
        fits = [b for b in free if all(torch.equal(v[a], v[b]) for v in fixed.values())]
        if labels is not None and not fixed:
            fits = [b for b in fits if labels[a] != labels[b]] or fits
        if fits:
            b = fits[0]
            free.remove(b)
            pairs.append((a, b))
    return pairs
