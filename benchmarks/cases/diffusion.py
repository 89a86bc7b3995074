"""Whole sampling paths beside diffusers and MONAI: the same network, weights, steps and threads, from noise to samples.

`diffusers` is its DDPMPipeline (output "pt", no progress bar), `MONAI` its DiffusionInferer.sample with its DDPMScheduler; both call the
network as `network(x, t)`. `network alone` makes the same calls of the network and nothing else. How much of a rival's time lies outside
the network is seen within its own calls on a CPU; on a GPU, where calls return early, it is what lies above `network alone`.
Strided chains end elsewhere in each library; the last case says where, on data whose answer is known.
"""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Collection, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import medgen
from benchmarks.harness import Result, compare, here, missing
from medgen.interfaces import Noise
from medgen.maths import alpha_bars, kept_steps, linear_betas, log_snr_steps
from medgen.nn import UNet
from medgen.ops import ddpm_sample_mlp, step_table
from medgen.sampling import ancestral, ddim, dpm_solver

BASELINE = "diffusers" if importlib.util.find_spec("diffusers") else "network alone"
LINEAR = alpha_bars(linear_betas())
PREDICTIONS = {"eps": "epsilon", "x0": "sample", "v": "v_prediction"}
Run = Callable[[], Any]


def run(*, rounds: int, quick: bool) -> list[Result]:
    """All cases."""
    with torch.no_grad():
        return [
            *latents(rounds, 20 if quick else 1000),
            *small_unet(rounds, 5 if quick else 50),
            *as_it_comes(min(rounds, 6), 4 if quick else 20, compiled=not quick),
            *strided(1000 if quick else 100_000),
        ]


# ----------------------------------------------------------------------------------------------------------- the rivals


class Wrapped(nn.Module):
    """A network as the libraries call it: diffusers with t of no axes, and a result with `sample`; MONAI with `timesteps` in float."""

    def __init__(self, net: Callable[..., Tensor], shape: tuple[int, ...], *, bare: bool) -> None:
        super().__init__()
        self.net, self.bare, self.dtype, self.device = net, bare, torch.float32, here()
        self.config = SimpleNamespace(in_channels=shape[0], sample_size=shape[1:])

    def forward(self, x: Tensor, t: Tensor | None = None, *, timesteps: Tensor | None = None, context: None = None) -> Any:
        output = self.net(x, (timesteps if t is None else t).to(x.device, torch.int64).expand(len(x)))  # type: ignore[union-attr]
        return output if self.bare else SimpleNamespace(sample=output)


def by_diffusers(
    net: Callable[..., Tensor], size: tuple[int, ...], steps: int, prediction: str, schedule: str, clip: bool, *, sampler: str = "DDPM"
) -> Run:
    import diffusers

    betas = {"linear": "linear", "cosine": "squaredcos_cap_v2"}[schedule]
    of_sampler = getattr(diffusers, f"{sampler}Scheduler")
    scheduler = of_sampler(1000, beta_schedule=betas, prediction_type=PREDICTIONS[prediction], clip_sample=clip)
    pipeline = getattr(diffusers, f"{sampler}Pipeline")(Wrapped(net, size[1:], bare=False), scheduler)
    pipeline.set_progress_bar_config(disable=True)
    return lambda: pipeline(batch_size=size[0], num_inference_steps=steps, output_type="pt")


def by_monai(net: Callable[..., Tensor], size: tuple[int, ...], steps: int, prediction: str, schedule: str, clip: bool) -> Run:
    from monai.inferers import DiffusionInferer

    scheduler = monai_scheduler("DDPM", prediction, schedule, clip)
    scheduler.set_timesteps(steps)
    inferer, wrapped = DiffusionInferer(scheduler), Wrapped(net, size[1:], bare=True)
    return lambda: inferer.sample(torch.randn(size, device=here()), wrapped, scheduler, verbose=False)


