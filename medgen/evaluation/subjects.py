"""`subject_table`: figures of translations by subject, over all voxels of its samples, with mean, median and sample deviation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from medgen.errors import DataError
from medgen.evaluation.hallucination import lesion_changes, structure_shift
from medgen.evaluation.paired import Range
from medgen.evaluation.regions import contrast_ratio, dice, region_discrepancy
from medgen.evaluation.ssim import TAPS, ssim

__all__ = ["Segment", "SubjectTable", "aligned", "cycle_mean", "subject_table"]

Segment = Callable[[Tensor, Tensor | None], Tensor]
"""(images [B, C, *S] in stored units, regions [B, 1, *S] or None) -> bool [B, 1, *S]."""

_BLOCK, _SEARCH = 16, 3


@dataclass(frozen=True)
class SubjectTable:
    """Figures by subject.

    Args:
        columns: names of the figures.
        subjects: names.
        values: [subjects, columns]; NaN where a subject has no such figure.
        recipe: plain JSON values: how the figures were made.
    """

    columns: tuple[str, ...]
    subjects: tuple[str, ...]
    values: npt.NDArray[np.float64]
    recipe: Mapping[str, Any] = field(default_factory=dict)

    def summary(self) -> dict[str, list[float]]:
        """Mean, median and sample standard deviation (1/(N-1)) of each column, over the subjects that have the figure."""
        kept = [column[np.isfinite(column)] for column in self.values.T]
        return {
            "mean": [float(v.mean()) if len(v) else math.nan for v in kept],
            "median": [float(np.median(v)) if len(v) else math.nan for v in kept],
            "sd": [float(v.std(ddof=1)) if len(v) > 1 else math.nan for v in kept],
        }

    def rows(self) -> list[tuple[str, ...]]:
        """Head, subjects and summary as text."""
        body = [(name, *map(_figure, line)) for name, line in zip(self.subjects, self.values, strict=True)]
        return [("subject", *self.columns), *body, *((name, *map(_figure, line)) for name, line in self.summary().items())]

    def __str__(self) -> str:
        return aligned(self.rows())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; `from_json` inverts it."""
        values = [[None if math.isnan(v) else v for v in line] for line in self.values.tolist()]
        return {"columns": list(self.columns), "subjects": list(self.subjects), "values": values, "recipe": dict(self.recipe)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`."""
        values = np.array([[math.nan if v is None else v for v in line] for line in value["values"]], np.float64)
        return cls(tuple(value["columns"]), tuple(value["subjects"]), values.reshape(-1, len(value["columns"])), value["recipe"])


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Rows of cells as text, every column as wide as its widest cell.

    >>> print(aligned([("metric", "value"), ("mae", "0.5")]))
    metric  value
    mae     0.5
    """
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def _figure(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4g}"


def subject_table(
    real: Tensor,
    fake: Tensor,
    subjects: Sequence[str],
    *,
    value_range: Range,
    regions: Tensor | None = None,
    names: Sequence[str] = (),
    sd: Tensor | None = None,
    segment: Segment | None = None,
    spacing: Sequence[float] | None = None,
    cycle: Tensor | None = None,
) -> SubjectTable:
    """Figures of each subject, over all of its voxels at once (slices of one scan are one image).

    mae; psnr with MAX = b - a of `value_range`, of the subject's mean squared error; ssim, the mean over samples; shift, the mean
    displacement of edges over samples (`structure_shift`); with regions, mae NAME of each, and contrast, the mean in the first region over
    the mean in the second, of real and translated images; with `sd`, its mean and the share of voxels whose error is within 2 sd; with
    `segment`, lesion dice, lost and invented lesions between what it finds in both; with `cycle`, its mean.

    Args:
        real, fake: [N, C, *S] in stored units.
        subjects: of the N samples.
        value_range: (a, b) in stored units.
        regions: labels, [N, 1, *S]; voxels of label 0 do not count in the figures of the whole.
        names: of the labels, the first that of 0.
        sd: standard deviation of each voxel, in stored units.
        segment: finds lesions.
        spacing: of voxels, for the shift; else it is in voxels.
        cycle: |F(G(x)) - x| of the sources, in their stored units, [N, C', *S].

    Raises:
        DataError: arrays that do not fit.

    >>> table = subject_table(torch.zeros(3, 1, 4), torch.tensor([[[1.0]], [[3.0]], [[4.0]]]).expand(3, 1, 4), "aab", value_range=(0, 4))
    >>> print(table)
    subject  mae    psnr
    a        2      5.051
    b        4      0
    mean     3      2.526
    median   3      2.526
    sd       1.414  3.572
    """
    if real.shape != fake.shape or len(subjects) != len(real) or not len(real):
        raise DataError(
            f"`real` and `fake` must have one shape, and a subject each; got {tuple(real.shape)}, {tuple(fake.shape)}, {len(subjects)}."
        )
    if regions is not None and regions.shape != (len(real), 1, *real.shape[2:]):
        raise DataError(f"`regions` must have shape [N, 1, *S] for {tuple(real.shape)}; got {tuple(regions.shape)}.")
    owner = np.asarray([str(s) for s in subjects])
    known = tuple(dict.fromkeys(owner.tolist()))
    lines = []
    for name in known:
        rows = torch.from_numpy(np.flatnonzero(owner == name))
        parts = [None if x is None else x[rows] for x in (regions, sd)]
        figures = _figures(real[rows].double(), fake[rows].double(), value_range, parts[0], names, parts[1], segment, spacing)
        if cycle is not None:
            figures["cycle"] = cycle_mean(cycle[rows], parts[0])
        lines.append(figures)
    columns = tuple(dict.fromkeys(column for line in lines for column in line))
    values = np.array([[line.get(column, math.nan) for column in columns] for line in lines])
    inside = "none" if regions is None else ", ".join(names[1:]) or "regions"
    recipe = {
        "voxels": "all of a subject's samples together",
        "value_range": [float(v) for v in value_range],
        "mask": inside,
        "psnr": "20 log10(b - a) - 10 log10(MSE of the subject)",
        "ssim": "mean over samples, as the metric ssim",
        "shift": f"structure_shift, block {_BLOCK}, search {_SEARCH}, in {'voxels' if spacing is None else 'units of the spacing'}",
        "sd": "1/(N-1) over subjects",
        **({} if cycle is None else {"cycle": "mean |F(G(x)) - x| of the source, in its stored units"}),
    }
    return SubjectTable(columns, known, values, recipe)


def cycle_mean(cycle: Tensor, regions: Tensor | None) -> float:
    """Mean of cycle residuals [N, C, *S] over all channels, within the regions [N, 1, *S] where there are any."""
    inside = cycle if regions is None else cycle[(regions != 0).expand_as(cycle)]
    return float(inside.double().mean())


def _figures(
    real: Tensor,
    fake: Tensor,
    value_range: Range,
    regions: Tensor | None,
    names: Sequence[str],
    sd: Tensor | None,
    segment: Segment | None,
    spacing: Sequence[float] | None,
) -> dict[str, float]:
    inside = torch.ones_like(real, dtype=torch.bool) if regions is None else (regions != 0).expand_as(real)
    error = (real - fake)[inside]
    width = value_range[1] - value_range[0]
    out = {"mae": float(error.abs().mean()), "psnr": 20 * math.log10(width) - 10 * math.log10(max(float(error.square().mean()), 1e-300))}
    out |= _similarity(real, fake, value_range, regions, spacing)
    if sd is not None:
        spread = sd.double()[inside]
        out |= {"sd": float(spread.mean()), "within 2 sd": float((error.abs() <= 2 * spread).double().mean())}
    if regions is not None and len(names) > 1:
        whole = [x.movedim(1, 0).reshape(1, 1, -1) if x.shape[1] == 1 else None for x in (real, fake, regions.double())]
        a, b, r = whole
        if a is not None and b is not None and r is not None:
            each = region_discrepancy(a, b, r, len(names))[0].tolist()
            out |= {f"mae {name}": value for name, value in list(zip(names, each, strict=True))[1:]}
            if len(names) > 2:
                out["contrast"] = float(contrast_ratio(a, r == 1, r == 2))
                out["contrast translated"] = float(contrast_ratio(b, r == 1, r == 2))
    if segment is not None:
        truth, found = segment(real, regions), segment(fake, regions)
        changes = lesion_changes(truth, found)
        out["lesion dice"] = float(dice(truth.reshape(1, -1), found.reshape(1, -1)))
        out |= {"lesions": changes.lesions, "lost": changes.lost, "invented": changes.invented}
    return out


def _similarity(
    real: Tensor, fake: Tensor, value_range: Range, regions: Tensor | None, spacing: Sequence[float] | None
) -> dict[str, float]:
    """Means over samples that have enough of the mask."""
    shape, out = real.shape[2:], dict[str, float]()
    if len(shape) and min(shape) >= TAPS:
        kept = torch.ones(len(real), dtype=torch.bool)
        if regions is not None:
            centre: Any = (..., *(slice(TAPS // 2, n - TAPS // 2) for n in shape))
            kept = (regions != 0)[centre].flatten(1).any(1)
        mask = None if regions is None else (regions != 0)[kept]
        out["ssim"] = float(ssim(real[kept], fake[kept], value_range=value_range, mask=mask).mean()) if bool(kept.any()) else math.nan
    if len(shape) and min(shape) >= _BLOCK + 2 * _SEARCH:
        mask = None if regions is None else regions != 0
        moved = structure_shift(real, fake, block=_BLOCK, search=_SEARCH, spacing=spacing, mask=mask)
        out["shift"] = float(moved.nanmean())
    return out
