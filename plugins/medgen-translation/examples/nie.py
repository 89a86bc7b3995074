"""CT from MR in 3-D patches: the protocol of Nie et al. (2017) on phantom heads, and whether the adversary is worth it.

    python plugins/medgen-translation/examples/nie.py --out runs/nie

Heads of `mr_ct_phantom` are patients, the last ones for test (the paper leaves out one at a time). The methods, from the simplest:

    atlas          mean CT of the training patients, voxel by voxel; phantoms lie in one frame, so that nothing is registered
    patches        mean CT of the k training voxels whose MR patches (5^3) are nearest; in the place of sparse representation
    FCN            `regression`, without pooling, squared error
    FCN + GDL      and the gradient difference
    G alone        `context_aware_gan` without context and gradient difference, whose discriminator the generator does not hear
    G + GDL alone  and the gradient difference
    GAN            `context_aware_gan` without context and gradient difference
    GAN + GDL      `context_aware_gan`, the first estimate
    + context      its last estimate, of a second GAN that sees the first: the paper's method

All networks have the same size, batches, steps and rate. "G alone" and "GAN" start from the same weights and differ by the adversary and
by nothing else: whether it is worth it ("GAN + GDL", trained beside its context, also sees other batches than "G + GDL alone"). FCN has
another scale of its loss, no tanh, and Adam's usual momentum. MAE in HU and PSNR (maximum 4095) of each test patient inside the head.
Sharpness is the mean length of CT's gradient inside the head, of the translation over that of the truth: 1 is as sharp. Writes
OUT/nie.json, OUT/table.txt and OUT/nie.png; what has been trained in OUT is used again, and `medgen compare` works on it.

Paper: Medical Image Synthesis with Context-Aware Generative Adversarial Networks (Nie et al., 2017) | https://arxiv.org/abs/1612.05362
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import medgen
from medgen.data.phantoms.head import draw_head, tissue_shares
from medgen.data.phantoms.mr_ct import head_mask, mr_ct_pair
from medgen.evaluation import SubjectTable, nearest, subject_table
from medgen.evaluation.translated import translated
from medgen.files import write_json
from medgen.report.style import new_figure
from medgen.runs import Run, open_run

FIELD = 224.0  # mm
WINDOW = (-1024.0, 1600.0)
RANGE = (-1024.0, 3071.0)  # of PSNR; that of the paper's figures is not printed, but only 12-bit values fit them
PATCH = 5  # of the baseline, voxels


@dataclass(frozen=True)
class Method:
    """A network of the table.

    Args:
        run: name of its folder; two methods may be estimates of one run.
        family: that is trained.
        model: its options beside size and rates.
        estimate: of a run with several.
    """

    run: str
    family: str
    model: Mapping[str, Any]
    estimate: int | None = None


METHODS = {
    "FCN": Method("fcn", "regression", {"network": "fcn", "loss": "l2"}),
    "FCN + GDL": Method("fcn_gdl", "regression", {"network": "fcn", "loss": "l2", "gradient_weight": 1.0}),
    "G alone": Method("alone", "context_aware_gan", {"contexts": 0, "gradient_weight": 0.0, "adversarial": 0.0}),
    "G + GDL alone": Method("alone_gdl", "context_aware_gan", {"contexts": 0, "adversarial": 0.0}),
    "GAN": Method("gan", "context_aware_gan", {"contexts": 0, "gradient_weight": 0.0}),
    "GAN + GDL": Method("context", "context_aware_gan", {"contexts": 1}, 0),
    "+ context": Method("context", "context_aware_gan", {"contexts": 1}, -1),
}
WORTH = (("GAN", "G alone"), ("GAN + GDL", "G + GDL alone"))
SHOWN = ("atlas", "patches", "FCN", "G alone", "GAN", "GAN + GDL", "+ context")
PUBLISHED = {  # MAE mean (sd) median, PSNR mean (sd) median
    "brain": {
        "atlas": ("171.5 (35.7) 170.2", "20.8 (1.6) 20.6"),
        "sparse representation": ("159.8 (37.4) 161.1", "21.3 (1.7) 21.2"),
        "structured forest": ("99.9 (14.2) 97.6", "26.3 (1.4) 26.3"),
        "context-aware GAN": ("92.5 (13.9) 92.1", "27.6 (1.3) 27.6"),
    },
    "pelvis": {
        "atlas": ("66.1 (6.9) 66.7", "29.0 (2.1) 29.6"),
        "sparse representation": ("52.1 (9.8) 52.3", "30.3 (2.6) 31.1"),
        "structured forest": ("48.1 (4.6) 48.3", "32.1 (0.9) 31.8"),
        "context-aware GAN": ("39.0 (4.6) 39.1", "34.1 (1.0) 34.1"),
    },
}


@dataclass(frozen=True)
class Heads:
    """Patients: MR in [0, 1], CT in HU, the head, each [N, 1, *S]."""

    mr: Tensor
    ct: Tensor
    head: Tensor


def heads(options: argparse.Namespace) -> tuple[Path, Heads, Heads]:
    """All patients as one npz, training and test apart."""
    spacing, scans = FIELD / options.size, []
    for k in range(options.train + options.test):
        rng = np.random.Generator(np.random.Philox(key=[options.seed, k]))
        shares = tissue_shares(draw_head(rng, 3), options.size, spacing)
        scans.append((*mr_ct_pair(shares, rng, spacing), head_mask(shares)))
    mr, ct, head = (np.stack(parts) for parts in zip(*scans, strict=True))
    ct = np.rint(ct).astype(np.int16)
    path, n = Path(options.out) / "heads.npz", options.train
    np.savez_compressed(path, ct=ct, mr=mr, head=head.astype(np.uint8), patient=np.array([f"patient {k + 1:02d}" for k in range(len(mr))]))
    parts = [torch.from_numpy(x.astype(np.float32))[:, None] for x in (mr, ct, head)]
    return path, Heads(*(x[:n] for x in parts)), Heads(*(x[n:] for x in parts))


def atlas(train: Heads, test: Heads) -> Tensor:
    """The mean CT of the training patients."""
    return train.ct.mean(0, keepdim=True).expand_as(test.ct)


def patches(train: Heads, test: Heads, *, atoms: int, neighbours: int, seed: int) -> Tensor:
    """Inside the head the mean CT of the nearest of some training patches; outside air."""
    known, of_known = _patches(train)
    chosen = np.random.Generator(np.random.Philox(seed)).permutation(len(known))[:atoms]
    rows, _ = _patches(test)
    _, found = nearest(known[chosen], rows, min(neighbours, len(chosen)))
    fake = torch.full_like(test.ct, -1000.0)
    fake[test.head > 0] = of_known[chosen][found].mean(1)
    return fake


def _patches(given: Heads) -> tuple[Tensor, Tensor]:
    """MR patches around the voxels of the head [M, PATCH^3], and their CT [M]."""
    inside, parts = given.head[:, 0] > 0, []
    for x, mask in zip(given.mr, inside, strict=True):
        windows = F.pad(x[0], [PATCH // 2] * 6).unfold(0, PATCH, 1).unfold(1, PATCH, 1).unfold(2, PATCH, 1)
        parts.append(windows[mask].flatten(1))
    return torch.cat(parts), given.ct[:, 0][inside]


def trained(name: str, method: Method, data: Path, test: Sequence[str], options: argparse.Namespace) -> Run:
    """The run of a method, trained where it is not there yet."""
    out = Path(options.out) / method.run
    if not (out / "model.safetensors").is_file():
        model: dict[str, Any] = {"width": options.width, "layers": options.layers, **method.model}
        if method.family != "regression":
            rates = {"generator_lr": options.lr, "discriminator_lr": options.lr / 4}
            model |= {"discriminator_channels": [options.width, 2 * options.width], **rates}
        begin = time.process_time()
        medgen.train(
            method.family,
            data,
            out,
            model=model,
            key="ct",
            source="mr",
            regions=["head"],
            subjects="patient",
            test_subjects=test,
            split=(1.0, 0.0, 0.0),
            dim=3,
            content="intensity",
            window=WINDOW,
            source_window=(0.0, 1.0),
            unit="HU",
            patch=(options.patch,) * 3,
            patch_foreground=0.7,
            steps=options.steps,
            batch_size=options.batch_size,
            lr=options.lr,
            precision=options.precision,
            seed=options.seed,
            device=options.device,
            show=options.show,
        )
        print(f"{name}: {options.steps} steps in {time.process_time() - begin:.0f} s of CPU", flush=True)
    return open_run(out) if method.estimate is None else open_run(out, estimate=method.estimate)


def judged(test: Heads, fake: Tensor) -> SubjectTable:
    """MAE and PSNR of each patient, inside the head."""
    names = [f"test {k + 1:02d}" for k in range(len(fake))]
    return subject_table(test.ct, fake, names, value_range=RANGE, regions=test.head.long(), names=("outside", "head"))


def sharpness(test: Heads, fake: Tensor) -> list[float]:
    """Mean length of the gradient inside the head, of each translation over that of its truth."""

    def mean_slope(x: Tensor) -> Tensor:
        slope = sum(torch.gradient(x, dim=axis)[0] ** 2 for axis in (2, 3, 4))
        assert isinstance(slope, Tensor)
        return (slope.sqrt() * test.head).flatten(1).sum(1)

    return [float(v) for v in mean_slope(fake) / mean_slope(test.ct)]


def cells(values: Sequence[float], digits: int) -> str:
    """mean (SD) median."""
    x = np.asarray(values)
    sd = x.std(ddof=1) if len(x) > 1 else float("nan")
    return f"{x.mean():.{digits}f} ({sd:.{digits}f}) {np.median(x):.{digits}f}"


def report(tables: Mapping[str, SubjectTable], sharp: Mapping[str, list[float]]) -> str:
    """The paper's table, and what the adversary changes."""

    def column(name: str, figure: str) -> Any:
        table = tables[name]
        return table.values[:, table.columns.index(figure)]

    def line(*words: str) -> str:
        return "".join(word.ljust(24) for word in words).rstrip()

    lines = [line("mean (SD) median", "MAE", "PSNR", "sharpness")]
    lines += [line(n, cells(column(n, "mae"), 1), cells(column(n, "psnr"), 1), cells(sharp[n], 2)) for n in tables]
    for place, rows in PUBLISHED.items():
        lines += ["", line(f"published, {place}", "MAE", "PSNR"), *(line(name, *figures) for name, figures in rows.items())]
    lines += ["", "the same generator with an adversary, less without (mean over patients):"]
    for name, base in WORTH:
        mae, psnr = (column(name, c) - column(base, c) for c in ("mae", "psnr"))
        sharper = np.mean(sharp[name]) - np.mean(sharp[base])
        better = f"MAE {mae.mean():+.1f}, better in {(mae < 0).sum()} of {len(mae)}"
        lines.append(f"{name} - {base}".ljust(28) + line(f"{better}  ", f"PSNR {psnr.mean():+.2f}", f"sharpness {sharper:+.2f}"))
    return "\n".join(lines)