def monai_scheduler(name: str, prediction: str, schedule: str, clip: bool) -> Any:
    from monai.networks import schedulers

    betas = {"schedule": "linear_beta", "beta_start": 1e-4, "beta_end": 2e-2} if schedule == "linear" else {"schedule": "cosine"}
    return getattr(schedulers, f"{name}Scheduler")(1000, prediction_type=PREDICTIONS[prediction], clip_sample=clip, **betas)


def add_rivals(rivals: dict[str, Run], net: Callable[..., Tensor], size: tuple[int, ...], steps: int, *how: Any) -> dict[str, str]:
    """The libraries that are installed; the others with the reason."""
    absent = {}
    for name, build in (("diffusers", by_diffusers), ("MONAI", by_monai)):
        try:
            rivals[name] = build(net, size, steps, *how)
        except ImportError as error:
            absent[name] = f"not installed ({error})"
    return absent


class Timed(nn.Module):
    """A network that adds up the seconds within it."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.seconds = net, 0.0

    def forward(self, *inputs: Any) -> Any:
        begin = time.perf_counter()
        output = self.net(*inputs)
        self.seconds += time.perf_counter() - begin
        return output


def outside(run: Run, net: Timed, calls: int) -> float:
    """Median share of the time of some calls that lies outside the network."""
    shares = []
    for _ in range(calls):
        net.seconds, begin = 0.0, time.perf_counter()
        run()
        shares.append(1 - net.seconds / (time.perf_counter() - begin))
    return float(np.median(shares))


def noted(
    results: list[Result], rivals: Mapping[str, Run], net: Timed, notes: Mapping[str, str], *, otherwise: Collection[str] = ()
) -> list[Result]:
    """Add how each line of ours compares with MONAI in the same rounds, and the share of time that lies outside the network.

    Args:
        results, notes: of `compare`, and what is known already.
        rivals, net: what ran, over which network.
        otherwise: rivals that run another network.
    """
    seconds = {result.rival: np.array(result.seconds) for result in results}
    for result in results:
        mine, known = seconds[result.rival], [notes[result.rival]] if result.rival in notes else []
        if result.rival.startswith("medgen") and "MONAI" in seconds:
            known.append(f"{_median_ratio(seconds['MONAI'], mine):.2f} x MONAI")
        if result.rival != "network alone" and result.rival not in otherwise:
            above = 1 - _median_ratio(seconds["network alone"], mine)
            share = outside(rivals[result.rival], net, 3 if result.median < 1 else 1) if here().type == "cpu" else above
            known.append(f"{100 * share:.1f} % outside the network")
        result.note = ", ".join(known)
    return results


def _median_ratio(above: Any, below: Any) -> float:
    """Of the rounds that both ran in."""
    rounds = min(len(above), len(below))
    return float(np.median(above[:rounds] / below[:rounds]))


# ------------------------------------------------------------------------------------------------------------ the cases


class Mlp(nn.Module):
    """32-128-128-32 with an embedding of the time added to the first layer; all samples of a call have the same time."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in ((32, 128), (128, 128), (128, 32)))
        self.embedding = nn.Embedding(1000, 128)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        first, second, last = self.layers
        hidden = F.silu(F.linear(x, first.weight, first.bias + self.embedding.weight[t[0]]))
        return last(F.silu(second(hidden)))


def latents(rounds: int, steps: int) -> list[Result]:
    """The ancestral chain over a perceptron on [4096, 32]; it predicts x_0, which keeps the values in range whatever the weights."""
    torch.manual_seed(0)
    size, mlp = (4096, 32), Mlp().eval().requires_grad_(False).to(here())
    net = Timed(mlp)
    noise, kept, bar = Noise.of(0, range(size[0]), here()), kept_steps(1000, steps), LINEAR
    table = step_table(bar, kept, prediction="x0", device=here())
    weights, biases = [layer.weight for layer in mlp.layers], [layer.bias for layer in mlp.layers]
    embedding = mlp.embedding.weight[kept.to(here())]

    def fused(precision: Any) -> Run:
        return lambda: ddpm_sample_mlp(weights, biases, embedding, size[1:], table, seed=0, index=noise.index, precision=precision)

    rivals: dict[str, Run] = {
        "network alone": calls_of(net, size, steps),
        "medgen ancestral": lambda: ancestral(net, size[1:], bar, noise=noise, kept=kept, prediction="x0"),
        "medgen fused float32": fused("float32"),
        "medgen fused bfloat16": fused("bfloat16"),
    }
    if here().type == "cuda":
        rivals["medgen captured"] = lambda: ancestral(net, size[1:], bar, noise=noise, kept=kept, prediction="x0", graph=True)
    name = f"latents [4096,32], {steps} steps"
    absent = add_rivals(rivals, net, size, steps, "x0", "linear", False)
    results = compare(name, rivals, baseline=BASELINE, rounds=rounds, work=size[0], unit="samples")
    exact = rivals["medgen ancestral"]()
    errors = {f"medgen fused {p}": f"differs from ancestral by {(fused(p)() - exact).abs().mean():.0e}" for p in ("float32", "bfloat16")}
    return noted(results, rivals, net, errors, otherwise=errors) + missing(name, absent)


