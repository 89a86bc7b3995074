"""Normals, one reverse step, and whole reverse chains: ours against eager PyTorch, diffusers, MONAI and NumPy.

Every rival of a group does the same work on the same inputs; "eager" is what one would write by hand, six operations a step. Accuracy
stands in the notes: the largest error of one step against float64 with the same noise, and for chains what the law of the samples is.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.harness import Calls, Floor, Result, compare, here, missing, sweep
from medgen.maths.schedules import alpha_bars, linear_betas
from medgen.ops import StepTable, ddpm_sample, ddpm_sample_mlp, ddpm_step, philox_normal, step_table
from medgen.ops.reference import ddpm_step as reference

BASELINE = "eager"
SIZES = {"latent [4096,32]": (4096, 32), "images [64,1,64,64]": (64, 1, 64, 64), "volumes [8,1,64,64,64]": (8, 1, 64, 64, 64)}
BAR = alpha_bars(linear_betas())
Rivals = dict[str, Callable[[], Any]]


def run(*, rounds: int, quick: bool) -> list[Result]:
    """All groups."""
    results: list[Result] = []
    with torch.no_grad():
        for name, shape in SIZES.items():
            results += normals(name, shape, rounds)
            results += steps(name, shape, rounds)
        results += latent_chain(rounds, 50 if quick else 1000)
        results += image_chain(rounds, 5 if quick else 50)
        results += curves(min(rounds, 5), quick)
    return results


def normals(name: str, shape: tuple[int, ...], rounds: int) -> list[Result]:
    """Standard normals per second."""
    index, buffer, generator = (
        torch.arange(shape[0], device=here()),
        torch.empty(shape, device=here()),
        np.random.Generator(np.random.Philox(0)),
    )
    rivals: Rivals = {
        BASELINE: lambda: torch.randn(shape, device=here()),
        "torch normal_": buffer.normal_,
        "numpy ziggurat": lambda: generator.standard_normal(shape, dtype=np.float32),
        "medgen philox_normal": lambda: philox_normal(0, index, shape[1:]),
    }
    return compare(f"normals, {name}", rivals, baseline=BASELINE, rounds=rounds, work=float(np.prod(shape)), unit="normals")


def steps(name: str, shape: tuple[int, ...], rounds: int) -> list[Result]:
    """One ancestral and one DDIM step, from t = 500. Floor: the same normals alone; without noise, 12 bytes an element (a copy is 8)."""
    x, eps, index = torch.randn(shape, device=here()), torch.randn(shape, device=here()), torch.arange(shape[0], device=here())
    copied, results = torch.empty_like(x), []
    for sampler, variance in (("DDPM", "posterior"), ("DDIM", 0.0)):
        table = step_table(BAR, variance=variance, device=here())
        target = torch.empty_like(x)
        note = f"error {_error(x, eps, index, table):.1e} against float64"
        notes = {"medgen": note, "medgen, out=": note}
        rivals: Rivals = {
            BASELINE: _eager(x, eps, table, noisy=sampler == "DDPM"),
            "medgen": lambda table=table: ddpm_step(x, eps, table, 500, seed=0, index=index),
            "medgen, out=": lambda table=table, target=target: ddpm_step(x, eps, table, 500, seed=0, index=index, out=target),
            "floor: copy": lambda: copied.copy_(x),
            "floor: normals": lambda: philox_normal(0, index, shape[1:]),
        }
        for rival, module, scheduler in (("diffusers", "diffusers", _diffusers), ("MONAI", "monai.networks.schedulers", _monai)):
            try:
                step = scheduler(importlib.import_module(module), sampler)
            except ImportError as error:
                notes[rival] = f"not installed ({error})"
            else:
                rivals[rival] = lambda step=step: step(eps, 500, x)
        floors = [Floor("medgen, out=", [("floor: normals", 1.0)] if sampler == "DDPM" else [("floor: copy", 1.5)])]
        settings: dict[str, Any] = {"baseline": BASELINE, "rounds": rounds, "floors": floors, "notes": notes}
        results += compare(f"{sampler} step, {name}", rivals, work=float(x.numel()), unit="elements", **settings)
    return results


def curves(rounds: int, quick: bool) -> list[Result]:
    """Normals and DDPM steps per second over sizes [B, 1024]."""

    def build_normals(size: int) -> tuple[Calls, float]:
        index = torch.arange(size // 1024, device=here())
        eager = lambda: torch.randn(len(index), 1024, device=here())  # noqa: E731
        return {BASELINE: eager, "medgen": lambda: philox_normal(0, index, (1024,))}, float(size)

    def build_steps(size: int) -> tuple[Calls, float]:
        x, index = torch.randn(size // 1024, 1024, device=here()), torch.arange(size // 1024, device=here())
        eps = torch.randn_like(x)
        table, out = step_table(BAR, device=here()), torch.empty_like(x)
        ours = lambda: ddpm_step(x, eps, table, 500, seed=0, index=index, out=out)  # noqa: E731
        return {BASELINE: _eager(x, eps, table, noisy=True), "medgen, out=": ours}, float(size)

    sizes = [2**k for k in ((12, 16) if quick else range(12, 25, 2))]
    found = sweep("normals", sizes, build_normals, baseline=BASELINE, rounds=rounds, unit="normals")
    return found + sweep("DDPM step", sizes, build_steps, baseline=BASELINE, rounds=rounds, unit="elements")


def _eager(x: Tensor, eps: Tensor, table: StepTable, *, noisy: bool) -> Callable[[], Tensor]:
    a, b, sd = (float(table.values[500, c]) for c in (0, 1, 6))

    def step() -> Tensor:
        mean = x * a + eps * b
        return mean + sd * torch.randn_like(x) if noisy else mean

    return step


def _diffusers(module: Any, sampler: str, prediction: str = "epsilon") -> Callable[..., Any]:
    options = {"beta_schedule": "linear", "clip_sample": False, "prediction_type": prediction}
    if sampler == "DDPM":
        return module.DDPMScheduler(1000, **options).step
    scheduler = module.DDIMScheduler(1000, **options)
    scheduler.set_timesteps(1000)
    return scheduler.step


def _monai(module: Any, sampler: str, prediction: str = "epsilon") -> Callable[..., Any]:
    options = {"schedule": "linear_beta", "beta_start": 1e-4, "beta_end": 2e-2, "clip_sample": False, "prediction_type": prediction}
    scheduler = getattr(module, f"{sampler}Scheduler")(1000, **options)
    scheduler.set_timesteps(1000)
    return scheduler.step


def _error(x: Tensor, eps: Tensor, index: Tensor, table: StepTable) -> float:
    got = ddpm_step(x, eps, table, 500, seed=0, index=index)
    at = torch.tensor([500], device=here())
    wide = reference.ddpm_step(x.double(), eps.double(), table.values.double(), at, index, 0, 0, None, False)
    return float((got - wide).abs().max())


def latent_chain(rounds: int, count: int) -> list[Result]:
    """The chain over an MLP 32-128-128-32 on [4096, 32]: everything, network included."""
    torch.manual_seed(0)
    widths, index = (32, 128, 128, 32), torch.arange(4096, device=here())
    weights = [torch.randn(o, i, device=here()) / i**0.5 for i, o in pairwise(widths)]
    biases = [torch.randn(o, device=here()) * 0.1 for o in widths[1:]]
    table = step_table(BAR, torch.arange(1000 - count, 1000), prediction="x0", device=here())  # predicting x0 keeps values in range
    embedding = torch.randn(1000, 128, device=here()) * 0.2
    mine = embedding[1000 - count :].contiguous()
    rows = table.values.tolist()

    def network(x: Tensor, t: int) -> Tensor:
        hidden = F.silu(F.linear(x, weights[0], biases[0] + embedding[t]))
        return F.linear(F.silu(F.linear(hidden, weights[1], biases[1])), weights[2], biases[2])

    def eager() -> Tensor:
        x = torch.randn(4096, 32, device=here())
        for k in reversed(range(count)):
            x = x * rows[k][0] + network(x, 1000 - count + k) * rows[k][1]
            if k:
                x = x + rows[k][6] * torch.randn_like(x)
        return x

    def ours() -> Tensor:
        now = iter(range(999, 999 - count, -1))
        return ddpm_sample(lambda x, _: network(x, next(now)), (32,), table, seed=0, index=index)

    def fused(precision: Any) -> Tensor:
        return ddpm_sample_mlp(weights, biases, mine, (32,), table, seed=0, index=index, precision=precision)

    rivals: Rivals = {
        BASELINE: eager,
        "medgen ddpm_sample": ours,
        "medgen ddpm_sample_mlp float32": lambda: fused("float32"),
        "medgen ddpm_sample_mlp bfloat16": lambda: fused("bfloat16"),
    }
    absent = {}
    for rival, module, scheduler in (("diffusers", "diffusers", _diffusers), ("MONAI", "monai.networks.schedulers", _monai)):
        try:
            step = scheduler(importlib.import_module(module), "DDPM", "sample")
        except ImportError as error:
            absent[rival] = f"not installed ({error})"
        else:
            rivals[rival] = lambda step=step: _library_chain(network, step, count)
    results = compare(f"latent chain, {count} steps", rivals, baseline=BASELINE, rounds=rounds, work=count, unit="steps")
    exact = ours()
    for result in results:
        if "mlp" in result.rival:
            difference = (fused(result.rival.rpartition(" ")[2]) - exact).abs()
            result.note = f"differs from ddpm_sample by {difference.mean():.1e} in the mean, {difference.max():.1e} at most"
    return results + missing(f"latent chain, {count} steps", absent)


def _library_chain(network: Callable[[Tensor, int], Tensor], step: Callable[..., Any], count: int) -> Tensor:
    x = torch.randn(4096, 32, device=here())
    for t in range(999, 999 - count, -1):
        stepped = step(network(x, t), t, x)
        x = stepped[0] if isinstance(stepped, tuple) else stepped.prev_sample
    return x


def image_chain(rounds: int, count: int) -> list[Result]:
    """The chain over a convolutional network on [16, 1, 32, 32]: how much of the time lies outside the network."""
    torch.manual_seed(0)
    layers: list[torch.nn.Module] = [torch.nn.Conv2d(1, 48, 3, padding=1)]
    for _ in range(6):
        layers += [torch.nn.GroupNorm(8, 48), torch.nn.SiLU(), torch.nn.Conv2d(48, 48, 3, padding=1)]
    network = torch.nn.Sequential(*layers, torch.nn.Conv2d(48, 1, 3, padding=1)).eval().to(here())
    table = step_table(BAR, torch.arange(1000 - count, 1000), clip=1.0, device=here())
    index, x = torch.arange(16, device=here()), torch.randn(16, 1, 32, 32, device=here())
    a, b, sd = (float(table.values[count // 2, c]) for c in (0, 1, 6))

    def eager() -> Tensor:
        y = x
        for _ in range(count):
            y = (y * a + network(y) * b).clamp_(-3, 3) + sd * torch.randn_like(y)
        return y

    def alone() -> None:
        for _ in range(count):
            network(x)

    rivals: Rivals = {
        BASELINE: eager,
        "network alone": alone,
        "medgen ddpm_sample": lambda: ddpm_sample(lambda y, _: network(y), x, table, seed=0, index=index),
    }
    results = compare(f"image chain, {count} steps", rivals, baseline=BASELINE, rounds=rounds, work=count, unit="steps")
    by_name = {result.rival: result for result in results}
    for result in results:
        shares = [1 - a / b for a, b in zip(by_name["network alone"].seconds, result.seconds, strict=True)]
        result.note = f"{100 * float(np.median(shares)):.1f} % outside the network"
    return results
