"""What a run leaves: a table on the terminal, and a picture of the scaling curves."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import Result

__all__ = ["environment", "plot", "table"]


def environment() -> dict[str, Any]:
    """What the numbers depend on."""
    cpu = platform.processor()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            cpu = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), cpu)
    except OSError:
        pass
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": device,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": f"{platform.system()} {platform.machine()}",
    }


def table(results: Sequence[Result], baseline: str) -> str:
    """Plain text, one line per rival."""
    head = ("case", "rival", "median s", "rate", f"x {baseline}", "quartiles", "of floor", "note")
    rows = [head]
    for r in results:
        timed = bool(r.seconds)
        where = f"{r.case}, {r.size} ({r.threads} threads)" if r.size is not None else r.case
        rate = f"{r.rate:,.0f} {r.unit}/s" if timed else "-"
        spread = f"{r.spread[0]:.2f}-{r.spread[1]:.2f}" if timed else "-"
        share = f"{100 * r.share:.0f} %" if r.share is not None else ""
        rows.append((where, r.rival, f"{r.median:.4g}" if timed else "-", rate, f"{r.ratio:.2f}" if timed else "-", spread, share, r.note))
    widths = [max(len(row[c]) for row in rows) for c in range(len(head))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def plot(results: Sequence[Result], file: Path) -> bool:
    """Rate against size, a panel per curve, dashed for one thread; False if there is no curve."""
    curves = [r for r in results if r.size is not None]
    if not curves:
        return False
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    cases = list(dict.fromkeys(r.case for r in curves))
    figure, axes = pyplot.subplots(1, len(cases), figsize=(5.2 * len(cases), 4.0), squeeze=False, layout="constrained")
    for axis, case in zip(axes[0], cases, strict=True):
        here = [r for r in curves if r.case == case]
        most = max(r.threads or 1 for r in here)
        for colour, rival in enumerate(dict.fromkeys(r.rival for r in here)):
            for threads in sorted({r.threads or 1 for r in here}):
                points = [(r.size, r.rate) for r in here if r.rival == rival and r.threads == threads]
                style = "-" if threads == most else "--"
                label = f"{rival}, {threads} thread{'s' if threads > 1 else ''}"
                axis.plot(*zip(*points, strict=True), style, color=f"C{colour}", marker="o", markersize=3, label=label)
        axis.set(xscale="log", yscale="log", title=case, xlabel=f"{here[0].unit} per call", ylabel=f"{here[0].unit} per second")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7)
    figure.savefig(file, dpi=110)
    pyplot.close(figure)
    return True
