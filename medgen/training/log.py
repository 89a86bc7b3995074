"""What a training tells: metrics.csv, TensorBoard, and one live line on the terminal."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from medgen.files import atomic_path
from medgen.registry import require
from medgen.runs import METRIC_COLUMNS, Run

__all__ = ["MetricLog", "Progress"]


class MetricLog:
    """Appends to metrics.csv in long form, and to TensorBoard where asked.

    Args:
        run: whose metrics.csv it is.
        step: rows after this step, left by a training that was killed after its last checkpoint, are dropped.
        tensorboard: folder for event files, or None.
    """

    def __init__(self, run: Run, step: int, tensorboard: Path | None) -> None:
        self._path = run.metrics_file
        kept = [[*row.values()] for row in run.metrics() if row["step"] <= step]
        with atomic_path(self._path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([METRIC_COLUMNS, *([*row[:-1], repr(row[-1])] for row in kept)])
        self._writer = None
        if tensorboard is not None:
            require("tensorboard", "train")
            self._writer = require("torch.utils.tensorboard", "train").SummaryWriter(str(tensorboard), purge_step=step + 1)

    def write(self, step: int, epoch: int, split: str, values: Mapping[tuple[str, str], float]) -> None:
        """One row per (phase, name)."""
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([step, epoch, split, phase, name, repr(value)] for (phase, name), value in values.items())
        if self._writer is not None:
            for (phase, name), value in values.items():
                self._writer.add_scalar(f"{split}/{phase}/{name}", value, step)

    def close(self) -> None:
        """Flush TensorBoard."""
        if self._writer is not None:
            self._writer.close()


class Progress:
    """A live line on stderr with step, loss and time left; silent where `show` is false.

    Args:
        total: steps.
        done: steps already done.
        show: whether to print at all.
    """

    def __init__(self, total: int, done: int, *, show: bool) -> None:
        self._bar: Any = None
        if show:
            rich = require("rich.progress", "train")
            self._bar = rich.Progress(
                rich.TextColumn("{task.description}"),
                rich.BarColumn(),
                rich.MofNCompleteColumn(),
                rich.TextColumn("{task.fields[note]}"),
                rich.TimeElapsedColumn(),
                rich.TextColumn("left"),
                rich.TimeRemainingColumn(),
                refresh_per_second=4,
                console=require("rich.console", "train").Console(stderr=True),
            )
            self._task = self._bar.add_task("training", total=total, completed=done, note="")
            self._bar.start()

    def update(self, done: int, note: str = "") -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(self._task, completed=done, **({"note": note} if note else {}))

    def say(self, text: str) -> None:
        """A line above the bar."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Leave the line as it is."""
        if self._bar is not None:
            self._bar.stop()
