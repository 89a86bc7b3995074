"""One step of rejection sampling against a Gaussian KDE: draw from a normal, log P, log Q, compare; time per proposal.

The baseline does the same with batched PyTorch: randn, the in-place matrix form of the density, rand. "One at a time" is how public code
does it, by SciPy, on a few proposals. Direct draws need no rejection at all.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from benchmarks.cases.parzen import in_place
from benchmarks.harness import Result, compare, here
from medgen.ops import parzen_draw, rejection_step

BASELINE = "torch, batched"
SIZES = ((2000, 16), (10_000, 16), (2000, 32), (10_000, 32))


def batched(points: Tensor, h: float, count: int) -> Tensor:
    """Draw, both densities, compare."""
    dim = points.shape[1]
    proposals = torch.randn(count, dim, device=here())
    log_q = -proposals.square().sum(1) / 2 - dim / 2 * math.log(2 * math.pi)
    return torch.rand(count, device=here()).log() + log_q + 1.0 < in_place(proposals, points, h)


def one_at_a_time(points: Tensor, h: float, count: int) -> int:
    """SciPy's frozen normal and KDE, proposal by proposal."""
    import numpy as np
    from scipy.stats import gaussian_kde, multivariate_normal

    dim = points.shape[1]
    kde = gaussian_kde(points.double().cpu().numpy().T)
    kde.covariance, kde.cho_cov = h * h * np.eye(dim), h * np.eye(dim)
    kde.log_det = 2 * dim * math.log(h * math.sqrt(2 * math.pi))
    normal, generator, accepted = multivariate_normal(np.zeros(dim)), np.random.default_rng(0), 0
    for _ in range(count):
        proposal = normal.rvs(random_state=generator)
        accepted += bool(np.log(generator.uniform()) + 1.0 + normal.logpdf(proposal) < kde.logpdf(proposal)[0])
    return accepted


def in_batches(points: Tensor, h: float, count: int) -> int:
    """SciPy's normal and scikit-learn's KDE, 200 proposals at a time."""
    import numpy as np
    from scipy.stats import multivariate_normal
    from sklearn.neighbors import KernelDensity

    dim = points.shape[1]
    kde, generator, accepted = KernelDensity(bandwidth=h).fit(points.cpu().numpy()), np.random.default_rng(0), 0
    normal = multivariate_normal(np.zeros(dim))
    for _ in range(0, count, 200):
        proposals = normal.rvs(200, random_state=generator)
        test = np.log(generator.uniform(size=200)) + 1.0 + normal.logpdf(proposals)
        accepted += int((test < kde.score_samples(proposals)).sum())
    return accepted


def run(*, rounds: int, quick: bool) -> list[Result]:
    """All sizes, then direct draws."""
    results = []
    torch.manual_seed(0)
    for n, dim in SIZES:
        count, few, some = (2000, 3, 200) if quick else (20_000, 20, 400)
        points, h = torch.randn(n, dim, device=here()), n ** (-1 / (dim + 4))
        index, mean = torch.arange(count, device=here()), torch.zeros(dim, device=here())
        rivals = {
            BASELINE: lambda p=points, b=h, c=count: batched(p, b, c),
            "medgen": lambda p=points, b=h, i=index, m=mean: rejection_step(0, i, p, b, log_k=1.0, mean=m, proposal=1.0),
            "scipy, one at a time": lambda p=points, b=h, c=few: one_at_a_time(p, b, c),
        }
        notes, shares = {"scipy, one at a time": f"{few} proposals, scaled"}, {"scipy, one at a time": few / count}
        try:
            import sklearn  # noqa: F401
        except ImportError:
            notes["scikit-learn, batches of 200"] = "not installed"
        else:
            rivals["scikit-learn, batches of 200"] = lambda p=points, b=h, c=some: in_batches(p, b, c)
            notes["scikit-learn, batches of 200"] = f"{some} proposals, scaled"
            shares["scikit-learn, batches of 200"] = some / count
        settings: dict[str, Any] = {"baseline": BASELINE, "rounds": rounds, "shares": shares, "notes": notes}
        results += compare(f"rejection N {n} D {dim}", rivals, work=count, unit="proposals", **settings)
    return results + draws(rounds=rounds, quick=quick)


def draws(*, rounds: int, quick: bool) -> list[Result]:
    """Direct draws from the density."""
    count = 50_000 if quick else 1_000_000
    points, index = torch.randn(2000, 32, device=here()), torch.arange(count, device=here())
    rivals = {
        BASELINE: lambda: points[torch.randint(0, 2000, (count,), device=here())] + 0.8 * torch.randn(count, 32, device=here()),
        "medgen": lambda: parzen_draw(0, index, points, 0.8),
    }
    return compare(f"direct draws {count} x 32", rivals, baseline=BASELINE, rounds=rounds, work=count, unit="draws")
