"""Plots without pictures: training curves, points, agreement, histograms, responses. Each returns a `matplotlib.figure.Figure`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medgen.data.samples import Array
from medgen.report.style import FAKE, PALETTE, REAL, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["agreement", "chain", "cloud", "curves", "histogram", "mesh", "paths", "responses", "scatter"]

_MOST = 4  # features in a pair plot
_DECADES = 100.0


def curves(rows: Sequence[Mapping[str, Any]], *, width: float = 10.0) -> Figure:
    """Training (blue) and validation (vermilion) values against steps, one panel per phase and name.

    The vertical axis is logarithmic where all values are positive and span more than two decades; else a start that would flatten the
    rest is cut off.

    Args:
        rows: of metrics.csv: "step", "split", "phase", "name", "value".
        width: in inches.
    """
    panels = list(dict.fromkeys((str(row["phase"]), str(row["name"])) for row in rows))
    panels.sort(key=lambda key: key == ("", "lr"))  # the learning rate comes last
    columns = 4 if len(panels) == 4 else min(3, max(1, len(panels)))
    lines = math.ceil(len(panels) / columns)
    figure = new_figure(width if columns > 1 else 5.0, 2.5 * max(1, lines))
    for number, (phase, name) in enumerate(panels, 1):
        ax = tidy(figure.add_subplot(lines, columns, number), title=f"{phase}: {name}" if phase else name, x="step")
        own = [row for row in rows if (str(row["phase"]), str(row["name"])) == (phase, name)]
        for split, colour in (("train", REAL), ("val", FAKE)):
            points = [(row["step"], row["value"]) for row in own if row["split"] == split]
            if points:
                ax.plot(*zip(*points, strict=True), color=colour, linewidth=1.4, label=split, marker="." if len(points) < 3 else None)
        values = [row["value"] for row in own if math.isfinite(row["value"])]
        if values and min(values) > 0 and max(values) > _DECADES * min(values):
            ax.set_yscale("log")
        elif span := _settled(own):
            ax.set_ylim(*span)
        if number == 1:
            ax.legend(frameon=False, fontsize=9)
    return figure


def _settled(rows: Sequence[Mapping[str, Any]]) -> tuple[float, float] | None:
    """Vertical limits after the first tenth of the steps, where the start would flatten the rest of the curve."""
    end = max(row["step"] for row in rows)
    every = [row["value"] for row in rows if math.isfinite(row["value"])]
    late = [row["value"] for row in rows if math.isfinite(row["value"]) and row["step"] > 0.1 * end]
    if len(late) < 4 or not max(late) > min(late):
        return None
    span = max(late) - min(late)
    low, high = max(min(every), min(late) - 0.1 * span), min(max(every), max(late) + 0.3 * span)
    return (low - 0.05 * span, high + 0.05 * span) if max(every) - min(every) > 3 * span else None


def cloud(sets: Mapping[str, Array], names: Sequence[str], *, width: float = 6.0) -> Figure:
    """Vectors of several sets over each other: a histogram of one feature, points of two, a pair plot of the first four of more.

    Args:
        sets: name -> [N, D]; the first is drawn in blue, the second in vermilion.
        names: of the D features.
        width: in inches.
    """
    d = min(_MOST, len(names))
    if d == 2:
        figure = new_figure(width, width)
        ax = tidy(figure.add_subplot(), x=names[0], y=names[1])
        for (name, x), colour in zip(sets.items(), PALETTE, strict=False):
            ax.scatter(x[:, 0], x[:, 1], s=9, alpha=0.6, color=colour, linewidth=0, label=name)
        ax.set_aspect("equal", adjustable="datalim")
        ax.legend(frameon=False, fontsize=9)
        return figure
    figure = new_figure(width if d > 1 else 5.0, width if d > 1 else 3.0)
    for i in range(d):
        for j in range(i + 1):
            ax = tidy(figure.add_subplot(d, d, i * d + j + 1), x=names[j] if i == d - 1 else "", y=names[i] if j == 0 and i else "")
            for (name, x), colour in zip(sets.items(), PALETTE, strict=False):
                if i == j:
                    bins = _bins([s[:, i] for s in sets.values()])
                    weights = np.full(len(x), 1 / max(1, len(x)))  # shares: a set may lie wholly outside the bins
                    ax.hist(x[:, i], bins=bins, weights=weights, histtype="step", color=colour, label=name)
                else:
                    ax.scatter(x[:, j], x[:, i], s=4, alpha=0.5, color=colour, linewidth=0)
            if i == j == 0:
                ax.legend(frameon=False, fontsize=9)
    return figure


def agreement(real: Array, fake: Array, names: Sequence[str], *, width: float = 8.0) -> Figure:
    """Reconstructed against input value, a panel per feature (the first six); the line is perfect agreement.

    Args:
        real, fake: [N, D].
        names: of the D features.
        width: in inches.
    """
    d = min(6, real.shape[1])
    columns = min(3, d)
    figure = new_figure(width * columns / 3, width / 3 * math.ceil(d / columns))
    for k in range(d):
        ax = tidy(figure.add_subplot(math.ceil(d / columns), columns, k + 1), title=names[k], x="input", y="reconstruction")
        ax.axline((float(real[:, k].mean()),) * 2, slope=1, color="#bbbbbb", linewidth=1)
        ax.scatter(real[:, k], fake[:, k], s=9, alpha=0.6, color=FAKE, linewidth=0)
    return figure


def histogram(sets: Mapping[str, Array], *, x: str, width: float = 7.0) -> Figure:
    """Densities of one quantity in several sets, on common bins; values beyond the 0.5 % tails are gathered in the end bins.

    Args:
        sets: name -> [N].
        x: label of the horizontal axis.
        width: in inches.
    """
    figure = new_figure(width, 3.0)
    ax = tidy(figure.add_subplot(), x=x, y="share per bin")
    bins = _bins(list(sets.values()))
    for (name, values), colour in zip(sets.items(), PALETTE, strict=False):
        inside = np.clip(values, bins[0], bins[-1])
        weights = np.full(len(inside), 1 / max(1, len(inside)))
        ax.hist(inside, bins=bins, weights=weights, histtype="stepfilled", alpha=0.18, color=colour)
        ax.hist(inside, bins=bins, weights=weights, histtype="step", linewidth=1.5, color=colour, label=f"{name} (n = {len(values)})")
    ax.legend(frameon=False, fontsize=9)
    return figure


def chain(mean: Array, low: Array, high: Array, *, x: str, y: str, width: float = 8.0) -> Figure:
    """A quantity at the steps 0, 1, ... of a chain with its spread over samples, both axes logarithmic; step 0 stands apart on the left.

    Args:
        mean, low, high: [T + 1]; what is not positive is left out.
        x, y: labels of the axes.
        width: in inches.
    """
    figure = new_figure(width, 3.4)
    ax = tidy(figure.add_subplot(), x=x, y=y)
    steps = np.arange(len(mean))
    lines = [np.where(values > 0, values, np.nan) for values in (mean, low, high)]
    inner = slice(1, -1)
    ax.fill_between(steps[inner], lines[1][inner], lines[2][inner], color=REAL, alpha=0.18, linewidth=0, label="10 to 90 % of the samples")
    ax.plot(steps[inner], lines[0][inner], color=REAL, linewidth=1.4, label="mean")
    for end, marker in ((0, "o"), (len(mean) - 1, "s")):
        if mean[end] > 0:
            ax.plot(steps[end], mean[end], marker, color=FAKE, markersize=5, label=f"{x} = {end}")
    ax.set_xscale("symlog", linthresh=1.0, linscale=0.4)
    ax.set_yscale("log")
    ax.set_xlim(-0.3, 1.15 * len(mean))
    ax.legend(frameon=False, fontsize=9)
    return figure


def scatter(x: Array, labels: Array | None, names: Sequence[str], axes: tuple[str, str], *, width: float = 6.0) -> Figure:
    """Points in the plane, coloured by class where there is one.

    Args:
        x: [N, 2].
        labels: class of each point [N], or None.
        names: of the classes.
        axes: names of the two axes.
        width: in inches.
    """
    spread = np.ptp(x, axis=0)
    figure = new_figure(width, width * float(np.clip(spread[1] / max(spread[0], 1e-12), 0.4, 0.8)) + 0.5)
    ax = tidy(figure.add_subplot(), x=axes[0], y=axes[1])
    if labels is None:
        ax.scatter(x[:, 0], x[:, 1], s=12, alpha=0.7, color=REAL, linewidth=0)
    else:
        for k, name in enumerate(names):
            own = x[labels == k]
            marker = "osD^vP*X"[k // len(PALETTE) % 8]
            ax.scatter(own[:, 0], own[:, 1], s=14, alpha=0.7, color=PALETTE[k % len(PALETTE)], linewidth=0, marker=marker, label=name)
        legend = ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5), markerscale=1.6)
        for text in legend.get_texts():
            text.set_parse_math(False)
    ax.set_aspect("equal", adjustable="datalim")
    return figure


def mesh(grid: Array, names: Sequence[str], behind: Array | None = None, *, width: float = 6.0) -> Figure:
    """A decoded 2-D latent grid in the space of the first two features: blue along z1, vermilion along z2.

    Args:
        grid: [n2, n1, D].
        names: of the D features.
        behind: data to lie behind it, [N, D].
        width: in inches.
    """
    figure = new_figure(width, width)
    ax = tidy(figure.add_subplot(), x=names[0], y=names[1])
    if behind is not None:
        ax.scatter(behind[:, 0], behind[:, 1], s=8, color="#bbbbbb", linewidth=0, label="data")
    for number, line in enumerate(grid):
        ax.plot(line[:, 0], line[:, 1], color=REAL, linewidth=1, label="z1 varies" if number == 0 else None)
    for number, line in enumerate(grid.swapaxes(0, 1)):
        ax.plot(line[:, 0], line[:, 1], color=FAKE, linewidth=1, label="z2 varies" if number == 0 else None)
    ax.legend(frameon=False, fontsize=9)
    return figure


def paths(lines: Array, names: Sequence[str], behind: Array, *, width: float = 6.0) -> Figure:
    """Interpolations as paths through the data, in the first two features.

    Args:
        lines: [P, K, D]: P paths of K points.
        names: of the D features.
        behind: data, [N, D].
        width: in inches.
    """
    figure = new_figure(width, width)
    ax = tidy(figure.add_subplot(), x=names[0], y=names[min(1, len(names) - 1)])
    second = min(1, lines.shape[2] - 1)
    ax.scatter(behind[:, 0], behind[:, second], s=8, color="#cccccc", linewidth=0, label="data")
    for number, line in enumerate(lines):
        colour = PALETTE[number % len(PALETTE)]
        ax.plot(line[:, 0], line[:, second], color=colour, linewidth=1.3, marker="o", markersize=3.5, label=f"pair {number + 1}")
    ax.legend(frameon=False, fontsize=9)
    return figure


def responses(values: Array, x: Array, rows: Sequence[str], names: Sequence[str], *, width: float = 9.0) -> Figure:
    """What each latent value does to each feature: a panel per latent, a line per feature (the first eight).

    Args:
        values: of the latent, [K].
        x: decoded, [R, K, D].
        rows: names of the R latents.
        names: of the D features.
        width: in inches.
    """
    columns = min(4, len(rows))
    figure = new_figure(width * columns / 4, 2.4 * math.ceil(len(rows) / columns))
    first = None
    for r, row in enumerate(rows):
        ax = tidy(figure.add_subplot(math.ceil(len(rows) / columns), columns, r + 1, sharey=first), title=row, x="z")
        first = first or ax
        for k, name in enumerate(names[: len(PALETTE)]):
            ax.plot(values, x[r, :, k], color=PALETTE[k], linewidth=1.3, label=name)
        if r == 0:
            legend = ax.legend(frameon=False, fontsize=8)
            for text in legend.get_texts():
                text.set_parse_math(False)
    return figure


def _bins(sets: Sequence[Array], count: int = 40) -> Array:
    """Common edges between the 0.5 % and 99.5 % quantiles of all values."""
    values = np.concatenate([np.asarray(s, np.float64).ravel() for s in sets])
    low, high = np.percentile(values, (0.5, 99.5))
    if not high > low:
        low, high = low - 0.5, high + 0.5
    edges: Array = np.linspace(low, high, count + 1)
    return edges
