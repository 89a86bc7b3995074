"""Log-density of a Gaussian KDE: N points, M queries, D dimensions, Scott's bandwidth, float32.

The baseline is the best plain PyTorch form: one matrix product per chunk, in place, clamped before exp. SciPy and scikit-learn run on a
fortieth of the queries, and their times are multiplied; scikit-learn's tree is wrong by nats in high dimension, so that it is no judge:
the notes give each one's largest error against float64 on 200 queries.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness import Calls, Floor, Result, compare, here, missing, sweep
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
    start, out = -x.square().sum(1) / 2, torch.empty(len(q), device=here())
    step = max(1, (1 << 20) // len(x))
    buffer = torch.empty(step, len(x), device=here())
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
    one = torch.ones(len(q), 1, device=here())
    keys = torch.cat([x, -x.square().sum(1, keepdim=True) / 2], 1)[None, None]
    asked = torch.cat([q, one], 1)[None, None]
    if asked.is_cuda:  # memory-efficient attention, whose last dimension is a multiple of 8
        asked, keys = (torch.nn.functional.pad(t, (0, -t.shape[-1] % 8)) for t in (asked, keys))
        lse = torch.ops.aten._scaled_dot_product_efficient_attention(asked, keys, keys, None, True, scale=1.0)[1][..., : len(q)]
    else:
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

    kde = gaussian_kde(points.double().cpu().numpy().T)
    dim = points.shape[1]
    kde.covariance, kde.cho_cov = h * h * np.eye(dim), h * np.eye(dim)
    kde.log_det = 2 * dim * math.log(h * math.sqrt(2 * math.pi))
    return torch.from_numpy(kde.logpdf(queries.double().cpu().numpy().T))


def sklearn_kde(queries: Tensor, points: Tensor, h: float) -> Tensor:
    """sklearn.neighbors.KernelDensity, its default tree."""
    from sklearn.neighbors import KernelDensity

    return torch.from_numpy(KernelDensity(bandwidth=h).fit(points.cpu().numpy()).score_samples(queries.cpu().numpy()))


FAST: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    BASELINE: in_place,
    "medgen": parzen_log_density,
    "torch, logsumexp": plain,
    "torch, attention": attention,
}
SLOW = {"scipy": ("scipy", scipy_kde), "scikit-learn": ("sklearn", sklearn_kde)}


def run(*, rounds: int, quick: bool) -> list[Result]:
    """All rivals at all sizes, then the curves."""
    results = []
    part = 10 if quick else 1
    for n, m, dim in SIZES:
        results += one_size(n // part, m // part, dim, rounds=rounds, quick=quick)
    return results + curves(min(rounds, 5), quick)


def one_size(n: int, m: int, dim: int, *, rounds: int, quick: bool) -> list[Result]:
    """All rivals at one size. Floor: the multiply-adds at the rate of torch's matrix product, and the exponentials at that of torch.exp."""
    torch.manual_seed(0)
    points, queries = torch.randn(n, dim, device=here()), torch.randn(m, dim, device=here())
    h = n ** (-1 / (dim + 4))
    forms, absent, slow = dict(FAST), {}, {}
    if not quick:
        forms["torch.compile, logsumexp"] = torch.compile(plain)
    for name, (package, form) in {"keops": ("pykeops", keops), **SLOW}.items():
        try:
            importlib.import_module(package)
            form(queries[:2], points[:50], h)
        except ImportError:
            absent[name] = "not installed"
        except Exception as error:  # a rival that does not work is a line in the table
            absent[name] = f"{type(error).__name__}: {error}".splitlines()[0][:90]
        else:
            (forms if name == "keops" else slow)[name] = form
    right = exact(queries[:200], points, h)
    notes = {
        name: f"error {(form(queries[:200], points, h).to(right.device) - right).abs().max():.1e}"
        for name, form in {**forms, **slow}.items()
    }
    few = queries[: max(1, m // SHARE)]
    rivals: dict[str, Callable[[], Any]] = {name: (lambda f=form: f(queries, points, h)) for name, form in forms.items()}
    rivals |= {name: (lambda f=form: f(few, points, h)) for name, form in slow.items()}
    square, cold = torch.randn(1024, 1024, device=here()), torch.full((1 << 19,), -1.0, device=here())
    wide, hot = torch.empty_like(square), torch.empty_like(cold)
    rivals |= {"floor: matrix product": lambda: torch.mm(square, square, out=wide), "floor: exp": lambda: torch.exp(cold, out=hot)}
    floor = Floor("medgen", [("floor: matrix product", n * m * dim / 1024**3), ("floor: exp", n * m / (1 << 19))])
    case, settings = f"N {n} M {m} D {dim}", {"baseline": BASELINE, "rounds": rounds, "work": n * m, "unit": "pairs"}
    shares = dict.fromkeys(slow, len(few) / m)
    return compare(case, rivals, shares=shares, floors=[floor], notes=notes, **settings) + missing(case, absent)


def curves(rounds: int, quick: bool) -> list[Result]:
    """Pairs per second over the number of queries, 5000 points."""

    def build(size: int, dim: int) -> tuple[Calls, float]:
        points, queries = torch.randn(5000, dim, device=here()), torch.randn(size, dim, device=here())
        forms = {name: FAST[name] for name in (BASELINE, "torch, attention", "medgen")}
        return {name: (lambda f=f: f(queries, points, 0.5)) for name, f in forms.items()}, 5000.0 * size

    sizes = [2**k for k in ((6, 8) if quick else range(6, 15, 2))]
    found = []
    for dim in (2,) if quick else (2, 32):
        found += sweep(f"D = {dim}", sizes, lambda size, d=dim: build(size, d), baseline=BASELINE, rounds=rounds, unit="pairs")
    return found
