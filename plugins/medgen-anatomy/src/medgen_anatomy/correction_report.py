"""Correction of files, and what it did: maps that violate criteria before and after, Dice, Hausdorff distance, pictures of the worst."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgen.errors import DataError
from medgen.files import atomic_path, write_json
from medgen.report.style import PALETTE, new_figure
from medgen_anatomy.correct import Corrected, correct, spacing_of
from medgen_anatomy.criteria import violations
from medgen_anatomy.criterion import Criteria
from medgen_anatomy.decoding import ShapeDecoder
from medgen_anatomy.map_files import MapFile
from medgen_anatomy.overlap import dice, hausdorff
from medgen_anatomy.shape_store import ShapeStore

__all__ = ["Group", "correct_files", "draw_cases", "summarise", "write_report"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Group:
    """Maps of one shape and spacing.

    Args:
        names: of the maps.
        given, truth: [B, H, W]; `truth` may be None.
        spacing: mm per pixel.
        found: the maps after correction.
    """

    names: list[str]
    given: Array
    truth: Array | None
    spacing: tuple[float, float]
    found: Corrected


def correct_files(
    decoder: ShapeDecoder,
    store: ShapeStore,
    files: Sequence[MapFile],
    truth: Sequence[MapFile] | None,
    out: Path,
    *,
    spacing: tuple[float, float] | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> list[Group]:
    """Correct the maps of files, those of one shape and spacing together, and write files of the same names to `out`.

    Args:
        decoder, store: see `correct`.
        files: the maps.
        truth: files of the same maps as they should be, in the same order; or None.
        out: folder.
        spacing: mm per pixel, instead of what the files say.
        progress: called with how many maps are done, and how many there are.
        options: of `correct`.

    Raises:
        DataError: the truth has other files or shapes.
    """
    _check_truth(files, truth)
    kinds: dict[tuple[Any, ...], list[int]] = {}
    for k, file in enumerate(files):
        kinds.setdefault((file.maps.shape[1:], spacing or file.spacing), []).append(k)
    groups, done, total = [], 0, sum(len(f.maps) for f in files)
    for (_, mm), members in kinds.items():
        given = np.concatenate([files[k].maps for k in members])
        wanted = None if truth is None else np.concatenate([truth[k].maps for k in members])
        found = correct(decoder, store, given, spacing=mm, **options)
        names = [
            f"{files[k].name}[{i}]" if len(files[k].maps) > 1 else str(files[k].name) for k in members for i in range(len(files[k].maps))
        ]
        groups.append(Group(names, given, wanted, mm or spacing_of(store, decoder, given), found))
        ends = np.cumsum([len(files[k].maps) for k in members])
        for k, maps in zip(members, np.split(found.maps, ends[:-1]), strict=True):
            files[k].write(maps, out)
        done += len(given)
        if progress is not None:
            progress(done, total)
    return groups


def _check_truth(files: Sequence[MapFile], truth: Sequence[MapFile] | None) -> None:
    if truth is None:
        return
    if [f.maps.shape for f in files] != [f.maps.shape for f in truth]:
        raise DataError(
            f"the truth must have files of the same shapes in the same order: {[f.maps.shape for f in files][:5]}; "
            f"got {[f.maps.shape for f in truth][:5]}."
        )


def summarise(groups: Sequence[Group], criteria: Criteria) -> dict[str, Any]:
    """Plain JSON types: counts before and after; Dice and Hausdorff distance to the truth, or to the maps that were given."""
    labels = {name: n for name, n in criteria.labels.items() if name != "background"}
    before = np.concatenate([violations(g.given, criteria, g.spacing) for g in groups])
    after = np.concatenate([violations(g.found.maps, criteria, g.spacing) for g in groups])
    touched = before.any(1)
    out: dict[str, Any] = {
        "maps": len(before),
        "invalid_before": int(touched.sum()),
        "invalid_after": int(after.any(1).sum()),
        "violations": {n: {"before": int(b), "after": int(a)} for n, b, a in zip(criteria.names, before.sum(0), after.sum(0), strict=True)},
        "compared_with": "truth" if groups[0].truth is not None else "input",
    }
    rows: list[dict[str, Any]] = []
    for g in groups:
        against = g.given if g.truth is None else g.truth
        scores = {"dice_after": dice(g.found.maps, against, list(labels.values()))}
        scores["hausdorff_after"] = hausdorff(g.found.maps, against, list(labels.values()), g.spacing)
        if g.truth is not None:
            scores["dice_before"] = dice(g.given, against, list(labels.values()))
            scores["hausdorff_before"] = hausdorff(g.given, against, list(labels.values()), g.spacing)
        for i, name in enumerate(g.names):
            row: dict[str, Any] = {"map": name, "valid_before": bool(g.found.valid_before[i]), "valid_after": bool(g.found.valid[i])}
            row |= {"alpha": float(g.found.alpha[i]), "distance": float(g.found.distance[i])}
            rows.append(row | {key: dict(zip(labels, values[i].tolist(), strict=True)) for key, values in scores.items()})
    for key in ("dice_before", "dice_after", "hausdorff_before", "hausdorff_after"):
        if key in rows[0]:
            values = np.array([[row[key][name] for name in labels] for row in rows])
            out[key] = {
                "all": _means(values, labels),
                "invalid_before": _means(values[touched], labels),
                "valid_before": _means(values[~touched], labels),
            }
    return out | {"cases": rows}


def _means(values: Array, labels: Sequence[str] | dict[str, int]) -> dict[str, float | None]:
    return {name: float(np.nanmean(v)) if np.isfinite(v).any() else None for name, v in zip(labels, values.T, strict=True)}


def draw_cases(groups: Sequence[Group], criteria: Criteria, path: Path, count: int = 6) -> int:
    """The corrected maps that lost most Dice, or have least of it: given, corrected, and the truth where there is one; how many."""
    labels = [n for name, n in criteria.labels.items() if name != "background"]
    cases: list[tuple[float, Group, int]] = []
    for g in groups:
        against = g.given if g.truth is None else g.truth
        score = dice(g.found.maps, against, labels).mean(1)
        if g.truth is not None:
            score = score - dice(g.given, against, labels).mean(1)
        cases += [(float(score[i]), g, int(i)) for i in np.flatnonzero(~g.found.valid_before)]
    cases = sorted(cases, key=lambda case: case[0])[:count]
    if not cases:
        return 0
    columns = ["given", "corrected"] + (["truth"] if cases[0][1].truth is not None else [])
    figure = new_figure(1.6 * len(cases), 1.7 * len(columns))
    axes = figure.subplots(len(columns), len(cases), squeeze=False)
    for k, (score, g, i) in enumerate(cases):
        maps = [g.given[i], g.found.maps[i]] + ([] if g.truth is None else [g.truth[i]])
        box = _box(maps)
        for ax, one in zip(axes[:, k], maps, strict=False):
            ax.imshow(coloured(one, criteria)[box], aspect=g.spacing[0] / g.spacing[1], interpolation="nearest")
            ax.set(xticks=[], yticks=[])
        axes[0, k].set_title(f"{g.names[i]}\n{score:+.3f}" if g.truth is not None else f"{g.names[i]}\n{score:.3f}", fontsize=6)
    for ax, name in zip(axes[:, 0], columns, strict=True):
        ax.set_ylabel(name, fontsize=8)
    with atomic_path(path) as temporary:
        figure.savefig(temporary)
    return len(cases)


def coloured(one: Array, criteria: Criteria) -> Array:
    """A map [H, W] as colours [H, W, 3]."""
    table = np.full((256, 3), 0.1)
    for k, number in enumerate(n for name, n in criteria.labels.items() if name != "background"):
        table[number] = [int(PALETTE[k][c : c + 2], 16) / 255 for c in (1, 3, 5)]
    colours: Array = table[one]
    return colours


def _box(maps: Sequence[Array]) -> tuple[slice, slice]:
    """Around everything that is labelled, square, with a margin."""
    found = np.argwhere(np.any([m > 0 for m in maps], axis=0))
    shape = maps[0].shape
    if not len(found):
        return slice(None), slice(None)
    half = int((found.max(0) - found.min(0)).max() / 2) + 4
    middle = (found.max(0) + found.min(0)) // 2
    row, column = (slice(max(0, m - half), min(n, m + half + 1)) for m, n in zip(middle, shape, strict=True))
    return row, column


def write_report(groups: Sequence[Group], criteria: Criteria, out: Path, about: dict[str, Any], worst: int = 6) -> dict[str, Any]:
    """correction.json and worst.png in a folder; returns the summary."""
    summary = about | summarise(groups, criteria)
    write_json(out / "correction.json", summary)
    draw_cases(groups, criteria, out / "worst.png", worst)
    return summary
