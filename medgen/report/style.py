"""How figures look: colours that colour-blind readers can tell apart, quiet axes, and the way into one HTML file."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import numpy as np

from medgen.registry import require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FAKE", "INK", "MUTED", "PALETTE", "REAL", "data_uri", "new_figure", "tidy"]

REAL, FAKE = "#0072b2", "#d55e00"
"""Real data (and training curves) are blue, what the model makes (and validation curves) vermilion, in every figure."""

INK, MUTED = "#222222", "#666666"

# Okabe and Ito's colours, which differ for every kind of colour vision.
PALETTE = (REAL, FAKE, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#b8a800", "#555555")

_DPI = 110


def new_figure(width: float, height: float, *, constrained: bool = True) -> Figure:
    """An empty figure of a size in inches, outside pyplot's global state."""
    figure_class = require("matplotlib.figure", "eval").Figure
    return figure_class(figsize=(width, height), dpi=_DPI, layout="constrained" if constrained else None, facecolor="white")


def tidy(ax: Any, *, x: str = "", y: str = "", title: str = "") -> Any:
    """Quiet axes: no frame above and right, a faint grid, readable labels. Names from data are never read as TeX."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color("#bbbbbb")
    ax.grid(visible=True, color="#eeeeee", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.tick_params(colors=MUTED, labelsize=9, length=3)
    ax.set_xlabel(x, fontsize=10, color=INK, parse_math=False)
    ax.set_ylabel(y, fontsize=10, color=INK, parse_math=False)
    ax.set_title(title, fontsize=11, color=INK, loc="left", parse_math=False)
    return ax


def data_uri(figure: Figure, *, vector: bool = False) -> str:
    """The figure as a data URI: PNG, or SVG."""
    buffer = io.BytesIO()
    if vector:
        # Fixed ids and no date: the same run gives the same bytes.
        with require("matplotlib", "eval").rc_context({"svg.fonttype": "path", "svg.hashsalt": "medgen"}):
            figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
        return _uri("image/svg+xml", buffer.getvalue())
    figure.savefig(buffer, format="png")
    return _uri("image/png", _small(buffer.getvalue()))


def _small(png: bytes) -> bytes:
    """The same pixels in less space: without transparency, and in one channel where all are grey."""
    image = require("PIL.Image", "eval").open(io.BytesIO(png)).convert("RGB")
    pixels = np.asarray(image)
    if (pixels == pixels[..., :1]).all():
        image = image.convert("L")
    out = io.BytesIO()
    image.save(out, format="png", optimize=True)
    return min(out.getvalue(), png, key=len)


def _uri(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
