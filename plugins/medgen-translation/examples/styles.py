"""What a trained `spade` does with label maps of the left ventricle: samples, edited labels, styles of other patients.

    python plugins/medgen-translation/examples/styles.py runs/cine --out runs/cine/styles

Writes styles.json, samples.png, edits.png and styles.png. Labels: 0 elsewhere, 1 myocardium, 2 cavity; grey levels are those of the file.
`--tiny` trains a small model on drawn rings first, in a few seconds.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

import medgen
from medgen.data import from_arrays
from medgen.data.intensity import to_model, to_stored
from medgen.data.samples import Array
from medgen.files import write_json
from medgen.report.style import new_figure
from medgen.runs import Run, open_run

WALL, CAVITY = 1, 2
REACH = 6  # voxels around changed labels that count as there


class Hearts:
    """A run and its slices: label maps [N, H, W], images [N, H, W] in grey levels, patients [N], and who is in the test split."""

    def __init__(self, run: Run) -> None:
        data = run.dataset
        self.model: Any = run.model
        self.rows = np.concatenate([data.splits["train"], data.splits["val"], data.splits["test"]])
        batch = data.fetch(self.rows)
        self.x, self.spec = batch.x, data.image_spec
        self.images = self.stored(batch.x)
        self.labels = to_stored(batch.condition.values["source"], self.model.source_spec)[:, 0].astype(np.int64)
        assert data.subjects is not None
        self.patients = data.subjects[self.rows].astype(str)
        self.test = np.isin(self.rows, data.splits["test"])
        self.own = self.model.style(batch.x).mean

    def stored(self, x: Tensor) -> Array:
        """[N, 1, H, W] in model units -> [N, H, W] in grey levels."""
        return to_stored(x.float().cpu(), self.spec)[:, 0].astype(np.float64)

    def drawn(self, labels: Array, z: Tensor) -> Array:
        """Images of label maps [N, H, W] with styles [N, Z] or [Z], in grey levels."""
        maps = to_model(torch.from_numpy(labels[:, None]), self.model.source_spec)
        return self.stored(self.model.stylise(maps, z))

    def names(self) -> list[str]:
        """Patients of training, then of test."""
        return [str(p) for part in (~self.test, self.test) for p in np.unique(self.patients[part])]

    def middle(self, patient: str) -> int:
        """The patient's slice with the largest heart but a few: the first quarter by area."""
        rows = np.flatnonzero(self.patients == patient)
        area = (self.labels[rows] > 0).sum((1, 2))
        return int(rows[np.argsort(-area)[len(rows) // 4]])


def thicker(labels: Array) -> Array:
    """The wall grows outwards by 3 voxels."""
    return np.where((labels == 0) & ndimage.binary_dilation(labels > 0, iterations=3), WALL, labels)


def thinner(labels: Array) -> Array:
    """The cavity takes all but the outermost 2 voxels of the wall."""
    inner = ndimage.binary_erosion(labels > 0, iterations=2)
    return np.where((labels == WALL) & inner, CAVITY, labels)


def filled(labels: Array) -> Array:
    """The cavity becomes wall."""
    return np.where(labels == CAVITY, WALL, labels)


def removed(labels: Array) -> Array:
    """No heart."""
    return np.zeros_like(labels)


EDITS: dict[str, Callable[[Array], Array]] = {
    "thicker wall": thicker,
    "thinner wall": thinner,
    "cavity filled": filled,
    "heart removed": removed,
}


def edits(hearts: Hearts, rows: Array) -> tuple[dict[str, Any], dict[str, tuple[Array, Array]]]:
    """Mean absolute change of grey levels by distance from changed labels in voxels, each slice with its own style; a mean of slices."""
    before = hearts.drawn(hearts.labels[rows], hearts.own[rows])
    table, shown = {}, {}
    for name, edit in EDITS.items():
        other = np.stack([edit(m) for m in hearts.labels[rows]])
        after = hearts.drawn(other, hearts.own[rows])
        change = np.abs(after - before)
        changed = other != hearts.labels[rows]
        kept = np.flatnonzero(changed.any((1, 2)))
        distance = np.stack([ndimage.distance_transform_edt(~changed[k]) for k in kept])
        near = distance <= REACH

        def mean(where: Array, change: Array = change[kept]) -> float:
            return float(np.mean([c[w].mean() for c, w in zip(change, where, strict=True) if w.any()]))

        table[name] = {
            "slices": len(kept),
            "changed labels": mean(distance == 0),
            "beside, to 2": mean((distance > 0) & (distance <= 2)),
            f"to {REACH}": mean((distance > 2) & near),
            f"to {2 * REACH}": mean(~near & (distance <= 2 * REACH)),
            "beyond": mean(distance > 2 * REACH),
            f"within {REACH}": mean(near),
            "elsewhere": mean(~near),
            "ratio": mean(near) / mean(~near),
        }
        shown[name] = other, after
    return table, shown


def contrast(images: Array, labels: Array) -> Array:
    """Mean grey level of cavity and wall of each slice, [N, 2]."""
    return np.array([[image[m == k].mean() for k in (CAVITY, WALL)] for image, m in zip(images, labels, strict=True)])


def swaps(hearts: Hearts) -> dict[str, Any]:
    """Label maps with the style of another patient: does the cavity take the grey level of the style's donor, or that of the map's owner.

    Every slice of training meets one slice of every other patient of training; mean absolute differences of the translation to the true
    images of donor and owner, and of these from each other.
    """
    rows = np.flatnonzero(~hearts.test & np.array([bool((m == CAVITY).any() and (m == WALL).any()) for m in hearts.labels]))
    true = contrast(hearts.images[rows], hearts.labels[rows])
    errors: dict[str, list[Array]] = {"donor": [], "owner": [], "apart": []}
    cavity: list[Array] = []
    for patient in np.unique(hearts.patients[rows]):
        donor = hearts.middle(str(patient))
        others = hearts.patients[rows] != patient
        found = contrast(hearts.drawn(hearts.labels[rows][others], hearts.own[donor]), hearts.labels[rows][others])
        given = contrast(hearts.images[[donor]], hearts.labels[[donor]])[0]
        errors["donor"].append(np.abs(found - given))
        errors["owner"].append(np.abs(found - true[others]))
        errors["apart"].append(np.abs(true[others] - given))
        cavity.append(np.stack([found[:, 0], np.full(others.sum(), given[0])], 1))
    means = {name: np.concatenate(parts).mean(0) for name, parts in errors.items()}
    pairs = np.concatenate(cavity)
    return {
        "pairs": len(pairs),
        "cavity": {name: float(v[0]) for name, v in means.items()},
        "wall": {name: float(v[1]) for name, v in means.items()},
        "correlation of cavity with donor": float(np.corrcoef(pairs.T)[0, 1]),
    }


def two_styles(hearts: Hearts, rows: Array) -> dict[str, dict[str, float]]:
    """The same label maps with the style of each patient of training: mean grey level of cavity and wall, beside the donor's own."""
    kept = np.array([bool((m == CAVITY).any() and (m == WALL).any()) for m in hearts.labels[rows]])
    table = {}
    for patient in np.unique(hearts.patients[~hearts.test]):
        donor = hearts.middle(str(patient))
        found = contrast(hearts.drawn(hearts.labels[rows][kept], hearts.own[donor]), hearts.labels[rows][kept]).mean(0)
        true = contrast(hearts.images[[donor]], hearts.labels[[donor]])[0]
        table[str(patient)] = {"cavity": found[0], "wall": found[1], "donor's cavity": true[0], "donor's wall": true[1]}
    return {name: {key: float(v) for key, v in row.items()} for name, row in table.items()}


def picture(grid: Sequence[tuple[str, Sequence[Array]]], tops: Sequence[str], high: float, path: Path) -> None:
    """Rows of images in grey levels, or of label maps, to a PNG of 48 greys."""
    figure = new_figure(1.15 * len(tops) + 0.9, 1.15 * len(grid) + 0.25)
    axes = figure.subplots(len(grid), len(tops), squeeze=False)
    for line, (name, images) in zip(axes, grid, strict=True):
        for ax, image in zip(line, images, strict=True):
            whole = image.dtype.kind == "i"
            ax.imshow(image, cmap="gray", vmin=0, vmax=2 if whole else high, interpolation="nearest")
            ax.set_xticks([])
            ax.set_yticks([])
        line[0].set_ylabel(name, fontsize=8, rotation=0, ha="right", va="center")
    for ax, top in zip(axes[0], tops, strict=True):
        ax.set_title(top, fontsize=8)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=84)
    Image.open(buffer).convert("L").quantize(48).save(path, optimize=True)


def pictures(hearts: Hearts, shown: dict[str, tuple[Array, Array]], rows: Array, out: Path) -> None:
    """samples.png, edits.png, styles.png."""
    names = hearts.names()
    middle = [hearts.middle(p) for p in names]
    labels, own = hearts.labels[middle], hearts.own[middle]
    high = float(np.percentile(hearts.images, 99))
    prior = [
        hearts.stored(hearts.model.translate(to_model(torch.from_numpy(labels[:, None]), hearts.model.source_spec), noise=s))
        for s in (1, 2)
    ]
    tops = [f"{p}{' (test)' if hearts.test[k] else ''}" for p, k in zip(names, middle, strict=True)]
    samples = [
        ("labels", list(labels)),
        ("true image", list(hearts.images[middle])),
        ("its own\nstyle", list(hearts.drawn(labels, own))),
        ("z = 0", list(hearts.drawn(labels, torch.zeros_like(own)))),
        ("z drawn", list(prior[0])),
        ("z drawn", list(prior[1])),
    ]
    picture(samples, tops, high, out / "samples.png")
    place = int(np.argmax((hearts.labels[rows] > 0).sum((1, 2))))
    first = hearts.drawn(hearts.labels[rows], hearts.own[rows])[place]
    every = [(m[place], x[place]) for m, x in shown.values()]
    edited = [
        ("labels", [hearts.labels[rows][place], *(m for m, _ in every)]),
        ("image", [first, *(x for _, x in every)]),
        ("|change|", [np.zeros_like(first), *(np.abs(x - first) for _, x in every)]),
    ]
    picture(edited, ["as they are", *shown], high, out / "edits.png")
    styles = [(f"style of\n{p}", list(hearts.drawn(labels, hearts.own[k]))) for p, k in zip(names, middle, strict=True)]
    picture([("true image", list(hearts.images[middle])), *styles], [f"labels of\n{t}" for t in tops], high, out / "styles.png")


def rings(side: int = 40, slices: int = 8) -> dict[str, Array]:
    """Drawn hearts of three patients who differ in contrast."""
    rng, grid = np.random.default_rng(0), np.indices((side, side))
    masks = []
    for _ in range(3 * slices):
        centre, radius = rng.uniform(side * 0.42, side * 0.58, 2), rng.uniform(3, 5)
        far = np.hypot(grid[0] - centre[0], grid[1] - centre[1])
        masks.append(np.where(far < radius, CAVITY, np.where(far < radius + 2.5, WALL, 0)))
    labels = np.stack(masks).astype(np.uint8)
    grey = np.repeat(np.array([[20, 40, 90], [60, 30, 140], [40, 60, 220]]), slices, 0)
    images = np.take_along_axis(grey, labels.reshape(len(labels), -1).astype(np.int64), 1).reshape(labels.shape)
    return {"images": images.astype(np.uint8), "masks": labels, "patient": np.repeat(["a", "b", "c"], slices)}


def tiny(out: Path) -> Run:
    """A small model of drawn rings."""
    drawn = rings()
    data = from_arrays(
        drawn["images"], source_images=drawn["masks"], subjects=drawn["patient"], test_subjects=["c"], split=(1, 0, 0), content="intensity"
    )
    model = {"width": 4, "multipliers": [1, 2], "hidden": 4, "style_dim": 2, "discriminator_channels": [4, 4]}
    return medgen.train("spade", data, out, model=model, steps=20, batch_size=8, device="cpu", show=False)


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?", help="folder of a run of spade on heart_crops.py")
    parser.add_argument("--out", type=Path, required=True, help="folder to write")
    parser.add_argument("--tiny", action="store_true", help="train a small model on drawn rings first")
    options = parser.parse_args(argv)
    if options.run is None and not options.tiny:
        parser.error("give a run, or --tiny")
    options.out.mkdir(parents=True, exist_ok=True)
    hearts = Hearts(tiny(options.out / "run") if options.tiny else open_run(options.run))
    train, test = np.flatnonzero(~hearts.test), np.flatnonzero(hearts.test)
    of_test, shown = edits(hearts, test)
    found = {
        "slices": {"train": len(train), "test": len(test)},
        "patients": {"train": np.unique(hearts.patients[train]).tolist(), "test": np.unique(hearts.patients[test]).tolist()},
        "edits of test": of_test,
        "edits of training": edits(hearts, train)[0],
        "styles on test labels": two_styles(hearts, test),
        "swaps": swaps(hearts),
    }
    for title, table in found.items():
        print(title)
        for name, row in table.items() if isinstance(table, dict) else ():
            values = row.items() if isinstance(row, dict) else (("", row),)
            print(f"  {name:32} " + "  ".join(f"{key} {v:.3g}" if isinstance(v, float) else f"{key} {v}" for key, v in values))
    write_json(options.out / "styles.json", found)
    pictures(hearts, shown, test, options.out)
    return found


if __name__ == "__main__":
    main()
