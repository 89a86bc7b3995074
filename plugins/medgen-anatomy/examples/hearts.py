"""Anatomical guarantees on real hearts: densities of shapes, hearts by rejection, a model of short-axis maps, densification, correction.

    python plugins/medgen-anatomy/examples/hearts.py --data DATA --out runs/anatomy

DATA holds lv_mesa_pca/lv_mesa_ed_dev.npz (shape scores of 1400 left ventricles) and sunnybrook_lv/sunnybrook_lv.npz (masks of 5 patients).
Each part writes OUT/PART.json; `--only` chooses parts. What has been trained or densified in OUT is used again.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

import medgen
from medgen.evaluation import mmd_permutation_test
from medgen.files import write_json
from medgen.interfaces import Batch
from medgen.maths import bandwidth_scale
from medgen.nn import Parzen
from medgen.report.style import new_figure
from medgen.runs import Run, open_run
from medgen.sampling.rejection import Gaussian, Target, reject
from medgen_anatomy.choice import choose_criteria
from medgen_anatomy.correct import correct, open_store
from medgen_anatomy.correction_report import coloured
from medgen_anatomy.criteria import is_valid, myocardium_criteria
from medgen_anatomy.densify import densify
from medgen_anatomy.meshes import ventricle
from medgen_anatomy.overlap import dice, hausdorff
from medgen_anatomy.surfaces import surface

SIZE, SPACING, SLICES = 64, 1.75, 8
KINDS = ("holes", "islands", "gaps", "noise")
STRENGTHS = (1, 2, 3)
_REFINED = ("correction", "sunnybrook")
SUNNYBROOK_MM = 1.25
"""mm per pixel, assumed: the file does not say. 256 of them are a field of view of 320 mm."""


class Meshes:
    """Shape scores to label maps."""

    def __init__(self, file: Path) -> None:
        with np.load(file) as arrays:
            held = {name: arrays[name] for name in arrays.files}
        self.scores = held["scores"]
        self.mean, self.components = held["mean"].astype(np.float64), held["components"].astype(np.float64)
        self.split = int(held["n_points_endo"])
        vertices = self.vertices(self.scores[:1])[0]
        outer = held["faces_epi"] - (self.split if held["faces_epi"].min() >= self.split else 0)
        self.endo, self.epi = surface(vertices[: self.split], held["faces_endo"]), surface(vertices[self.split :], outer)

    def vertices(self, scores: np.ndarray) -> np.ndarray:
        """[N, P, 3] in mm."""
        return self.mean + np.tensordot(scores, self.components, 1)

    def maps(self, scores: np.ndarray) -> np.ndarray:
        """Label maps [N, SLICES, SIZE, SIZE]; background where a shape cannot be cut."""
        out = np.zeros((len(scores), SLICES, SIZE, SIZE), np.uint8)
        positions = (np.arange(SLICES) + 0.5) / SLICES
        for k, x in enumerate(self.vertices(scores)):
            try:
                heart = ventricle(replace(self.endo, vertices=x[: self.split]), replace(self.epi, vertices=x[self.split :]))
                out[k] = heart.label_maps(positions, SIZE, SPACING)
            except medgen.MedgenError:
                continue
        return out


def shrunk(p: Parzen) -> Parzen:
    """The density with its points drawn towards their mean by (1 - h^2)^(1/2), h the bandwidth's factor: of the data's own covariance.

    As it is, a kernel density has 1 + h^2 times the covariance of the data, which two-sample tests see.

    Paper: Density Estimation for Statistics and Data Analysis (Silverman, 1986), section 6.4
    """
    mean, own = p.points.mean(0), bandwidth_scale(p.points, "full").to(p.bandwidth)
    h = float(p.bandwidth[0, 0] / own[0, 0])
    return Parzen(mean + max(0.0, 1.0 - h * h) ** 0.5 * (p.points - mean), p.bandwidth)


def density(data: Path, out: Path, _options: argparse.Namespace) -> dict[str, Any]:
    """Held-out log-likelihood of the scores, and hearts drawn by rejection from P times validity."""
    meshes = Meshes(data / "lv_mesa_pca" / "lv_mesa_ed_dev.npz")
    order = np.random.default_rng(0).permutation(len(meshes.scores))  # as in benchmarks/cases/flows_quality.py
    first, second = int(0.7 * len(order)), int(0.8 * len(order))
    middle, scale = meshes.scores[order[:first]].mean(0), meshes.scores[order[:first]].std(0)
    rows = torch.from_numpy(((meshes.scores - middle) / scale).astype(np.float32))
    train, test = rows[order[:second]], rows[order[second:]]
    spec = medgen.ImageSpec(channels=rows.shape[1], shape=(), content="features")
    model: Any = medgen.create("parzen", spec, rule="leave_one_out", kind="full")
    model.prepare(lambda: (Batch(part) for part in train.split(500)))
    found: dict[str, Any] = {"fitted": len(train), "held_out": len(test), "nats": {}}
    densities = {"parzen": model.density, "parzen_shrunk": shrunk(model.density), "gaussian": Gaussian.fit(train)}
    for name, p in densities.items():
        values = p.log_prob(test)
        found["nats"][name] = [float(values.mean()), 2 * float(values.std()) / len(test) ** 0.5]

    criteria = myocardium_criteria()

    def valid_mesh(z: torch.Tensor) -> torch.Tensor:
        maps = meshes.maps(z.double().numpy() * scale + middle)
        good = is_valid(maps.reshape(-1, SIZE, SIZE), criteria, (SPACING, SPACING)).reshape(len(z), SLICES).all(1)
        return torch.from_numpy(good & (maps > 0).any((1, 2, 3)))

    start = time.perf_counter()
    drawn = reject(Target(shrunk(model.density), keep=[valid_mesh]), n=len(test), cell=len(test), patience=None)
    free = model.density.draw(medgen.Noise.of(1, range(len(test))))
    found["rejection"] = {
        "hearts": len(drawn.points),
        "valid_share": drawn.tally.accepted / drawn.tally.passed,
        "valid_share_of_held_out": float(valid_mesh(test).float().mean()),
        "seconds": time.perf_counter() - start,
    }
    for name, points in (
        ("valid_hearts", drawn.points),
        ("parzen", free),
        ("gaussian", Gaussian.fit(train).draw(medgen.Noise.of(2, range(len(test))))),
    ):
        value, p = mmd_permutation_test(test, points.float(), permutations=999)
        found[f"mmd_{name}"] = {"mmd2": value, "p": p}
    np.save(out / "drawn_scores.npy", drawn.points.numpy() * scale + middle)
    return found


def hearts(data: Path, out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """A constrained_vae of short-axis maps, and its valid shapes."""
    os.environ["MEDGEN_DATA"] = str(data)
    folder, spent = out / "hearts", 0.0
    if not (folder / "model.safetensors").is_file():
        start = time.perf_counter()
        medgen.train(
            "constrained_vae",
            f"lv_meshes?hearts={options.hearts}",
            folder,
            model={"attribute": "slice_position", "channels": [8, 16, 32, 64], "latent_dim": options.latent},
            show=False,
            steps=options.steps,
            batch_size=32,
            lr=2e-3,
            warmup=20,
            precision="bfloat16",
            ema=0.99,
            device="cpu",
        )
        spent = time.perf_counter() - start
    run = open_run(folder)
    criteria = choose_criteria(run.model.image_spec, missing="invalid")
    store = densify(run, options.points, criteria, folder / "densified", threads=1)
    return {"training_seconds": spent, "hearts": options.hearts, "steps": options.steps, **store.note["summary"]}


def corrupted(maps: np.ndarray, kind: str, strength: int, seed: int = 0) -> np.ndarray:
    """Maps [B, H, W] of 0, 1 (MYO), 2 (LV) with a fault each; faults grow with the strength.

    holes: a disc of background within the cavity. islands: as many blobs of cavity or wall as the strength, away from the heart. gaps: a
    wedge of the wall removed. noise: pixels around the outlines take the label of a random neighbour 2 x strength away.
    """
    rng, out = np.random.default_rng(seed), maps.copy()
    row, column = np.mgrid[: maps.shape[1], : maps.shape[2]]
    for one in out:
        size = np.sqrt((one > 0).sum() / np.pi)  # radius of the heart in pixels
        if kind == "holes":
            inside = np.argwhere(ndimage.binary_erosion(one == 2, iterations=2)) if (one == 2).any() else np.argwhere(one)
            y, x = inside[rng.integers(len(inside))] if len(inside) else np.argwhere(one == 2)[0]
            one[np.hypot(row - y, column - x) < 0.5 + 0.05 * size * strength] = 0
        elif kind == "islands":
            far = ndimage.distance_transform_edt(one == 0)
            for _ in range(strength):
                place = np.argwhere((far > 3) & (far < max(5.0, 0.8 * size)))
                if len(place):
                    y, x = place[rng.integers(len(place))]
                    one[(np.hypot(row - y, column - x) < 0.5 + 0.04 * size * strength) & (one == 0)] = rng.integers(1, 3)
        elif kind == "gaps":
            y, x = np.argwhere(one).mean(0)
            angle = np.angle(np.exp(1j * (np.arctan2(row - y, column - x) - rng.uniform(-np.pi, np.pi))))
            one[(one == 1) & (np.abs(angle) < 0.12 * strength)] = 0
        else:
            edge = ndimage.grey_dilation(one, 3) != ndimage.grey_erosion(one, 3)
            reach = max(1, round(0.04 * strength * size))
            near = ndimage.binary_dilation(edge, iterations=reach) & (rng.random(one.shape) < 0.15 * strength)
            shift = rng.integers(-reach - 1, reach + 2, (2, *one.shape))
            one[near] = one[np.clip(row + shift[0], 0, len(one) - 1), np.clip(column + shift[1], 0, one.shape[1] - 1)][near]
    return out


def table(
    maps: np.ndarray, given_to: Callable[..., Any], criteria: Any, spacing: tuple[float, float]
) -> tuple[dict[str, Any], list[tuple[np.ndarray, ...]]]:
    """Every corruption of valid maps, corrected: counts, Dice and Hausdorff distance to the uncorrupted maps; and a picture of each."""
    rows, pictures = {}, []
    for kind in KINDS:
        for strength in STRENGTHS:
            given = corrupted(maps, kind, strength)
            start = time.perf_counter()
            found = given_to(given)
            seconds = time.perf_counter() - start
            broken = ~found.valid_before
            before, after = dice(given, maps, [1, 2]), dice(found.maps, maps, [1, 2])
            rows[f"{kind} {strength}"] = {
                "maps": len(maps),
                "invalid_before": int(broken.sum()),
                "invalid_after": int((~is_valid(found.maps, criteria, spacing)).sum()),
                "dice_before": before[broken].mean(0).tolist(),
                "dice_after": after[broken].mean(0).tolist(),
                "dice_change": (after - before)[broken].mean(0).tolist(),
                "hausdorff_before_mm": np.nanmean(hausdorff(given, maps, [1, 2], spacing)[broken], 0).tolist(),
                "hausdorff_after_mm": np.nanmean(hausdorff(found.maps, maps, [1, 2], spacing)[broken], 0).tolist(),
                "moved": int((found.alpha[broken] > 0).sum()),
                "seconds": seconds,
            }
            print(kind, strength, json.dumps(rows[f"{kind} {strength}"]), flush=True)
            if strength == 2 and broken.any():
                loss = (after - before).mean(1)
                middle = np.flatnonzero(broken)[np.argsort(loss[broken])[broken.sum() // 2]]  # the median case, not the best
                pictures.append((maps[middle], given[middle], found.maps[middle]))
    return rows, pictures


def summary(rows: dict[str, Any], maps: np.ndarray, given_to: Callable[..., Any], rebuilt: np.ndarray) -> dict[str, Any]:
    """All corruptions together, and what valid maps lose: nothing by correction, this much by the autoencoder alone."""
    found = given_to(maps)
    total = {key: sum(row[key] for row in rows.values()) for key in ("maps", "invalid_before", "invalid_after", "moved")}
    weights = [row["invalid_before"] for row in rows.values()]
    means = {
        key: np.average([row[key] for row in rows.values() if row["invalid_before"]], axis=0, weights=[w for w in weights if w]).tolist()
        for key in ("dice_before", "dice_after", "dice_change", "hausdorff_before_mm", "hausdorff_after_mm")
    }
    kept = {
        "maps": len(maps),
        "dice": dice(found.maps, maps, [1, 2]).mean(0).tolist(),
        "changed": int((found.maps != maps).any((1, 2)).sum()),
    }
    return total | means | {"valid_maps": kept, "dice_of_autoencoder_on_valid_maps": dice(rebuilt, maps, [1, 2]).mean(0).tolist()}


def correction(data: Path, out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Corrupted maps of held-out hearts."""
    os.environ["MEDGEN_DATA"] = str(data)
    run = open_run(out / "hearts")
    store, decoder = open_store(run, out / "hearts" / "densified")
    maps = run.dataset.stored(run.dataset.splits["test"])[:, 0].astype(np.uint8)
    maps = maps[is_valid(maps, store.criteria, (SPACING, SPACING))]
    maps = maps[np.linspace(0, len(maps) - 1, min(options.maps, len(maps))).astype(int)]

    def given_to(given: np.ndarray) -> Any:
        return correct(decoder, store, given, spacing=(SPACING, SPACING), refine=options.refine, threads=1)

    rows, pictures = table(maps, given_to, store.criteria, (SPACING, SPACING))
    rebuilt = np.concatenate([decoder.maps(decoder.encode(part)) for part in np.array_split(maps, max(1, len(maps) // decoder.batch + 1))])
    _draw(out / "correction.png", pictures, store.criteria)
    return {"all": summary(rows, maps, given_to, rebuilt), "rows": rows}


def sunnybrook(data: Path, out: Path, options: argparse.Namespace) -> dict[str, Any]:
    """The masks of 5 patients as they are, and corrupted, through the model of the other hearts."""
    with np.load(data / "sunnybrook_lv" / "sunnybrook_lv.npz") as arrays:
        masks, whole, patients = arrays["masks"], arrays["has_epi"], arrays["patient"]
    masks, patients = masks[whole], patients[whole]
    run: Run = open_run(out / "hearts")
    store, decoder = open_store(run, out / "hearts" / "densified")
    mm = (SUNNYBROOK_MM, SUNNYBROOK_MM)

    def given_to(given: np.ndarray) -> Any:
        return correct(decoder, store, given, spacing=mm, centre=True, refine=options.refine, threads=1)

    found = given_to(masks)
    broken = ~found.valid_before
    own = {
        "masks": len(masks),
        "patients": len(set(patients.tolist())),
        "invalid_before": int(broken.sum()),
        "invalid_after": int((~found.valid).sum()),
        "dice_to_the_mask": dice(found.maps, masks, [1, 2])[broken].mean(0).tolist() if broken.any() else None,
    }
    valid = masks[found.valid_before]
    rows, pictures = table(valid, given_to, store.criteria, mm) if len(valid) else ({}, [])
    _draw(out / "sunnybrook.png", pictures, store.criteria)
    total = {key: sum(row[key] for row in rows.values()) for key in ("maps", "invalid_before", "invalid_after")}
    return {"as_they_are": own, "all": total, "rows": rows, "mm_per_pixel": SUNNYBROOK_MM}


def _draw(path: Path, pictures: list[tuple[np.ndarray, ...]], criteria: Any) -> None:
    """Columns: kinds of corruption of strength 2; rows: as it was, corrupted, corrected."""
    if not pictures:
        return
    figure = new_figure(1.25 * len(pictures), 3.9)
    axes = figure.subplots(3, len(pictures), squeeze=False)
    for column, kind, maps in zip(axes.T, KINDS, pictures, strict=False):
        found = np.argwhere(np.any([m > 0 for m in maps], axis=0))
        half, (y, x) = int(np.ptp(found, axis=0).max() / 2) + 3, (found.max(0) + found.min(0)) // 2
        for ax, one in zip(column, maps, strict=True):
            ax.imshow(coloured(one, criteria)[max(0, y - half) : y + half + 1, max(0, x - half) : x + half + 1], interpolation="nearest")
            ax.set(xticks=[], yticks=[])
        column[0].set_title(kind, fontsize=9)
    for ax, name in zip(axes[:, 0], ("held-out truth", "corrupted", "corrected"), strict=True):
        ax.set_ylabel(name, fontsize=8)
    figure.savefig(path)


def main() -> None:
    """Run the chosen parts."""
    parts = ("density", "hearts", "correction", "sunnybrook")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder of the data")
    parser.add_argument("--out", type=Path, required=True, help="folder of runs and results")
    parser.add_argument("--only", nargs="+", choices=parts, default=parts, help="parts (default all)")
    parser.add_argument("--hearts", type=int, default=1400, help="of the meshes, for the model (default 1400)")
    parser.add_argument("--latent", type=int, default=16, help="latent values (default 16)")
    parser.add_argument("--steps", type=int, default=2000, help="of training (default 2000)")
    parser.add_argument("--points", type=int, default=200_000, help="of the density, for the valid shapes (default 200000)")
    parser.add_argument("--maps", type=int, default=200, help="held-out maps that are corrupted (default 200)")
    parser.add_argument("--refine", type=int, default=0, help="steps of gradient descent on the latents (default 0)")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for part in options.only:
        call = {"density": density, "hearts": hearts, "correction": correction, "sunnybrook": sunnybrook}[part]
        found = call(options.data, options.out, options)
        write_json(options.out / f"{part}{f'_refine{options.refine}' if options.refine and part in _REFINED else ''}.json", found)
        print(part, json.dumps({k: v for k, v in found.items() if k != "rows"}, indent=1), flush=True)


if __name__ == "__main__":
    main()
