"""Densification and correction beside NumPy and SciPy: the same model, latents and criteria, in the way of the published code.

The model is `pca_masks` on drawn rings, so that nothing has to be trained and the decoder costs little. "numpy + scipy" draws by NumPy,
decodes as medgen does, and measures each map by scipy.ndimage (`medgen_anatomy.reference`) until it violates something; to correct, it
takes the distances to all stored latents by SciPy, and bisects map by map.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.distance import cdist

import medgen
from benchmarks.harness import Result, compare, here
from medgen.data import from_arrays
from medgen.files import write_json
from medgen.interfaces import Noise
from medgen.nn import Parzen

BASELINE = "numpy + scipy"
SIZE, COMPONENTS, BATCH = 64, 12, 256


def rings(count: int, seed: int = 0) -> np.ndarray:
    """Maps [count, 64, 64] of a wall (1) around a cavity (2)."""
    rng, (row, column) = np.random.default_rng(seed), np.mgrid[:SIZE, :SIZE]
    out = np.zeros((count, SIZE, SIZE), np.uint8)
    for one in out:
        y, x = SIZE / 2 - 0.5 + rng.normal(0, 1, 2)
        stretch, radius, wall = rng.uniform(0.85, 1.15), rng.uniform(8, 16), rng.uniform(5, 8)
        distance = np.hypot((row - y) * stretch, (column - x) / stretch)
        one[distance < radius + wall], one[distance < radius] = 1, 2
    return out


class Setting:
    """A model of rings, the density of its latents, and criteria."""

    def __init__(self, folder: Path) -> None:
        from medgen_anatomy.criteria import myocardium_criteria
        from medgen_anatomy.decoding import ShapeDecoder

        data = from_arrays(rings(400), content="labels")
        trained: Any = medgen.train("pca_masks", data, folder / "run", model={"components": COMPONENTS}, show=False)
        self.criteria, self.decoder = myocardium_criteria(), ShapeDecoder(trained.model.to(here()), "float32", BATCH)
        self.density = Parzen.fit(self.decoder.encode(rings(400)), "leave_one_out", "full")
        self.generator = np.random.default_rng(0)

    def measured(self, one: np.ndarray) -> bool:
        """Whether a map is valid, by scipy.ndimage."""
        from medgen_anatomy.reference import MEASURES

        masks = {structure: one == number for structure, number in self.criteria.labels.items()}
        for c in self.criteria.items:
            union = np.any([masks[s] for s in c.of], axis=0)
            other = np.any([masks[s] for s in c.other], axis=0) if c.other else None
            if not union.any() or (other is not None and not other.any()):
                continue
            value = MEASURES[c.measure](union, other, (1.0, 1.0))
            if value > c.limit if c.side == "above" else value < c.limit:
                return False
        return True

    def densified(self, count: int) -> np.ndarray:
        """Whether draws decode to valid maps."""
        from medgen_anatomy.criteria import is_valid

        parts = (self.density.draw(Noise.of(0, range(at, min(at + BATCH, count)))) for at in range(0, count, BATCH))
        return np.concatenate([is_valid(self.decoder.maps(z), self.criteria) for z in parts])

    def densified_by_scipy(self, count: int) -> list[bool]:
        """The same with other draws."""
        points, factor = self.density.points.numpy(), self.density.bandwidth.numpy()
        centres = points[self.generator.integers(len(points), size=count)]
        z = torch.from_numpy(centres + self.generator.standard_normal((count, COMPONENTS)) @ factor.T).float()
        return [self.measured(one) for part in z.split(BATCH) for one in self.decoder.maps(part)]

    def corrected_by_scipy(self, maps: np.ndarray, valid: np.ndarray) -> list[np.ndarray]:
        """One by one."""
        out = []
        for own in self.decoder.encode(maps).numpy():
            goal, low, high = valid[cdist(own[None], valid).argmin()], 0.0, 1.0
            best = self.decoder.maps(torch.from_numpy(goal[None]))[0]
            for _ in range(10):
                middle = (low + high) / 2
                tried = self.decoder.maps(torch.from_numpy((own + middle * (goal - own))[None]).float())[0]
                if self.measured(tried):
                    high, best = middle, tried
                else:
                    low = middle
            out.append(best)
        return out


def run(*, rounds: int, quick: bool) -> list[Result]:
    """Points judged per second, then maps corrected per second."""
    from medgen_anatomy.correct import correct
    from medgen_anatomy.criteria import is_valid

    with tempfile.TemporaryDirectory() as folder:
        setting = Setting(Path(folder))
        count, few = (1024, 64) if quick else (8192, 256)
        results = compare(
            f"densify {SIZE} x {SIZE}",
            {BASELINE: lambda: setting.densified_by_scipy(few), "medgen": lambda: setting.densified(count)},
            baseline=BASELINE,
            rounds=rounds,
            work=count,
            unit="points",
            shares={BASELINE: few / count},
            notes={BASELINE: f"{few} points, scaled"},
        )
        stored, some, wrong = (20_000 if quick else 200_000), 8, rings(64, seed=9)
        wrong[:, 31:34, 31:34] = 0
        latents = setting.density.draw(Noise.of(1, range(stored)))
        good = np.concatenate([is_valid(setting.decoder.maps(part), setting.criteria) for part in latents.split(BATCH)])
        store, valid = _store(Path(folder) / "store", latents.numpy(), ~good, setting.criteria), latents.numpy()[good]
        return results + compare(
            f"correct, {stored} stored",
            {
                BASELINE: lambda: setting.corrected_by_scipy(wrong[:some], valid),
                "medgen": lambda: correct(setting.decoder, store, wrong),
            },
            baseline=BASELINE,
            rounds=rounds,
            work=len(wrong),
            unit="maps",
            shares={BASELINE: some / len(wrong)},
            notes={BASELINE: f"{some} maps, scaled"},
        )


def _store(folder: Path, points: np.ndarray, flags: np.ndarray, criteria: Any) -> Any:
    from medgen_anatomy.choice import criteria_to_json
    from medgen_anatomy.shape_store import ShapeStore

    (folder / "points").mkdir(parents=True)
    np.save(folder / "points" / "points.npy", points.astype(np.float32))
    np.save(folder / "flags.npy", flags.astype(np.uint32))
    asked = {"points": len(points), "dim": points.shape[1], "criteria": criteria_to_json(criteria), "spacing": [1.0, 1.0]}
    write_json(folder / "densify.json", {"asked": asked, "done": len(points), "seconds": {}, "summary": {}})
    return ShapeStore(folder)
