"""Drawing latents from a Gaussian KDE of 2000 clustered points, full covariance, in 16 and 32 dimensions: directly and by rejection.

Cases "against rivals" time points per second of the same job. The baseline does it with batched PyTorch: randn, the in-place matrix form of
the densities, rand, compare. SciPy and scikit-learn work 200 proposals at a time, as the published sampler does with one; they make a
smaller number of points, and their times are divided by the share. Cases "5 million" are one run each into a memory-mapped store, pilot
included. Other proposals cannot finish; beside them stands what the pilot says.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import medgen
from benchmarks.cases.parzen import in_place
from benchmarks.harness import Result, compare, here, missing
from medgen.interfaces import Noise
from medgen.nn import Parzen
from medgen.sampling.rejection import Gaussian, GaussianMixture, ModelDensity, Target, forecast, kernels, reject, within

BASELINE = "torch, batched"
BATCH, FEW = 8192, 200


def latents(n: int, dim: int) -> Tensor:
    """Eight normal clusters, a little farther apart than wide."""
    made = torch.Generator().manual_seed(0)
    centres = 1.5 * torch.randn(8, dim, generator=made)
    return (centres[torch.arange(n) % 8] + torch.randn(n, dim, generator=made)).to(here())


def density(n: int, dim: int) -> tuple[Parzen, float]:
    """The KDE, its bandwidth by leave-one-out likelihood, and the factor on the data's covariance that SciPy wants."""
    points = latents(n, dim)
    p = Parzen.fit(points, "leave_one_out", "full")
    return p, float(p.bandwidth[0, 0].double() / points.double()[:, 0].std())


class Whitened:
    """The density in coordinates in which its bandwidth is 1, for rivals whose kernels are round."""

    def __init__(self, p: Parzen) -> None:
        self.factor = p.bandwidth
        self.points = torch.linalg.solve_triangular(p.bandwidth, p.points.mT, upper=False).mT.contiguous()

    def torch_step(self, widen: float, power: float, keep: Callable[[Tensor], Tensor] | None, log_k: float) -> Tensor:
        """One batch of the loop; `log_k` of densities in these coordinates."""
        w = self.points[torch.randint(0, len(self.points), (BATCH,), device=here())]
        w = w + widen * torch.randn(BATCH, w.shape[1], device=here())
        if widen != 1.0:
            test = torch.rand(BATCH, device=here()).log() + log_k + in_place(w, self.points, widen)
            w = w[test < power * in_place(w, self.points, 1.0)]
        x = w @ self.factor.mT
        return x if keep is None else x[keep(x)]

    def torch_loop(self, n: int, *args: Any) -> int:
        """At least n points."""
        found = 0
        while found < n:
            found += len(self.torch_step(*args))
        return found

    def scikit_learn(self, n: int, widen: float, log_k: float) -> int:
        """At least n points."""
        import numpy as np
        from sklearn.neighbors import KernelDensity

        points, generator, found = self.points.cpu().numpy(), np.random.default_rng(0), 0
        p, q = KernelDensity(bandwidth=1.0).fit(points), KernelDensity(bandwidth=widen).fit(points)
        while found < n:
            w = q.sample(FEW, random_state=generator.integers(2**31))
            if widen != 1.0:
                w = w[np.log(generator.uniform(size=FEW)) + log_k + q.score_samples(w) < p.score_samples(w)]
            found += len(w @ self.factor.cpu().numpy().T)
        return found


def scipy_loop(p: Parzen, factor: float, n: int, widen: float, log_k: float) -> int:
    """At least n points, by two `gaussian_kde`."""
    import numpy as np
    from scipy.stats import gaussian_kde

    points, generator, found = p.points.double().cpu().numpy().T, np.random.default_rng(0), 0
    kde, wide = gaussian_kde(points, factor), gaussian_kde(points, widen * factor)
    while found < n:
        x = wide.resample(FEW, seed=generator)
        if widen != 1.0:
            x = x[:, np.log(generator.uniform(size=FEW)) + log_k + wide.logpdf(x) < kde.logpdf(x)]
        found += x.shape[1]
    return found


def trained(points: Tensor, steps: int) -> ModelDensity:
    """A masked autoregressive flow of the points."""
    flow = medgen.create("maf", medgen.ImageSpec(channels=points.shape[1], shape=(), content="features")).to(here())
    optimizer = torch.optim.Adam(flow.parameters(), 2e-3)
    for step in range(steps):
        rows = Noise.of(0, range(256 * step, 256 * (step + 1)), here()).integers(len(points))
        loss = -flow.log_prob(points[rows]).mean()  # type: ignore[attr-defined]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return ModelDensity(flow.eval())


