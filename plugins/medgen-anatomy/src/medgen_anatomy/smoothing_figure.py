"""The curves of attributes before and after smoothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from medgen.report.style import FAKE, INK, REAL, new_figure, tidy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw"]

_SHOWN = 4


def draw(
    curves: Sequence[tuple[NDArray[Any], NDArray[Any]]], errors: Sequence[Sequence[int]], names: Sequence[str], titles: Sequence[str]
) -> Figure:
    """A row for each attribute, a column for each of the sequences with the most errors, at most four.

    Args:
        curves: of each sequence the attributes [T, A] before (blue) and after (vermilion).
        errors: inconsistent frames of each sequence before, marked by circles.
        names: of the attributes.
        titles: of the sequences.
    """
    worst = np.argsort([-len(frames) for frames in errors], kind="stable")[:_SHOWN]
    figure = new_figure(3.4 * len(worst) + 0.6, 2.0 * len(names) + 0.4)
    for column, k in enumerate(worst):
        before, after = curves[k]
        for row, name in enumerate(names):
            ax = figure.add_subplot(len(names), len(worst), row * len(worst) + column + 1)
            tidy(
                ax,
                title=titles[k] if row == 0 else "",
                y=name if column == 0 else "",
                x="frame" if row == len(names) - 1 else "",
            )
            ax.plot(before[:, row], color=REAL, linewidth=1.2, label="before")
            ax.plot(after[:, row], color=FAKE, linewidth=1.6, label="after")
            marked = list(errors[k])
            ax.plot(marked, before[marked, row], "o", color=INK, fillstyle="none", markersize=5, linestyle="", label="in error before")
            if row == column == 0:
                ax.legend(frameon=False, fontsize=8)
    return figure