def picture(test: Heads, fakes: Mapping[str, Tensor], path: Path) -> None:
    """One axial slice of the first test patient: MR, CT and every method; below, absolute differences."""
    middle = int(0.55 * test.ct.shape[-1])
    figure = new_figure(1.2 * (2 + len(fakes)), 2.65, constrained=False)
    axes = figure.subplots(2, 2 + len(fakes))
    images = {"MR": test.mr, "CT": test.ct, **fakes}
    truth = test.ct[0, 0, :, :, middle].numpy()
    for (above, below), (name, x) in zip(axes.T, images.items(), strict=True):
        shown = x[0, 0, :, :, middle].numpy()
        low, high = (0.0, 1.0) if name == "MR" else (-1024.0, 1400.0)
        above.imshow(shown, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        above.set_title(name, fontsize=8)
        if name not in ("MR", "CT"):
            bar = below.imshow(np.abs(shown - truth), cmap="magma", vmin=0, vmax=500, interpolation="nearest")
        for ax in (above, below):
            ax.set_axis_off()
    figure.subplots_adjust(0.005, 0.01, 0.995, 0.93, 0.03, 0.03)
    scale = figure.colorbar(bar, cax=figure.add_axes((0.13, 0.06, 0.008, 0.38)))
    scale.ax.tick_params(labelsize=7)
    scale.ax.yaxis.set_ticks_position("left")
    scale.set_label("|difference| (HU)", fontsize=7)
    scale.ax.yaxis.set_label_position("left")
    figure.savefig(path, dpi=110)


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, help="folder; runs that are there already are used again")
    parser.add_argument("--tiny", action="store_true", help="a few steps of little networks: seconds, and no sense in the figures")
    parser.add_argument("--train", type=int, default=12, help="patients for training")
    parser.add_argument("--test", type=int, default=4, help="patients for test")
    parser.add_argument("--size", type=int, default=40, help="voxels per side of 224 mm")
    parser.add_argument("--patch", type=int, default=16, help="voxels per side of a patch; 32 in the paper")
    parser.add_argument("--steps", type=int, default=700)
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--width", type=int, default=16, help="features")
    parser.add_argument("--layers", type=int, default=7, help="convolutions of the generator; 9 in the paper")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--atoms", type=int, default=4000, help="training patches of the baseline")
    parser.add_argument("--precision", default="bfloat16", choices=("float32", "bfloat16"))
    parser.add_argument("--device", default="cpu", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="progress of each training")
    options = parser.parse_args()
    if options.tiny:
        options.train, options.test, options.size, options.patch, options.atoms = 3, 2, 16, 8, 200
        options.steps, options.width, options.layers, options.precision = 3, 4, 2, "float32"
    return options


