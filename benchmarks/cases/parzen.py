"""Log-density of a Gaussian KDE: N points, M queries, D dimensions, Scott's bandwidth, float32.

The baseline is the best plain PyTorch form: one matrix product per chunk, in place, clamped before exp. SciPy and scikit-learn run on a
fortieth of the queries, and their times are multiplied; scikit-learn's tree is wrong by nats in high dimension, so that it is no judge:
the notes give each one's largest error against float64 on 200 queries.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.harness import Result, compare
from medgen.ops import parzen_log_density

BASELINE = "torch, in place"
SIZES = ((2000, 100_000, 2), (10_000, 20_000, 16), (50_000, 5000, 32), (100_000, 2000, 64))
SHARE = 40  # of the queries, for the slow ones


def constant(points: Tensor, h: float) -> float:
    """What the scores' log-sum lacks."""
    return -math.log(len(points)) - points.shape[1] * math.log(h * math.sqrt(2 * math.pi))


def in_place(queries: Tensor, points: Tensor, h: float) -> Tensor:
    """One product per chunk of about 4 MB, everything else in place."""
    centre = points.mean(0)
    q, x = (queries - centre) / h, (points - centre) / h
    start, out = -x.square().sum(1) / 2, torch.empty(len(q))
    step = max(1, (1 << 20) // len(x))
    buffer = torch.empty(step, len(x))
    for i in range(0, len(q), step):
        y = q[i : i + step]
        scores = torch.addmm(start, y, x.mT, out=buffer[: len(y)])
        top = scores.amax(1, keepdim=True)
        scores.sub_(top).clamp_(min=-80.0).exp_()
        out[i : i + step] = scores.sum(1).log_() + top[:, 0] - y.square().sum(1) / 2
    return out + constant(points, h)


def plain(queries: Tensor, points: Tensor, h: float) -> Tensor:
    """What most people write: product, logsumexp."""
    q, x = queries / h, points / h
    out = []
    for y in q.split(max(1, (1 << 20) // len(x))):
        scores = y @ x.mT - x.square().sum(1) / 2
        out.append(scores.logsumexp(1) - y.square().sum(1) / 2)
    return torch.cat(out) + constant(points, h)


def attention(queries: Tensor, points: Tensor, h: float) -> Tensor:
    """The log-sum-exp that flash attention returns anyway, with -|x|^2 / 2 in one more dimension."""
    q, x = queries / h, points / h
    one = torch.ones(len(q), 1)
    keys = torch.cat([x, -x.square().sum(1, keepdim=True) / 2], 1)[None, None]
    asked = torch.cat([q, one], 1)[None, None]
    _, lse = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(asked, keys, keys, scale=1.0)
    return lse.flatten() - q.square().sum(1) / 2 + constant(points, h)


def exact(queries: Tensor, points: Tensor, h: float) -> Tensor:
    """Differences in float64."""
    distances = torch.cdist(queries.double(), points.double(), compute_mode="donot_use_mm_for_euclid_dist") / h
    return (-distances.square() / 2).logsumexp(1) + constant(points, h)


def keops(queries: Tensor, points: Tensor, h: float) -> Tensor:
    """KeOps' own LogSumExp."""
    from pykeops.torch import LazyTensor

    scores = -((LazyTensor(queries[:, None] / h) - LazyTensor(points[None] / h)) ** 2).sum(-1) / 2
    return scores.logsumexp(1).flatten() + constant(points, h)


def scipy_kde(queries: Tensor, points: Tensor, h: float) -> Tensor:
    """scipy.stats.gaussian_kde with the covariance set to h^2."""
    import numpy as np
    from scipy.stats import gaussian_kde

    kde = gaussian_kde(points.double().numpy().T)
    dim = points.shape[1]
    kde.covariance, kde.cho_cov = h * h * np.eye(dim), h * np.eye(dim)
    kde.log_det = 2 * dim * math.log(h * math.sqrt(2 * math.pi))
    return torch.from_numpy(kde.logpdf(queries.double().numpy().T))


def sklearn_kde(queries: Tensor, points: Tensor, h: float) -> Tensor:
    """sklearn.neighbors.KernelDensity, its default tree."""
    from sklearn.neighbors import KernelDensity

    return torch.from_numpy(KernelDensity(bandwidth=h).fit(points.numpy()).score_samples(queries.numpy()))


FAST: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    BASELINE: in_place,
    "medgen": parzen_log_density,
    "torch, logsumexp": plain,
    "torch, attention": attention,
}
SLOW = {"scipy": ("scipy", scipy_kde), "scikit-learn": ("sklearn", sklearn_kde)}


def run(*, rounds: int, quick: bool) -> list[Result]:
    """All rivals at all sizes."""
    results = []
    part = 10 if quick else 1
    for n, m, dim in SIZES:
        results += one_size(n // part, m // part, dim, rounds=rounds, quick=quick)
    return results


def one_size(n: int, m: int, dim: int, *, rounds: int, quick: bool) -> list[Result]:
    """All rivals at one size."""
    generator = torch.Generator().manual_seed(0)
    points, queries = torch.randn(n, dim, generator=generator), torch.randn(m, dim, generator=generator)
    h = n ** (-1 / (dim + 4))
    forms, missing, slow = dict(FAST), [], {}
    if not quick:
        forms["torch.compile, logsumexp"] = torch.compile(plain)
    for name, (package, form) in {"keops": ("pykeops", keops), **SLOW}.items():
        try:
            importlib.import_module(package)
        except ImportError:
            missing.append(name)
            continue
        if name == "keops":
            forms[name] = form
        else:
            slow[name] = form
    right = exact(queries[:200], points, h)
    notes = {name: f"error {(form(queries[:200], points, h) - right).abs().max():.1e}" for name, form in {**forms, **slow}.items()}
    few = queries[: max(1, m // SHARE)]
    rivals = {name: (lambda f=form: f(queries, points, h)) for name, form in forms.items()}
    rivals |= {name: (lambda f=form: f(few, points, h)) for name, form in slow.items()}
    results = compare(f"N {n} M {m} D {dim}", rivals, baseline=BASELINE, rounds=rounds, work=n * m, unit="pairs")
    for result in results:
        result.note = notes[result.rival]
        if result.rival in slow:
            times = m / len(few)
            result.seconds = [times * s for s in result.seconds]
            result.ratio, result.spread = result.ratio / times, (result.spread[0] / times, result.spread[1] / times)
    return results + [Result(f"N {n} M {m} D {dim}", name, note="not installed") for name in missing]
