"""What the model draws: beside real data, and beside the nearest training samples."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from medgen.data.samples import Array
from medgen.evaluation import nearest
from medgen.interfaces import Generator
from medgen.report.blocks import Block, Picture, Row, Section, Text
from medgen.report.context import Context
from medgen.report.figures import Tile, sample_grid, tile_rows
from medgen.report.plots import cloud
from medgen.report.style import FAKE, REAL

__all__ = ["nearest_sample", "nearest_training", "samples"]

_CLOUD = 1000  # vectors drawn as points
_VALUES = 1 << 27  # training values compared with
_SHOWN = 8
_SIGNALS = 24  # shown in a grid


def samples(context: Context) -> Section | None:
    """Generator: real beside generated; one row per class where the model is conditional on a class."""
    if not isinstance(context.model, Generator):
        return None
    if context.spec.dim == 0:
        blocks = _vectors(context)
    elif context.classes:
        blocks = _by_class(context)
    else:
        blocks = _grids(context)
    return Section("samples", "Samples", blocks)


def _names(context: Context) -> list[str]:
    spec = context.spec
    return list(spec.channel_names) or [f"feature {k + 1}" for k in range(spec.channels)]


def _vectors(context: Context) -> list[Block]:
    fake = context.stored(context.draw(max(context.samples, min(_CLOUD, 16 * context.samples)))[0])
    sets = {"generated": fake}
    if context.data is not None:
        sets = {"real": context.data.stored(context.held_out(_CLOUD)), "generated": fake}
    few = " (the first four features)" if context.spec.channels > 4 else ""
    caption = f"{'Real and generated' if len(sets) > 1 else 'Generated'} samples{few}, n = {', '.join(str(len(x)) for x in sets.values())}."
    return [Picture.of(cloud(sets, _names(context)), f"Points of {' and '.join(sets)} samples", caption)]


def _layout(context: Context, n: int) -> int:
    """Columns of a grid of n samples."""
    columns = {1: 4, 2: 8, 3: 2}[context.spec.dim]
    return min(columns, max(1, n)) if len(context.display.views) < 2 or context.volumes else max(1, columns // len(context.display.views))


def _grids(context: Context) -> list[Block]:
    fake = context.stored(context.generated[: _SIGNALS if context.spec.dim == 1 else None])
    columns = _layout(context, len(fake))
    pictures = []
    if context.data is not None:
        real = context.data.stored(context.held_out(len(fake)))
        figure = sample_grid(real, context.display, columns=columns, title="Real")
        pictures.append(Picture.of(figure, f"Grid of {len(real)} real samples", f"{len(real)} {context.split_name} samples."))
    figure = sample_grid(fake, context.display, columns=columns, title="Generated", colour=FAKE)
    pictures.append(Picture.of(figure, f"Grid of {len(fake)} generated samples", f"Samples 0 to {len(fake) - 1} of seed {context.seed}."))
    return [*_intro(context), Row(pictures)]


def _by_class(context: Context) -> list[Block]:
    shown = context.classes
    total = min(context.samples, _SIGNALS) if context.spec.dim == 1 else context.samples
    each = max(1, total // len(shown))
    columns = _layout(context, each)
    each = each // columns * columns  # whole rows
    titles = [f"class {name}" if name.isdigit() else name for name in shown]
    row_names = [title if row == 0 else "" for title in titles for row in range(each // columns)]
    pictures = []
    if context.data is not None:
        figure = tile_rows(_real_rows(context, len(shown), each, columns), context.display, width=6.0, title="Real", row_names=row_names)
        pictures.append(Picture.of(figure, "Real samples by class", f"{context.split_name.capitalize()} samples."))
    fake = context.stored(torch.cat([context.draw(each, label=name)[0] for name in shown]))
    figure = sample_grid(fake, context.display, columns=columns, width=6.0, title="Generated", row_names=row_names, colour=FAKE)
    caption = (
        f"Samples 0 to {each - 1} of seed {context.seed} of each class: in the same place the noise is the same, only the class differs."
    )
    pictures.append(Picture.of(figure, "Generated samples by class", caption))
    blocks: list[Block] = [*_intro(context), Row(pictures)]
    label = context.model.condition_spec("label")
    if label is not None and len(shown) < label.size:
        blocks.append(Text(f"The first {len(shown)} of {label.size} classes are shown.", "note"))
    return blocks


def _real_rows(context: Context, classes: int, each: int, columns: int) -> list[list[Tile | None]]:
    assert context.data is not None
    rows, labels = context.data.splits[context.split], context.data.samples.labels
    assert labels is not None
    out: list[list[Tile | None]] = []
    for k in range(classes):
        own = context.data.stored(rows[labels[rows] == k][:each])
        tiles = [*(Tile(x, colour=REAL) for x in own), *[None] * (each - len(own))]
        out += [tiles[start : start + columns] for start in range(0, each, columns)]
    return out


def _intro(context: Context) -> list[Block]:
    lines = [context.display.caption] if context.display.caption else []
    if context.spec.dim == 1:
        low, high = min(context.display.low), max(context.display.high)
        length = f" and {context.spec.shape[0] * context.spec.spacing[0]:.3g} s wide" if context.spec.spacing else ""
        lines.append(f"Each box is {low:.3g} to {high:.3g} {context.display.unit} high{length}.")
    if context.data is None:
        lines.append("Real samples are missing: the data is not at hand.")
    return [Text(" ".join(lines))] if lines else []


def nearest_training(context: Context) -> Section | None:
    """Generator with data: the nearest training sample of each generated one, and how near held-out samples come."""
    if not isinstance(context.model, Generator) or context.data is None or not len(context.data.splits["train"]):
        return None
    fake = context.generated
    pool = _pool(context)
    distance, row = nearest_sample(context, pool, fake)
    blocks = _verdict(context, pool, distance)
    if context.spec.dim:
        order = distance.argsort()[: _SHOWN if not context.volumes else 4]
        stored = [context.stored(fake[order]), context.data.stored(row[order].numpy())]
        tiles = [[Tile(x, colour=colour) for x in group] for group, colour in zip(stored, (FAKE, REAL), strict=True)]
        names = [f"{float(d):.3g}" for d in distance[order]]
        figure = tile_rows(tiles, context.display, width=9.0, column_names=names, row_names=("generated", "nearest\ntraining"))
        alt = "Generated samples above their nearest training samples"
        blocks.append(Picture.of(figure, alt, "The generated samples that lie nearest to training data; above each its distance."))
    return Section("nearest", "Nearest training samples", blocks)


def _pool(context: Context) -> Array:
    """Training samples to compare with: all, or as many as fit the budget."""
    assert context.data is not None
    rows = context.data.splits["train"]
    most = max(1, _VALUES // context.spec.numel)
    if len(rows) <= most:
        return np.asarray(rows, np.int64)
    return np.sort(np.random.Generator(np.random.Philox(context.seed)).choice(rows, most, replace=False))


def nearest_sample(context: Context, rows: Array, x: Tensor) -> tuple[Tensor, Tensor]:
    """Euclidean distance in model units from each of x [N, C, *S] to the nearest of the data's samples `rows`, and its number."""
    best, number = torch.full((len(x),), torch.inf, dtype=torch.float64), torch.zeros(len(x), dtype=torch.int64)
    step = max(1, (1 << 22) // context.spec.numel)
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        distance, place = nearest(context.fetch(part).x.flatten(1), x.flatten(1))
        nearer = distance[:, 0] < best
        best = torch.where(nearer, distance[:, 0], best)
        number = torch.where(nearer, torch.from_numpy(part)[place[:, 0]], number)
    return best, number


def _verdict(context: Context, pool: Array, distance: Tensor) -> list[Block]:
    assert context.data is not None
    whole = len(context.data.splits["train"])
    among = f"all {whole}" if len(pool) == whole else f"{len(pool)} of {whole}"
    lines = f"Distances are Euclidean over all values, in model units, among {among} training samples. Generated samples: "
    lines += f"median {float(distance.median()):.3g}, smallest {float(distance.min()):.3g}."
    blocks: list[Block] = []
    if context.split != "train":
        held, _ = nearest_sample(context, pool, context.fetch(context.held_out(64)).x)
        ratio = float(distance.median()) / max(float(held.median()), 1e-12)
        lines += f" Held-out real samples: median {float(held.median()):.3g}. Ratio of the medians: {ratio:.2f}."
        if ratio < 0.5:
            blocks.append(
                Text("Generated samples lie much nearer to training samples than held-out ones do: the model may be copying.", "warning")
            )
    lines += " A look, not an audit: blurred samples lie near everything, and a shifted copy lies far away."
    return [Text(lines), *blocks]