def small_unet(rounds: int, steps: int) -> list[Result]:
    """A U-Net of 16 and 32 channels on [16, 1, 32, 32], in float32, as it is: what the loop costs."""
    size, net = (16, 1, 32, 32), Timed(stirred(UNet(1, 1, (32, 32), (16, 32), blocks=1)))
    noise, kept, bar = Noise.of(0, range(size[0]), here()), kept_steps(1000, steps), LINEAR

    def ours(network: Callable[..., Tensor] = net, *, graph: bool = False) -> Run:
        return lambda: ancestral(network, size[1:], bar, noise=noise, kept=kept, clip=1.0, graph=graph)

    rivals: dict[str, Run] = {"network alone": calls_of(net, size, steps), "medgen ancestral": ours()}
    name = f"U-Net [16,1,32,32], {steps} steps"
    absent = add_rivals(rivals, net, size, steps, "eps", "linear", True)
    if here().type == "cuda":
        compiled = torch.compile(net.net)
        rivals |= {"medgen captured": ours(graph=True), "medgen, torch.compile": ours(compiled)}
        if "diffusers" not in absent:
            rivals["diffusers, torch.compile"] = by_diffusers(compiled, size, steps, "eps", "linear", True)
    results = compare(name, rivals, baseline=BASELINE, rounds=rounds, work=size[0], unit="images")
    return noted(results, rivals, net, {}, otherwise=[rival for rival in rivals if "compile" in rival]) + missing(name, absent)


def as_it_comes(rounds: int, steps: int, *, compiled: bool) -> list[Result]:
    """The family `ddpm` with its default network and arithmetic, `model.sample(16)`, beside the libraries' pipelines over that network."""
    size = (16, 1, 32, 32)

    def model(**options: Any) -> Any:
        made = medgen.create("ddpm", medgen.ImageSpec(channels=1, shape=size[2:]), sampler="ancestral", sampling_steps=steps, **options)
        stirred(made.network.net)
        return made.eval().to(here())

    auto, full = model(), model(precision="float32")
    net = full.network.net = Timed(full.network.net)
    begin = time.perf_counter()
    choice = auto.arithmetic()
    seconds = time.perf_counter() - begin
    rivals: dict[str, Run] = {
        "network alone": calls_of(net, size, steps),
        "medgen": lambda: auto.sample(16),
        "medgen float32": lambda: full.sample(16),
    }
    notes = {"medgen": f"{choice}, chosen in {seconds:.2f} s"}
    options: dict[str, dict[str, Any]] = {"medgen compiled": {"compile": True}} if compiled else {}
    options |= {"medgen captured": {"cuda_graph": True}} if here().type == "cuda" else {}
    for rival, values in options.items():
        other = model(**values)
        begin = time.perf_counter()
        other.sample(16)
        notes[rival] = f"{other.arithmetic()}, first call {time.perf_counter() - begin:.1f} s"
        rivals[rival] = lambda other=other: other.sample(16)
    name = f"ddpm as it comes, 16 images of 32x32, {steps} steps"
    absent = add_rivals(rivals, net, size, steps, "v", "cosine", True)
    if compiled and "diffusers" not in absent:
        rivals["diffusers, torch.compile"] = by_diffusers(torch.compile(net.net), size, steps, "v", "cosine", True)
    results = compare(name, rivals, baseline=BASELINE, rounds=rounds, work=size[0], unit="images")
    changed = [rival for rival in rivals if rival not in ("medgen float32", "diffusers", "MONAI")]
    return noted(results, rivals, net, notes, otherwise=changed) + missing(name, absent)


