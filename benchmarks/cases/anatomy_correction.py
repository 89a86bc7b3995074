"""Densification and correction beside NumPy and SciPy: the same model, latents and criteria, in the way of the published code.

The model is `pca_masks` on drawn rings, so that nothing has to be trained and the decoder costs little. "numpy + scipy" draws by NumPy,
decodes as medgen does, and measures each map by scipy.ndimage (`medgen_anatomy.reference`); to correct, it takes the distances to all
stored latents by SciPy, and bisects map by map.
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
SIZE, COMPONENTS = 64, 12


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


def run(*, rounds: int, quick: bool) -> list[Result]:
    """Points judged per second, then maps corrected per second."""
    from medgen_anatomy.correct import correct
    from medgen_anatomy.criteria import is_valid, myocardium_criteria, violations
    from medgen_anatomy.decoding import ShapeDecoder
    from medgen_anatomy.reference import MEASURES

    criteria = myocardium_criteria()
    with tempfile.TemporaryDirectory() as folder:
        trained: Any = medgen.train("pca_masks", from_arrays(rings(400), content="labels"), Path(folder) / "run", model={"components": COMPONENTS}, show=False)
        decoder = ShapeDecoder(trained.model.to(here()), "float32")
        z = decoder.encode(rings(400))
        density = Parzen.fit(z, "leave_one_out", "full")
        points, factor, generator = z.numpy(), density.bandwidth.numpy(), np.random.default_rng(0)

        def measured(one: np.ndarray) -> bool:
            """By scipy.ndimage."""
            masks = {s: one == n for s, n in criteria.labels.items()}
            for c in criteria.items:
                union = np.any([masks[s] for s in c.of], axis=0)
                other = np.any([masks[s] for s in c.other], axis=0) if c.other else None
                if not union.any() or (other is not None and not other.any()):
                    continue
                value = MEASURES[c.measure](union, other, (1.0, 1.0))
                if value > c.limit if c.side == "above" else value < c.limit:
                    return False
            return True

        def ours(count: int) -> np.ndarray:
            flags = []
            for start in range(0, count, 256):
                drawn = density.draw(Noise.of(0, range(start, min(start + 256, count))))
                flags.append(violations(decoder.maps(drawn), criteria).any(1))
            return np.concatenate(flags)

        def theirs(count: int) -> list[bool]:
            drawn = points[generator.integers(len(points), size=count)] + generator.standard_normal((count, COMPONENTS)) @ factor.T
            return [measured(one) for start in range(0, count, 256) for one in decoder.maps(torch.from_numpy(drawn[start : start + 256]).float())]

        count, few = (1024, 64) if quick else (8192, 256)
        rivals = {BASELINE: lambda: theirs(few), "medgen": lambda: ours(count)}
        results = compare(
            f"densify {SIZE} x {SIZE}",
            rivals,
            baseline=BASELINE,
            rounds=rounds,
            work=count,
            unit="points",
            shares={BASELINE: few / count},
            notes={BASELINE: f"{few} points, scaled"},
        )

        stored = 20_000 if quick else 200_000
        latents = density.draw(Noise.of(1, range(stored)))
        good = np.concatenate([is_valid(decoder.maps(part), criteria) for part in latents.split(256)])
        store = _store(Path(folder) / "store", latents.numpy(), ~good, criteria)
        valid = latents.numpy()[good]
        wrong = rings(64, seed=9)
        wrong[:, 31:34, 31:34] = 0

        def one_by_one(maps: np.ndarray) -> list[np.ndarray]:
            out = []
            for one, own in zip(maps, decoder.encode(maps).numpy(), strict=True):
                goal = valid[cdist(own[None], valid).argmin()]
                low, high, best = 0.0, 1.0, decoder.maps(torch.from_numpy(goal[None]))[0]
                for _ in range(10):
                    middle = (low + high) / 2
                    tried = decoder.maps(torch.from_numpy((own + middle * (goal - own))[None]).float())[0]
                    if measured(tried):
                        high, best = middle, tried
                    else:
                        low = middle
                out.append(best)
            return out

        some = 8
        rivals = {BASELINE: lambda: one_by_one(wrong[:some]), "medgen": lambda: correct(decoder, store, wrong)}
        results += compare(
            f"correct, {stored} stored",
            rivals,
            baseline=BASELINE,
            rounds=rounds,
            work=len(wrong),
            unit="maps",
            shares={BASELINE: some / len(wrong)},
            notes={BASELINE: f"{some} maps, scaled"},
        )
    return results


def _store(folder: Path, points: np.ndarray, flags: np.ndarray, criteria: Any) -> Any:
    from medgen_anatomy.choice import criteria_to_json
    from medgen_anatomy.shape_store import ShapeStore

    (folder / "points").mkdir(parents=True)
    np.save(folder / "points" / "points.npy", points.astype(np.float32))
    np.save(folder / "flags.npy", flags.astype(np.uint32))
    asked = {"points": len(points), "dim": points.shape[1], "criteria": criteria_to_json(criteria), "spacing": [1.0, 1.0]}
    write_json(folder / "densify.json", {"asked": asked, "done": len(points), "seconds": {}, "summary": {}})
    return ShapeStore(folder)