def main() -> None:
    """Train, translate, print the table, write nie.json, table.txt and nie.png."""
    options = parse()
    out = Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    data, train, test = heads(options)
    names = [f"patient {options.train + k + 1:02d}" for k in range(options.test)]
    fakes = {"atlas": atlas(train, test), "patches": patches(train, test, atoms=options.atoms, neighbours=5, seed=options.seed)}
    for name, method in METHODS.items():
        run = trained(name, method, data, names, options)
        run.model.to(run.device(options.device))
        found = translated(run, "test", len(names))
        assert torch.equal(found.real, test.ct.clamp(*WINDOW)), "the run's test patients are not these: use another --out"
        fakes[name] = found.fake
    tables = {name: judged(test, fake) for name, fake in fakes.items()}
    sharp = {name: sharpness(test, fake) for name, fake in fakes.items()}
    text = report(tables, sharp)
    print(f"\n{text}")
    figures = {name: {**table.to_json(), "sharpness": sharp[name]} for name, table in tables.items()}
    write_json(out / "nie.json", {"options": vars(options), "figures": figures})
    (out / "table.txt").write_text(f"{text}\n", encoding="utf-8")
    picture(test, {name: fakes[name] for name in SHOWN}, out / "nie.png")
    print(f"\nmedgen compare {' '.join(str(out / name) for name in dict.fromkeys(m.run for m in METHODS.values()))} --split test")


if __name__ == "__main__":
    main()
