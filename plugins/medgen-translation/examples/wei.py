"""Wei's six methods on the lesion phantom: myelin maps as of PET from T1, T2 and FLAIR.

    python plugins/medgen-translation/examples/wei.py --out runs/wei

Patients with lesions of all severities, and healthy controls. Every method learns from the same heads, with one width, batch and rate, and
is judged on others, each of them a subject. Writes OUT/wei.json and OUT/wei.png; what has been trained in OUT is used again. `--equal
compute` gives methods with fewer passes through networks more steps (one GAN twice, no adversary four times the refiner's), so that all
cost about the same; the default is equal steps.

Table 1 of the paper is of all voxels of the brain, table 2 mean |d| in white matter of controls, in normal-appearing white matter and in
lesions of patients. A voxel of a lesion is demyelinated where it is below mean - k sd of the white matter of the controls trained on; Dice
is that of such voxels in truth and prediction. p: two-sided paired t-test against the refiner, over subjects.

Papers: Learning Myelin Content in Multiple Sclerosis from Multimodal MRI through Adversarial Training (Wei et al., 2018) |
https://arxiv.org/abs/1804.08039
Predicting PET-derived Demyelination from Multimodal MRI using Sketcher-Refiner Adversarial Training for Multiple Sclerosis (Wei et al.,
2019) | https://doi.org/10.1016/j.media.2019.101546
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage, stats
from torch import Tensor

import medgen
from medgen.evaluation import demyelination_dice, region_discrepancy
from medgen.files import write_json
from medgen.report.style import new_figure
from medgen.runs import Run, open_run

OTHER, LESION, WHITE = 0, 1, 2
FIGURES = ("MSE", "PSNR", "WM in controls", "NAWM", "lesions", "demyelination Dice")
REFINER = "refiner"


@dataclass(frozen=True)
class Method:
    """A row of the tables.

    Args:
        name: of the row.
        family: that is trained.
        model: its options.
        passes: how much one step costs, about: 1 one network, 2 with a discriminator, 4 for two of each.
        published: the paper's MSE (sd), PSNR (sd), and discrepancies.
    """

    name: str
    family: str
    model: Mapping[str, Any]
    passes: int
    published: tuple[str, ...]


METHODS = (
    Method(
        "2-layer DNN",
        "regression",
        {"network": "fcn", "layers": 2, "kernel": 1, "width": 200},
        1,
        (".0136 (.0048)", "27.77 (1.21)", ".059", ".041", ".131"),
    ),
    Method("U-Net", "regression", {}, 1, (".0107 (.0041)", "29.30 (0.99)", ".053", ".039", ".035")),
    Method("U-Net + L1W", "regression", {"weighting": "regions"}, 1, (".0113 (.0043)", "28.61 (1.01)", ".054", ".038", ".032")),
    Method("sketcher", "pix2pix", {"loss": "non_saturating"}, 2, (".0094 (.0038)", "29.48 (0.98)", ".053", ".034", ".030")),
    Method(
        "sketcher + L1W",
        "pix2pix",
        {"loss": "non_saturating", "weighting": "regions"},
        2,
        (".0103 (.0042)", "29.08 (1.00)", ".052", ".035", ".027"),
    ),
    Method(REFINER, "sketcher_refiner", {}, 4, (".0083 (.0037)", "30.04 (1.10)", ".048", ".029", ".022")),
)


def train(method: Method, out: Path, options: argparse.Namespace, seed: int) -> tuple[Run, dict[str, float]]:
    """A method trained on the heads of a seed, its steps and the seconds of CPU that it took."""
    folder = out / f"{method.name.replace(' ', '').replace('+', '_')}_{options.equal}_{options.steps}_{seed}"
    data = (
        f"lesion_phantom?n={options.heads}&size={options.size}&dim={options.dim}&target=myelin&controls=0.35"
        f"&severity_min=0.1&lesions_min=3&lesions_max=9&noise={options.noise}&seed={seed}"
    )
    steps = options.steps * (4 // method.passes if options.equal == "compute" else 1)
    if not (folder / "model.safetensors").is_file():
        judged = method.family != "regression"
        model = {"width": options.width, "multipliers": [1, 2, 4], **method.model}
        model |= {"generator_lr": options.lr, "discriminator_channels": [16, 32, 64]} if judged else {}
        start = time.process_time()
        medgen.train(
            method.family,
            data,
            folder,
            model=model,
            split=(0.75, 0.0, 0.25),
            steps=steps,
            batch_size=options.batch,
            lr=options.lr,
            precision=options.precision,
            seed=seed,
            device=options.device,
            show=options.show,
        )
        write_json(folder / "cost.json", {"steps": steps, "cpu": time.process_time() - start})
    return open_run(folder), json.loads((folder / "cost.json").read_text())


def brains(regions: Tensor) -> Tensor:
    """Where the brain is, bool [B, 1, *S]: white matter and lesions, closed and filled."""
    masks = [ndimage.binary_fill_holes(ndimage.binary_closing(r, iterations=3)) for r in (regions[:, 0] > 0).numpy()]
    return torch.from_numpy(np.stack(masks))[:, None]


def healthy_white(run: Run) -> tuple[float, float]:
    """Mean and sd of myelin in the white matter of the controls trained on."""
    batch = run.dataset.fetch(run.dataset.splits["train"])
    regions = batch.condition.values["regions"]
    control = regions[:, LESION].flatten(1).sum(1) == 0
    values = batch.x[control][regions[control, WHITE : WHITE + 1] > 0].double()
    return float(values.mean()), float(values.std())


def judge(run: Run, k: float) -> tuple[np.ndarray, dict[str, Tensor]]:
    """Figures of each test subject [N, len(FIGURES)], NaN where a subject has no such region; and the images."""
    batch = run.dataset.fetch(run.dataset.splits["test"])
    real = batch.x
    fake = torch.cat([run.model.translate(x).cpu() for x in batch.condition.values["source"].split(16)])
    regions = batch.condition.values["regions"].argmax(1, keepdim=True)
    brain, (mean, sd) = brains(regions), healthy_white(run)
    mse = torch.stack([(a - b)[m].double().square().mean() for a, b, m in zip(real, fake, brain, strict=True)])
    each = region_discrepancy(real, fake, regions, 3)
    patient = (regions == LESION).flatten(1).any(1)
    nothing = torch.full_like(mse, math.nan)
    demyelinated = demyelination_dice(real, fake, regions == LESION, mean=mean, sd=sd, k=k)
    columns = [
        mse,
        -10 * mse.log10(),
        torch.where(patient, nothing, each[:, WHITE]),
        torch.where(patient, each[:, WHITE], nothing),
        each[:, LESION],
        torch.where(patient, demyelinated, nothing),
    ]
    images = {"real": real, "fake": fake, "regions": regions, "source": batch.condition.values["source"]}
    return torch.stack(columns, 1).numpy(), images


def tables(figures: Mapping[str, np.ndarray], costs: Mapping[str, Mapping[str, float]]) -> list[list[str]]:
    """Rows of the printed table: mean (sample sd), and p against the refiner for MSE and lesions."""
    rows = [["method", *FIGURES[:2], "p", *FIGURES[2:5], "p", FIGURES[5], "steps", "CPU s"]]
    rows += [["published", "", "", "", *[""] * 3, "", "", "", ""]]
    rows += [[m.name, *m.published[:2], "", *m.published[2:], "", ".83" if m.name == REFINER else "", "", ""] for m in METHODS]
    rows += [["here", "", "", "", *[""] * 3, "", "", "", ""]]
    for name, values in figures.items():
        mean, sd = np.nanmean(values, 0), np.nanstd(values, 0, ddof=1)
        digits = (4, 2, 4, 4, 4, 3)
        cells = [f"{m:.{d}f} ({s:.{d}f})" for m, s, d in zip(mean, sd, digits, strict=True)]
        p = ["" if name == REFINER else f"{p_value(values, figures[REFINER], column):.1e}" for column in (0, 4)]
        rows.append([name, *cells[:2], p[0], *cells[2:5], p[1], cells[5], f"{costs[name]['steps']:.0f}", f"{costs[name]['cpu']:.0f}"])
    return rows


def p_value(values: np.ndarray, reference: np.ndarray, column: int) -> float:
    """Of the two-sided paired t-test over the subjects that have the figure."""
    known = np.isfinite(values[:, column]) & np.isfinite(reference[:, column])
    return float(stats.ttest_rel(values[known, column], reference[known, column]).pvalue)


def render(rows: Sequence[Sequence[str]]) -> str:
    """Columns aligned."""
    widths = [max(len(row[c]) for row in rows) for c in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def draw(path: Path, images: Mapping[str, Mapping[str, Tensor]], figures: Mapping[str, np.ndarray]) -> None:
    """FLAIR, truth, and each method with its error, of the patients at the quartiles of the refiner's error in lesions."""
    one = images[REFINER]
    error = figures[REFINER][:, FIGURES.index("lesions")]
    patients = np.flatnonzero(np.isfinite(error))[np.argsort(error[np.isfinite(error)])]
    rows = patients[[len(patients) // 4, (3 * len(patients)) // 4]]
    figure = new_figure(1.25 * (2 + len(images)), 1.42 * 2 * len(rows))
    axes = figure.subplots(2 * len(rows), 2 + len(images))

    def cut(x: Tensor) -> np.ndarray:
        plane = x if x.dim() == 2 else x[:, :, x.shape[2] // 2]
        edge = len(plane) // 8
        return plane[edge:-edge, edge:-edge].numpy()

    for i, sample in enumerate(rows):
        shown = {"FLAIR": one["source"][sample, 2], "truth": one["real"][sample, 0]}
        shown |= {name: held["fake"][sample, 0] for name, held in images.items()}
        lesion = cut((one["regions"][sample, 0] == LESION).float())
        for column, (name, image) in enumerate(shown.items()):
            top, bottom = axes[2 * i, column], axes[2 * i + 1, column]
            top.imshow(cut(image), cmap="gray", vmin=0, vmax=1)
            if column == 1 and lesion.any():
                top.contour(lesion, [0.5], colors="#d55e00", linewidths=0.7)
            if column > 1:
                bottom.imshow(cut((image - one["real"][sample, 0]).abs()), cmap="magma", vmin=0, vmax=0.4)
            if i == 0:
                top.set_title(name, fontsize=8)
            for ax in (top, bottom):
                ax.axis("off")
    figure.savefig(path, dpi=75)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Train, judge, print, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tiny", action="store_true", help="a few steps on a few heads, to see that all of it runs")
    parser.add_argument("--equal", choices=("steps", "compute"), default="steps", help="what all methods have alike")
    parser.add_argument("--heads", type=int, default=800, help="three quarters to train on")
    parser.add_argument("--size", type=int, default=48)
    parser.add_argument("--noise", type=float, default=0.01, help="sigma of MR's; that of the myelin maps is 3 times that")
    parser.add_argument("--dim", type=int, choices=(2, 3), default=2)
    parser.add_argument("--steps", type=int, default=1000, help="of the refiner, and with --equal steps of all")
    parser.add_argument("--width", type=int, default=8)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-3, help="of every network but the discriminators")
    parser.add_argument("--k", type=float, default=1.0, help="sd of healthy white matter below its mean at which myelin counts as lost")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="one repeat each, of heads, initial weights and order")
    parser.add_argument("--precision", default="bfloat16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--show", action="store_true", help="progress of every training")
    options = parser.parse_args(arguments)
    if options.tiny:
        options.heads, options.size, options.steps, options.width = 16, 32, 3, 4
    options.out.mkdir(parents=True, exist_ok=True)
    parts: dict[str, list[np.ndarray]] = {method.name: [] for method in METHODS}
    costs, images = {}, {}
    for seed in options.seeds:
        for method in METHODS:
            run, costs[method.name] = train(method, options.out, options, seed)
            found, images[method.name] = judge(run, options.k)
            parts[method.name].append(found)
            lesions = np.nanmean(found[:, FIGURES.index("lesions")])
            print(f"seed {seed}, {method.name}: {costs[method.name]['cpu']:.0f} s, error in lesions {lesions:.4f}", flush=True)
    figures = {name: np.concatenate(each) for name, each in parts.items()}
    rows = tables(figures, costs)
    print(render(rows))
    draw(options.out / "wei.png", images, {name: each[-1] for name, each in parts.items()})
    means = {name: dict(zip(FIGURES, np.nanmean(values, 0).tolist(), strict=True)) for name, values in figures.items()}
    summary = {
        "options": {name: value if not isinstance(value, Path) else str(value) for name, value in vars(options).items()},
        "subjects": len(figures[REFINER]),
        "lesions by seed": {
            name: [float(np.nanmean(each[:, FIGURES.index("lesions")])) for each in found] for name, found in parts.items()
        },
        "means": means,
        "sd": {name: dict(zip(FIGURES, np.nanstd(values, 0, ddof=1).tolist(), strict=True)) for name, values in figures.items()},
        "p": {
            name: {figure: p_value(values, figures[REFINER], column) for column, figure in enumerate(FIGURES)}
            for name, values in figures.items()
            if name != REFINER
        },
        "costs": costs,
    }
    write_json(options.out / "wei.json", summary)
    return summary


if __name__ == "__main__":
    main()