def stirred(net: Any) -> Any:
    """With no layer at zero, as a new network's last ones are."""
    torch.manual_seed(0)
    for parameter in net.parameters():
        if not bool(parameter.any()):
            nn.init.normal_(parameter, std=0.02)
    return net.eval().requires_grad_(False).to(here())


def calls_of(net: Callable[..., Tensor], size: tuple[int, ...], steps: int) -> Run:
    x, times = torch.randn(size, device=here()), torch.arange(steps, device=here())[:, None].expand(-1, size[0]).unbind(0)

    def alone() -> None:
        for t in times:
            net(x, t)

    return alone


# -------------------------------------------------------------------------------------------------------------- quality


def strided(n: int) -> list[Result]:
    """Where strided chains end with the exact denoiser of N(0.3, 0.5^2): mean and standard deviation of n samples."""
    bar, noise = LINEAR.to(here()), Noise.of(0, range(n), here())

    def eps(x: Tensor, t: Tensor) -> Tensor:
        at = bar[t].to(x.dtype).view(-1, 1)
        return (1 - at).sqrt() * (x - at.sqrt() * 0.3) / (at * 0.25 + 1 - at)

    def ours(sampler: Callable[..., Tensor], kept: Tensor, **options: Any) -> Tensor:
        return sampler(eps, (1,), LINEAR, noise=noise, kept=kept, **options)

    found: dict[str, Run] = {}
    for steps in (50, 250):
        kept = kept_steps(1000, steps, "trailing")
        found[f"medgen ancestral, beta, {steps}"] = lambda kept=kept: ours(ancestral, kept, variance="beta")
        found[f"medgen ancestral, posterior, {steps}"] = lambda kept=kept: ours(ancestral, kept)
    found["medgen ddim, 50"] = lambda: ours(ddim, kept_steps(1000, 50, "trailing"))
    found["medgen dpm_solver, 20"] = lambda: ours(dpm_solver, log_snr_steps(LINEAR, 20))
    for library, build in (("diffusers", _diffusers_chain), ("MONAI", _monai_chain)):
        for sampler, steps in (("DDPM", 50), ("DDPM", 250), ("DDIM", 50)):
            found[f"{library} {sampler}, {steps}"] = lambda b=build, a=sampler, s=steps: b(eps, a, s, n)
    name, notes = "strided chains on N(0.3, 0.5^2)", {}
    for rival, chain in found.items():
        try:
            x = chain()
            notes[rival] = f"mean {x.mean():.3f}, sd {x.std():.3f}"
        except ImportError as error:
            notes[rival] = f"not installed ({error})"
    return missing(name, notes)


def _diffusers_chain(eps: Callable[..., Tensor], sampler: str, steps: int, n: int) -> Tensor:
    import diffusers

    scheduler = getattr(diffusers, f"{sampler}Scheduler")(1000, beta_schedule="linear", clip_sample=False)
    return _stepped(scheduler, eps, steps, n)


def _monai_chain(eps: Callable[..., Tensor], sampler: str, steps: int, n: int) -> Tensor:
    return _stepped(monai_scheduler(sampler, "eps", "linear", False), eps, steps, n)


def _stepped(scheduler: Any, eps: Callable[..., Tensor], steps: int, n: int) -> Tensor:
    torch.manual_seed(0)
    scheduler.set_timesteps(steps)
    x = torch.randn(n, 1, device=here())
    for t in scheduler.timesteps:
        stepped = scheduler.step(eps(x, t.to(here()).expand(n)), t, x)
        x = stepped[0] if isinstance(stepped, tuple) else stepped.prev_sample
    return x
