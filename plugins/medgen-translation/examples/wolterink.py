"""CT from MR by paired and by unpaired training: the protocol of Wolterink et al. (2017) on phantom heads.

    python plugins/medgen-translation/examples/wolterink.py --out runs/wolterink

Heads of `mr_ct_phantom` are patients; sagittal slices; CT in [-600, 1400] HU and MR in [0, 3500] to 256 grey levels; zero padding and
random crops; Adam, the first half of the steps at a constant rate, the second falling linearly to 0. `pix2pix` sees pairs, `cyclegan`
shuffled slices of the same patients. Real pairs never fit exactly: `pix2pix` is trained again with each patient's CT moved by up to
`--shift` voxels along both axes. MAE and PSNR (maximum 4095) of each test patient, inside the head.

Paper: Deep MR to CT Synthesis using Unpaired Data (Wolterink et al., 2017) | https://arxiv.org/abs/1708.01155
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import medgen
from medgen.data import Dataset, from_arrays
from medgen.data.phantoms.head import draw_head, tissue_shares
from medgen.data.phantoms.mr_ct import head_mask, mr_ct_pair
from medgen.data.samples import Array
from medgen.evaluation import SubjectTable, subject_table
from medgen.files import write_json
from medgen.interfaces import Cycles
from medgen.report.style import new_figure
from medgen.runs import Run, open_run

CT, MR = (-600.0, 1400.0), (0.0, 3500.0)
MAXIMUM = 4095.0  # of PSNR; that of the paper's figures is not printed, but only 12-bit values fit them
FIELD = 224.0  # mm
UNPAIRED, PAIRED, MOVED = "unpaired", "paired", "paired, moved"
PUBLISHED = {
    UNPAIRED: ((70.3, 76.2, 75.5, 75.2, 72.0, 73.0), (31.1, 32.1, 32.9, 32.9, 32.3, 32.5)),
    PAIRED: ((86.2, 98.8, 96.9, 86.0, 81.7, 87.0), (29.3, 30.1, 30.1, 31.7, 31.2, 30.9)),
}


@dataclass(frozen=True)
class Patients:
    """Slices of all patients, one after the other.

    Args:
        mr, ct: grey levels, uint8 [N, 1, H, W].
        head: bool [N, 1, H, W].
        subjects: of each slice.
    """

    mr: Array
    ct: Array
    head: Array
    subjects: Array

    def of(self, rows: Array) -> Patients:
        """Some of the slices."""
        return Patients(self.mr[rows], self.ct[rows], self.head[rows], self.subjects[rows])

    def names(self) -> list[str]:
        """Names of the patients, in order."""
        return list(dict.fromkeys(self.subjects.tolist()))


def scan(number: int, size: int, slices: int, seed: int) -> tuple[Array, Array, Array]:
    """MR and CT as grey levels, and the head, of sagittal slices of one patient, [slices, 1, size, size]."""
    rng = np.random.Generator(np.random.Philox(key=[seed, number]))
    spacing = FIELD / size
    shares = tissue_shares(draw_head(rng, 3), size, spacing)
    mr, ct = mr_ct_pair(shares, rng, spacing)
    where = np.linspace(0.3, 0.7, slices) * (size - 1)

    def sagittal(volume: Array) -> Array:
        return np.stack([volume[:, round(k), :].T[::-1] for k in where])[:, None]

    return grey(sagittal(mr) * MR[1], MR), grey(sagittal(ct), CT), sagittal(head_mask(shares))


def grey(values: Array, window: tuple[float, float]) -> Array:
    """Window to 256 grey levels."""
    share = (np.clip(values, *window) - window[0]) / (window[1] - window[0])
    return np.rint(255.0 * share).astype(np.uint8)


def hounsfield(levels: Array) -> torch.Tensor:
    """Grey levels of CT to HU."""
    return torch.from_numpy(CT[0] + levels.astype(np.float64) * (CT[1] - CT[0]) / 255.0)


def patients(first: int, count: int, options: argparse.Namespace) -> Patients:
    """Some patients."""
    scans = [scan(k, options.size, options.slices, options.seed) for k in range(first, first + count)]
    mr, ct, head = (np.concatenate(parts) for parts in zip(*scans, strict=True))
    return Patients(mr, ct, head, np.repeat([f"patient {k + 1:02d}" for k in range(first, first + count)], options.slices))


def moved(given: Patients, most: int, seed: int) -> Patients:
    """Each patient's CT moved by up to `most` voxels along both axes: pairs as a registration leaves them."""
    rng, ct = np.random.Generator(np.random.Philox(seed)), given.ct.copy()
    for name in given.names():
        rows = given.subjects == name
        ct[rows] = np.roll(ct[rows], rng.integers(-most, most + 1, 2), (2, 3))
    return Patients(given.mr, ct, given.head, given.subjects)


