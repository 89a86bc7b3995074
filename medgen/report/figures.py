"""Figures of samples: signals, images, label maps and volumes in tiles on one canvas. Vectors are in `medgen.report.plots`.

Every function takes samples in stored units, [N, C, *S] (label maps [N, 1, *S]), with the `Display` they share, and returns a
`matplotlib.figure.Figure`. A tile is drawn to scale in mm, so anisotropic voxels keep their shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from medgen.data.samples import Array
from medgen.registry import require
from medgen.report.display import Display
from medgen.report.style import FAKE, INK, MUTED, PALETTE, REAL, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BAR", "Tile", "difference", "error_maps", "sample_grid", "tile_rows"]

_GAP = 0.06  # between tiles, as a share of a tile's height
BAR = 0.9
"""Inches that the scale of errors takes on the right."""
_ERRORS = "magma"
_SIGNAL_SHAPE = (1.0, 1.6)  # height and width of a signal's tile
_BACKGROUND = "#1a1a1a"


@dataclass(frozen=True)
class Tile:
    """One sample on the canvas.

    Args:
        x: [C, *S] in stored units, or its error map.
        kind: "sample", or "error" (zero is black, `top` is bright).
        colour: of a signal's line where it has one channel.
        top: end of the error scale.
    """

    x: Array
    kind: Literal["sample", "error"] = "sample"
    colour: str = REAL
    top: float = 1.0


def sample_grid(
    x: Array,
    display: Display,
    *,
    columns: int = 8,
    width: float = 6.0,
    title: str = "",
    column_names: Sequence[str] = (),
    row_names: Sequence[str] = (),
    colour: str = REAL,
) -> Figure:
    """Samples in reading order, `columns` to a row.

    Args:
        x: [N, C, *S].
        display: how they are shown.
        columns: samples per row.
        width: of the figure, in inches.
        title, column_names, row_names: texts around the tiles.
        colour: of signals.
    """
    tiles: list[Tile | None] = [Tile(sample, colour=colour) for sample in x]
    tiles += [None] * (-len(tiles) % columns)
    rows = [tiles[start : start + columns] for start in range(0, len(tiles), columns)]
    return tile_rows(rows, display, width=width, title=title, column_names=column_names, row_names=row_names)


def difference(real: Array, fake: Array, display: Display) -> Array:
    """|real - fake| in stored units; of label maps 1 where they disagree."""
    if display.labels:
        return (real != fake).astype(np.float64)
    return np.abs(real.astype(np.float64) - fake.astype(np.float64))


def error_maps(
    real: Array, fake: Array, display: Display, *, names: tuple[str, str] = ("input", "reconstruction"), width: float = 8.0
) -> Figure:
    """Rows of (real, fake, |real - fake|), the errors on one scale for all rows; two triples side by side where they fit."""
    error = difference(real, fake, display)
    top = 1.0 if display.labels else float(np.percentile(error, 99.9)) or float(error.max()) or 1.0
    triples = [[Tile(a), Tile(b, colour=FAKE), Tile(e, "error", INK, top)] for a, b, e in zip(real, fake, error, strict=True)]
    beside = 2 if len(display.views) < 3 and len(triples) > 3 else 1
    rows = [[tile for triple in triples[start : start + beside] for tile in triple] for start in range(0, len(triples), beside)]
    last = "disagreement" if display.labels else "|difference|"
    return tile_rows(rows, display, width=width, column_names=[*names, last] * beside, error_top=top)


def tile_rows(
    rows: Sequence[Sequence[Tile | None]],
    display: Display,
    *,
    width: float = 8.0,
    title: str = "",
    column_names: Sequence[str] = (),
    row_names: Sequence[str] = (),
    error_top: float | None = None,
) -> Figure:
    """The canvas: tiles in rows, all drawn to the same scale.

    Args:
        rows: None leaves a place empty.
        display: how samples are shown.
        width: of the figure, in inches.
        title, column_names, row_names: texts around the tiles.
        error_top: adds a bar for the error scale, from 0 to this.
    """
    canvas = _Canvas(display, len(rows), max(map(len, rows)), title=title, column_names=column_names, row_names=row_names)
    bars = BAR if error_top is not None and display.spec.dim > 1 else 0.0
    left, head = canvas.margins(row_names)
    scale = (width - left - bars) / canvas.width  # inches per unit
    figure = new_figure(width, canvas.height * scale + head + 0.05, constrained=False)
    total = figure.get_figheight()
    ax = figure.add_axes((left / width, 0.05 / total, canvas.width * scale / width, canvas.height * scale / total))
    canvas.draw(ax, rows)
    if bars and error_top is not None:
        _error_bar(figure, display, error_top, left=(width - bars + 0.12) / width)
    return figure


@dataclass
class _Canvas:
    display: Display
    rows: int
    columns: int
    title: str = ""
    column_names: Sequence[str] = ()
    row_names: Sequence[str] = ()
    _tile: tuple[float, float] = field(init=False)
    _gap: float = field(init=False)

    def __post_init__(self) -> None:
        views = self.display.views
        self._unit = max((v.size[0] for v in views), default=1.0)
        widths = [v.size[1] / self._unit for v in views]
        self._tile = (1.0, sum(widths) + 0.02 * (len(widths) - 1)) if views else _SIGNAL_SHAPE
        self._gap = _GAP * (2 if len(views) > 1 else 1)

    @property
    def width(self) -> float:
        return self.columns * (self._tile[1] + self._gap) - self._gap

    @property
    def height(self) -> float:
        return self.rows * (self._tile[0] + self._gap) - self._gap

    def margins(self, row_names: Sequence[str]) -> tuple[float, float]:
        """Inches to the left of the tiles and above them."""
        longest = max((len(line) for name in row_names for line in name.split("\n")), default=0)
        views = 0.17 if len(self.display.views) > 1 else 0.0
        return (0.14 + 0.08 * longest if longest else 0.02), 0.04 + 0.28 * bool(self.title) + 0.2 * bool(self.column_names) + views

    def draw(self, ax: Any, rows: Sequence[Sequence[Tile | None]]) -> None:
        ax.set_xlim(0, self.width)
        ax.set_ylim(self.height, 0)  # rows go down
        ax.set_axis_off()
        for r, row in enumerate(rows):
            for c, tile in enumerate(row):
                if tile is not None:
                    self._draw_tile(ax, tile, c * (self._tile[1] + self._gap), r * (self._tile[0] + self._gap))
        self._texts(ax)
        ax.set_xlim(0, self.width)  # imshow has moved them
        ax.set_ylim(self.height, 0)
        ax.set_aspect("auto")

    def _draw_tile(self, ax: Any, tile: Tile, x0: float, y0: float) -> None:
        if self.display.spec.dim == 1:
            _draw_signal(ax, tile, self.display, x0, y0)
            return
        for view in self.display.views:
            height, width = view.size[0] / self._unit, view.size[1] / self._unit
            top = y0 + (self._tile[0] - height) / 2
            picture = view(tile.x)
            ax.imshow(
                picture if view.channel is not None else _rgb(picture, tile),
                extent=(x0, x0 + width, top + height, top),
                **_paint(tile, view.channel or 0, self.display),
            )
            x0 += width + 0.02

    def _texts(self, ax: Any) -> None:
        def put(x: float, y: float, text: str, points: tuple[float, float], **style: Any) -> None:
            ax.annotate(text, (x, y), points, textcoords="offset points", annotation_clip=False, parse_math=False, **style)

        lift = 3.0
        if len(self.display.views) > 1:
            for c in range(self.columns):
                x = c * (self._tile[1] + self._gap)
                for view in self.display.views:
                    put(x + view.size[1] / self._unit / 2, 0, view.name, (0, lift), ha="center", va="bottom", fontsize=7, color=MUTED)
                    x += view.size[1] / self._unit + 0.02
            lift += 12
        for c, name in enumerate(self.column_names):
            put(c * (self._tile[1] + self._gap) + self._tile[1] / 2, 0, name, (0, lift), ha="center", va="bottom", fontsize=9, color=INK)
        for r, name in enumerate(self.row_names):
            put(0, r * (self._tile[0] + self._gap) + self._tile[0] / 2, name, (-5, 0), ha="right", va="center", fontsize=9, color=INK)
        if self.title:
            lift += 15 if self.column_names else 2
            put(0, 0, self.title, (0, lift), ha="left", va="bottom", fontsize=11, color=INK)


def _paint(tile: Tile, channel: int, display: Display) -> dict[str, Any]:
    """Colours of a picture."""
    if tile.kind == "error":
        return {"cmap": _ERRORS, "vmin": 0.0, "vmax": tile.top, "interpolation": "nearest"}
    if not display.labels:
        return {"cmap": "gray", "vmin": display.low[channel], "vmax": display.high[channel], "interpolation": "antialiased"}
    colours = require("matplotlib.colors", "eval")
    count = len(display.levels)
    wheel = require("matplotlib", "eval").colormaps["tab20"]
    shades = [_BACKGROUND, *(PALETTE[k] if count <= len(PALETTE) + 1 else wheel(k % 20) for k in range(count - 1))]
    edges = [
        display.levels[0] - 0.5,
        *((a + b) / 2 for a, b in zip(display.levels[:-1], display.levels[1:], strict=True)),
        display.levels[-1] + 0.5,
    ]
    return {"cmap": colours.ListedColormap(shades), "norm": colours.BoundaryNorm(edges, count), "interpolation": "nearest"}


def _rgb(picture: Array, tile: Tile) -> Array:
    """8-bit colours as they are; of an error map the mean over channels."""
    mean: Array = picture.mean(-1)
    return mean if tile.kind == "error" else np.clip(picture, 0, 255).astype(np.uint8)


def _draw_signal(ax: Any, tile: Tile, display: Display, x0: float, y0: float) -> None:
    """Lines in a box; all boxes share one vertical scale, errors theirs, from zero."""
    height, width = _SIGNAL_SHAPE
    ax.add_patch(require("matplotlib.patches", "eval").Rectangle((x0, y0), width, height, facecolor="#f5f6f7", edgecolor="none"))
    low, high = (0.0, tile.top) if tile.kind == "error" else (min(display.low), max(display.high))
    along = np.linspace(x0 + 0.02, x0 + width - 0.02, tile.x.shape[-1])
    for c, line in enumerate(tile.x):
        share = np.clip((line.astype(np.float64) - low) / (high - low), -0.02, 1.02)
        colour = tile.colour if len(tile.x) == 1 else PALETTE[c % len(PALETTE)]
        ax.plot(along, y0 + height * (0.96 - 0.92 * share), color=colour, linewidth=1.0, solid_joinstyle="round")


def _error_bar(figure: Figure, display: Display, top: float, *, left: float) -> None:
    """The scale of the error tiles, with its unit."""
    cm, colours = require("matplotlib.cm", "eval"), require("matplotlib.colors", "eval")
    height = min(0.8, 2.2 / figure.get_figheight())
    ax = figure.add_axes((left, 0.03, 0.016, height))
    bar = figure.colorbar(cm.ScalarMappable(colours.Normalize(0.0, top), _ERRORS), cax=ax)
    bar.ax.tick_params(labelsize=8, colors=MUTED, length=2)
    bar.outline.set_visible(False)
    text = "0: same class, 1: another" if display.labels else f"|difference| ({display.unit})"
    bar.set_label(text, fontsize=8, color=INK, parse_math=False)
