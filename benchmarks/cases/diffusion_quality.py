"""Sample quality by number of steps: medgen's samplers beside diffusers' and MONAI's, over one trained network, on the same figures.

A `ddpm` is trained on chest X-rays of 28x28 (PneumoniaMNIST, where MEDGEN_DATA says; MEDGEN_RUN names a finished run instead). The
libraries get its network as it is, in the arithmetic that medgen samples in, and their own schedulers of the same schedule,
prediction and clipping.
Every set has as many samples as there are validation images; the note has Frechet distance, KID and coverage.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import medgen
from benchmarks.cases.diffusion import Wrapped, by_diffusers, monai_scheduler
from benchmarks.harness import Result, here, missing
from medgen.evaluation import evaluate_sets
from medgen.interfaces import Condition, Noise
from medgen.nn import InferenceNet
from medgen.runs import ConditionSource

BASELINE = "diffusers DDPM, 250 steps"
METRICS = ("frechet_distance", "kid", "coverage")
OURS = (("ancestral", 50), ("ancestral", 250), ("ddim", 50), ("dpm_solver", 20))
THEIRS = (("DDPM", 50), ("DDPM", 250), ("DDIM", 50))
CELL = 128


def run(*, rounds: int, quick: bool) -> list[Result]:  # noqa: ARG001 (each sampler runs once: its figures are what counts)
    """All samplers; how fast they are is the matter of the case `diffusion`."""
    with tempfile.TemporaryDirectory() as folder:
        trained = _trained(Path(folder) / "run", quick=quick)
        real = torch.cat([part.x for part in _validation(trained)])
        n, notes = 16 if quick else len(real), {}
        for name, sample in _samplers(trained, n, quick=quick).items():
            try:
                with torch.no_grad():
                    x = sample()
            except ImportError as error:
                notes[name] = f"not installed ({error})"
                continue
            scores = evaluate_sets(real[:n], x.cpu(), value_range=(0, 1), metrics=METRICS, bootstrap=0)
            notes[name] = ", ".join(f"{score.name} {score.figure}" for score in scores)
    return missing(f"quality of {n} chest X-rays", notes)


def _trained(folder: Path, *, quick: bool) -> Any:
    if "MEDGEN_RUN" in os.environ:
        return medgen.open_run(os.environ["MEDGEN_RUN"])
    root = Path(os.environ.get("MEDGEN_DATA", Path(__file__).parents[3] / "shared" / "data"))
    data = "cardiac_phantom?n=200&size=16" if quick else str(root / "pneumoniamnist" / "pneumoniamnist_trainval.npz")
    how: dict[str, Any] = {"steps": 2} if quick else {"epochs": 40, "ema": 0.998, "precision": "bfloat16"}
    return medgen.train("ddpm", data, folder, model={"condition_dropout": 0, **({"width": 8} if quick else {})}, **how)


def _validation(trained: Any) -> list[Any]:
    return [trained.dataset.fetch(torch.as_tensor(trained.dataset.splits["val"]))]


def _samplers(trained: Any, n: int, *, quick: bool) -> dict[str, Callable[[], Tensor]]:
    """Each gets the same conditions, those of training images."""
    model = trained.model.to(here())
    net = InferenceNet().of(model.network.net, model.network.probe)
    size = tuple(model.image_spec.size)
    asked = ConditionSource(trained)(Noise.of(0, range(n), here())) if model.conditions else Condition()

    def ours(sampler: str, steps: int) -> Callable[[], Tensor]:
        opened = medgen.open_run(trained.path, sampler=sampler, sampling_steps=2 if quick else steps).model.to(here())
        return lambda: opened.sample(n, condition=asked, noise=0, micro_batch=CELL)

    def theirs(chain: Callable[..., Tensor], sampler: str, steps: int) -> Callable[[], Tensor]:
        def sample() -> Tensor:
            torch.manual_seed(0)
            parts = []
            for start in range(0, n, CELL):
                rows = slice(start, min(start + CELL, n))
                like = torch.empty(rows.stop - rows.start, *size, device=here())
                parts.append(chain(model.network.given(asked[rows], like, net), like.shape, sampler, 2 if quick else steps))
            return torch.cat(parts)

        return sample

    found = {f"medgen {sampler}, {steps} steps": ours(sampler, steps) for sampler, steps in OURS}
    for sampler, steps in THEIRS:
        found[f"diffusers {sampler}, {steps} steps"] = theirs(_diffusers, sampler, steps)
        found[f"MONAI {sampler}, {steps} steps"] = theirs(_monai, sampler, steps)
    return found


def _diffusers(denoise: Any, size: tuple[int, ...], sampler: str, steps: int) -> Tensor:
    return by_diffusers(denoise, size, steps, "v", "cosine", True, sampler=sampler)().images


def _monai(denoise: Any, size: tuple[int, ...], sampler: str, steps: int) -> Tensor:
    from monai.inferers import DiffusionInferer

    scheduler = monai_scheduler(sampler, "v", "cosine", True)
    scheduler.set_timesteps(steps)
    noise, network = torch.randn(size, device=here()), Wrapped(denoise, size[1:], bare=True)
    return DiffusionInferer(scheduler).sample(noise, network, scheduler, verbose=False) / 2 + 0.5