def targets(p: Parzen) -> dict[str, tuple[Target, Parzen]]:
    """What can be finished: the density, under a condition, to a power, each through kernels."""
    middle = p.points[:, 0].median().item()
    plain, hot = Target(p), Target(p, temperature=2.0)
    some = Target(p, keep=[within(0, middle, middle + 1.0)])
    return {
        "direct": (plain, p),
        "kernels wider by 1/D": (plain, kernels(plain, 1 + 1 / p.dim)),
        "within a range": (some, p),
        "temperature 2": (hot, kernels(hot)),
    }


def against_rivals(p: Parzen, factor: float, *, rounds: int, quick: bool) -> list[Result]:
    """Points per second, of some."""
    results, white = [], Whitened(p)
    n = 2000 if quick else 40_000
    few = 200 if quick else 400
    jobs = targets(p)
    determinant = float(p.bandwidth.diagonal().log().sum())
    for name, (target, q) in jobs.items():
        widen = float(q.bandwidth[0, 0] / p.bandwidth[0, 0])
        power, keep = 1.0 / target.temperature, target.keep[0] if target.keep else None
        log_k = reject(target, q, 1, patience=None).envelope.log_k + (power - 1.0) * determinant  # in whitened coordinates
        rivals: dict[str, Callable[[], Any]] = {
            BASELINE: lambda w=widen, a=power, k=keep, c=log_k: white.torch_loop(n, w, a, k, c),
            "medgen": lambda t=target, q=q: reject(t, q, n, patience=None),
        }
        shares = {}
        if target.normalised:
            rivals["scipy"] = lambda w=widen, c=log_k: scipy_loop(p, factor, few, w, c)
            shares["scipy"] = few / n
            try:
                import sklearn  # noqa: F401

                rivals["scikit-learn"] = lambda w=widen, c=log_k: white.scikit_learn(few, w, c)
                shares["scikit-learn"] = few / n
            except ImportError:
                pass
        notes = dict.fromkeys(shares, f"{few} points, scaled")
        settings: dict[str, Any] = {"baseline": BASELINE, "rounds": rounds, "shares": shares, "notes": notes}
        results += compare(f"{p.dim}-D, {name}, against rivals", rivals, work=n, unit="points", **settings)
    return results


def whole_runs(p: Parzen, *, quick: bool) -> list[Result]:
    """Five million points each, into a file."""
    results, n = [], 20_000 if quick else 5_000_000
    for name, (target, q) in targets(p).items():
        with tempfile.TemporaryDirectory() as folder:
            start, worked = time.perf_counter(), time.process_time()
            found = reject(target, q, n, out=Path(folder) / "store")
            seconds, worked = time.perf_counter() - start, time.process_time() - worked
        note = f"acceptance {found.acceptance:.3g}, {found.tally.violations} violations, {worked:.1f} s of processor time"
        results.append(Result(f"{p.dim}-D, {name}, {n} points", "medgen", [seconds], n, "points", note=note))
    return results


def predicted(p: Parzen, *, quick: bool) -> list[Result]:
    """What the pilot says of proposals that are no kernels."""
    n, target = 5_000_000, Target(p)
    draws = p.draw(Noise(1, torch.arange(2000 if quick else 20_000, device=here())))
    proposals: dict[str, tuple[Any, Any]] = {
        "gaussian, k = max": (Gaussian.fit(p.points), "max"),
        "gaussian, k = 75th percentile": (Gaussian.fit(p.points), "quartile"),
        "mixture of 16": (GaussianMixture.fit(draws, 16), "max"),
        "maf": (trained(draws, 20 if quick else 400), "max"),
    }
    notes = {name: str(forecast(target, q, n, envelope=mode)) for name, (q, mode) in proposals.items()}
    return missing(f"{p.dim}-D, {n} points, predicted", notes)


def run(*, rounds: int, quick: bool) -> list[Result]:
    """Both dimensions."""
    results = []
    for dim in (4,) if quick else (16, 32):
        p, factor = density(400 if quick else 2000, dim)
        results += against_rivals(p, factor, rounds=rounds, quick=quick)
        results += whole_runs(p, quick=quick) + predicted(p, quick=quick)
    return results