def training_set(given: Patients, options: argparse.Namespace, *, pairs: bool) -> Dataset:
    """Padded slices, of which training sees random crops; without pairs the MR of another slice, mostly of another patient."""
    pad = max(1, round(options.size * 30 / 256) // 2)
    widths = ((0, 0), (0, 0), (pad, pad), (pad, pad))
    order = np.arange(len(given.mr)) if pairs else np.random.Generator(np.random.Philox(options.seed)).permutation(len(given.mr))
    return from_arrays(
        np.pad(given.ct, widths),
        images={"source": np.pad(given.mr[order], widths)},
        subjects=given.subjects,
        source_subjects=None if pairs else given.subjects[order],
        window=(0, 255),
        source_window=(0, 255),
        content="intensity",
        patch=(options.size, options.size),
        patches=1,
        split=(1.0, 0.0, 0.0),
        spacing=(FIELD / options.size,) * 2,
        name="wolterink",
    )


def trained(name: str, family: str, data: Dataset, options: argparse.Namespace) -> Run:
    """The run of that name in the folder, trained where it is not there yet."""
    out = Path(options.out) / name
    if (out / "model.safetensors").is_file():
        return open_run(out)
    model: dict[str, Any] = {
        "network": "resnet",
        "width": options.width,
        "multipliers": [1, 2, 4] if options.size >= 32 else [1, 2],
        "residual_blocks": options.residual_blocks,
        "discriminator_channels": [options.width * k for k in ((1, 2, 4) if options.size >= 32 else (1, 2))],
        "generator_lr": options.lr,
        "discriminator_lr": options.lr,
    }
    steps = {"steps": options.steps, "batch_size": options.batch_size, "schedule": "constant_linear", "warmup": 0}
    begin = time.perf_counter()
    run = medgen.train(family, data, out, model=model, precision=options.precision, device="cpu", seed=options.seed, **steps)
    print(f"{name}: {options.steps} steps in {time.perf_counter() - begin:.0f} s", flush=True)
    return run


def translated(run: Run, mr: Array) -> Array:
    """Grey levels of CT, rounded as they would be stored."""
    model = run.model
    assert isinstance(model, medgen.Translator)
    return np.concatenate([_levels(model.translate(part)) for part in _units(mr)])


def cycled(run: Run, mr: Array) -> Array:
    """Grey levels of MR after there and back."""
    model = run.model
    assert isinstance(model, Cycles)
    return np.concatenate([_levels(model.cycle(part)) for part in _units(mr)])


def _units(levels: Array) -> tuple[torch.Tensor, ...]:
    return torch.from_numpy(levels.astype(np.float32) / 255.0).split(32)


def _levels(x: torch.Tensor) -> Array:
    return np.rint(255.0 * x.clamp(0, 1).cpu().numpy()).astype(np.uint8)


def judged(test: Patients, fake: Array) -> SubjectTable:
    """MAE in HU and PSNR of each patient, inside the head."""
    regions = torch.from_numpy(test.head.astype(np.int64))
    return subject_table(
        hounsfield(test.ct),
        hounsfield(fake),
        test.subjects.tolist(),
        value_range=(0.0, MAXIMUM),
        regions=regions,
        names=("outside", "head"),
    )


def columns(tables: Mapping[str, SubjectTable]) -> str:
    """The paper's table: a row per patient, mean and sample SD, beside the published rows."""
    names = list(tables)
    heads = [f"MAE {n}" for n in names] + [f"PSNR {n}" for n in names]
    widths = [max(14, len(h)) for h in heads]

    def line(first: str, cells: list[str]) -> str:
        return "  ".join([first.ljust(14), *(c.rjust(w) for c, w in zip(cells, widths, strict=True))]).rstrip()

    def block(values: list[np.ndarray[Any, Any]], labels: list[str]) -> list[str]:
        rows = [line(label, [f"{v[k]:.1f}" if len(v) else "-" for v in values]) for k, label in enumerate(labels)]
        summary = [f"{v.mean():.2f} +- {v.std(ddof=1) if len(v) > 1 else np.nan:.2f}" if len(v) else "-" for v in values]
        return [*rows, line("mean +- SD", summary)]

    own = [t.values[:, t.columns.index(c)] for c in ("mae", "psnr") for t in tables.values()]
    told = [np.array(PUBLISHED.get(n, ((), ()))[k]) for k in (0, 1) for n in names]
    subjects = list(next(iter(tables.values())).subjects)
    return "\n".join(
        [
            line("phantom", heads),
            *block(own, subjects),
            "",
            line("published", heads),
            *block(told, [f"patient {k + 1}" for k in range(6)]),
        ]
    )


def picture(test: Patients, fakes: Mapping[str, Array], back: Array, path: Path, rows: int = 3) -> None:
    """MR, CT, each translation with its difference, and the cycle map."""
    middle = [int(np.flatnonzero(test.subjects == name)[np.sum(test.subjects == name) // 2]) for name in test.names()[:rows]]
    columns = 3 + 2 * len(fakes)
    figure = new_figure(1.25 * columns, 1.32 * len(middle) + 0.3, constrained=False)
    axes = figure.subplots(len(middle), columns, squeeze=False)
    for number, k in enumerate(middle):
        truth = hounsfield(test.ct[k, 0]).numpy()
        shown: list[tuple[str, Array, dict[str, Any]]] = [
            ("MR", test.mr[k, 0], {"cmap": "gray", "vmin": 0, "vmax": 255}),
            ("CT", truth, {"cmap": "gray", "vmin": CT[0], "vmax": CT[1]}),
        ]
        for name, fake in fakes.items():
            made = hounsfield(fake[k, 0]).numpy()
            shown.append((name, made, {"cmap": "gray", "vmin": CT[0], "vmax": CT[1]}))
            shown.append(("|difference|", np.abs(made - truth), {"cmap": "magma", "vmin": 0, "vmax": 600}))
        residual = np.abs(back[k, 0].astype(np.float64) - test.mr[k, 0]) * MR[1] / 255
        shown.append(("cycle map", residual, {"cmap": "magma", "vmin": 0, "vmax": 600}))
        for ax, (title, image, style) in zip(axes[number], shown, strict=True):
            ax.imshow(image, interpolation="nearest", **style)
            ax.set_axis_off()
            if number == 0:
                ax.set_title(title, fontsize=8)
    figure.subplots_adjust(0.005, 0.005, 0.995, 0.92, 0.03, 0.03)
    figure.savefig(path, dpi=96)


def main() -> None:
    """Train, translate, print the table, write table.json and wolterink.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder; runs that are there already are used again")
    parser.add_argument("--tiny", action="store_true", help="a few steps of little networks: seconds, and no sense in the figures")
    parser.add_argument("--train", type=int, default=18, help="patients for training")
    parser.add_argument("--test", type=int, default=6, help="patients for test")
    parser.add_argument("--slices", type=int, default=12, help="of each patient")
    parser.add_argument("--size", type=int, default=64, help="voxels per side of 224 mm; 256 in the paper")
    parser.add_argument("--steps", type=int, default=1600)
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--width", type=int, default=16, help="features at full resolution; 64 in the paper")
    parser.add_argument("--residual_blocks", type=int, default=4, help="9 in the paper")
    parser.add_argument("--lr", type=float, default=4e-4, help="2e-4 in the paper, over a hundred times the steps")
    parser.add_argument("--shift", type=int, default=2, help="largest displacement of CT in the second paired training, voxels; 0 for none")
    parser.add_argument("--precision", default="bfloat16", choices=("float32", "bfloat16"))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.tiny:
        options.train, options.test, options.slices, options.size = 3, 2, 3, 16
        options.steps, options.width, options.residual_blocks, options.precision = 3, 4, 1, "float32"
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    train, test = patients(0, options.train, options), patients(options.train, options.test, options)
    runs = {
        UNPAIRED: trained("unpaired", "cyclegan", training_set(train, options, pairs=False), options),
        PAIRED: trained("paired", "pix2pix", training_set(train, options, pairs=True), options),
    }
    if options.shift:
        displaced = moved(train, options.shift, options.seed)
        runs[MOVED] = trained(f"paired_moved_{options.shift}", "pix2pix", training_set(displaced, options, pairs=True), options)
    fakes = {name: translated(run, test.mr) for name, run in runs.items()}
    tables = {name: judged(test, fake) for name, fake in fakes.items()}
    back = cycled(runs[UNPAIRED], test.mr)
    table = columns(tables)
    print(f"\n{table}")
    residual = np.abs(back.astype(np.float64) - test.mr)[test.head].mean() * MR[1] / 255
    print(f"\ncycle residual of the unpaired network: {residual:.1f} of [0, {MR[1]:.0f}], inside the head")
    write_json(out / "table.json", {"options": vars(options), "cycle": residual, **{n: t.to_json() for n, t in tables.items()}})
    (out / "table.txt").write_text(f"{table}\n", encoding="utf-8")
    picture(test, fakes, back, out / "wolterink.png")


if __name__ == "__main__":
    main()
