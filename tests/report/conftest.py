from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import medgen
from medgen.data import Dataset, from_arrays
from medgen.runs import Run

SHAPES: dict[str, tuple[int, ...]] = {"0d": (5,), "1d": (16,), "2d": (8, 10), "3d": (8, 6, 10)}


def make_data(kind: str, *, labels: bool = True, n: int = 40) -> Dataset:
    """Seeded values of one kind: "0d" to "3d", "maps2d", "maps3d", "contrasts"."""
    rng = np.random.Generator(np.random.Philox(7))
    given = {"labels": rng.integers(0, 2, n), "class_names": ("healthy", "ill")} if labels else {}
    if kind.startswith("maps"):
        shape = (8, 10) if kind == "maps2d" else (8, 8, 8)
        return from_arrays(rng.integers(0, 3, (n, *shape)).astype(np.uint8), content="labels", **given)
    if kind == "contrasts":
        return from_arrays(rng.random((n, 2, 8, 8), np.float32), channel_names=("T1", "FLAIR"), dim=2, **given)
    return from_arrays(rng.random((n, *SHAPES[kind]), np.float32), dim=int(kind[0]), **given)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Run, Dataset]]:
    """(kind, family, **model) -> a tiny trained run and its data; each made once."""
    made: dict[str, tuple[Run, Dataset]] = {}

    def train(kind: str, family: str = "vae", **model: object) -> tuple[Run, Dataset]:
        key = f"{kind}-{family}-{sorted(model.items())}"
        if key not in made:
            data = make_data(kind)
            config = {"latent_dim": 3, "channels": [4], "blocks": 0, **model}
            out: Path = tmp_path_factory.mktemp("runs") / "run"
            run = medgen.train(family, data, out, model=config, steps=2, batch_size=8, log_every=1, show=False)
            made[key] = (run, data)
        return made[key]

    return train
