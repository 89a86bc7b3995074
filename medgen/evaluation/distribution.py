"""Distances between two sets of features [N, F] and [M, F]: Frechet distance and kernel distances (MMD). All in float64."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from medgen.errors import DataError
from medgen.evaluation.distances import blocks, check_features, squared_distances
from medgen.evaluation.plan import metric_plan

__all__ = ["frechet_distance", "frechet_from_moments", "kid", "median_bandwidth", "mmd", "mmd_permutation_test"]

_Kernel = Callable[[Tensor, Tensor], Tensor]


def _frechet_advice(real: int, fake: int, features: int) -> str:
    if min(real, fake) > features:
        return ""
    return f"n <= F = {features}: the covariances are singular and the distance is far too high; compare at equal n only"


@metric_plan(
    recipe={
        "definition": "|mu_r - mu_g|^2 + tr(S_r + S_g - 2 (S_r S_g)^(1/2)), S with 1/(N-1)",
        "root": "singular values of R_r R_g^T in float64",
    },
    limits=(0.0, math.inf),
    least=2,
    advice=_frechet_advice,
)
def frechet_distance(real: Tensor, fake: Tensor) -> float:
    """|mu_r - mu_g|^2 + tr(S_r + S_g - 2 (S_r S_g)^(1/2)), with S = X^T X / (N - 1) of the centred features.

    With S = R^T R (R from a QR decomposition of the features) the trace of the root is the sum of the singular values of
    R_r R_g^T, which are the roots of the eigenvalues of S_r^(1/2) S_g S_r^(1/2). No product of covariances is formed, so singular
    covariances (N <= F) lose no digits, and no root of a negative number can appear.

    It is biased upwards, by about 1/N: compare figures of equal N only. On features other than Inception's it is not the figure
    of the literature.

    Args:
        real: features [N, F].
        fake: features [M, F].

    Raises:
        DataError: fewer than two rows, other columns, or values that are not finite.

    Paper: GANs Trained by a Two Time-Scale Update Rule (Heusel et al., 2017) | https://arxiv.org/abs/1706.08500

    >>> x = torch.tensor([[-1.0], [1.0]])  # mean 0, variance 2
    >>> round(frechet_distance(x, 2 * x + 1), 6)  # 1 + (sqrt(2) - sqrt(8))^2
    3.0
    """
    real, fake = check_features(real, fake, 2)
    mean_r, root_r = _mean_and_root(real)
    mean_g, root_g = _mean_and_root(fake)
    trace = root_r.pow(2).sum() + root_g.pow(2).sum() - 2.0 * torch.linalg.svdvals(root_r @ root_g.T).sum()
    return max(0.0, float((mean_r - mean_g).pow(2).sum() + trace))


def _mean_and_root(x: Tensor) -> tuple[Tensor, Tensor]:
    mean = x.mean(0)
    root: Tensor = torch.linalg.qr((x - mean) / math.sqrt(len(x) - 1), mode="r").R  # [min(N, F), F]
    return mean, root


def frechet_from_moments(mean_r: Tensor, cov_r: Tensor, mean_g: Tensor, cov_g: Tensor) -> float:
    """The Frechet distance of two Gaussians, |m_r - m_g|^2 + tr(S_r + S_g - 2 (S_r^(1/2) S_g S_r^(1/2))^(1/2)).

    Args:
        mean_r, mean_g: means [F].
        cov_r, cov_g: covariances [F, F], symmetric and positive semi-definite.

    Raises:
        DataError: shapes that differ, a covariance that is not symmetric or has a negative eigenvalue.

    >>> one = torch.ones(1, 1)
    >>> frechet_from_moments(torch.zeros(1), one, torch.ones(1), 4 * one)  # N(0, 1) and N(1, 4)
    2.0
    """
    mean_r, cov_r, mean_g, cov_g = (value.double() for value in (mean_r, cov_r, mean_g, cov_g))
    if not mean_r.shape == mean_g.shape or not cov_r.shape == cov_g.shape == (*mean_r.shape, *mean_r.shape):
        raise DataError(f"moments must be [F] and [F, F] twice; got {[tuple(v.shape) for v in (mean_r, cov_r, mean_g, cov_g)]}.")
    root = _symmetric_root(cov_r, "cov_r")
    _symmetric_root(cov_g, "cov_g")
    eigenvalues = torch.linalg.eigvalsh(root @ cov_g @ root).clamp_min(0.0)
    trace = cov_r.trace() + cov_g.trace() - 2.0 * eigenvalues.sqrt().sum()
    return max(0.0, float((mean_r - mean_g).pow(2).sum() + trace))


def _symmetric_root(cov: Tensor, name: str) -> Tensor:
    if not bool(cov.isfinite().all()) or not torch.allclose(cov, cov.T, rtol=1e-6, atol=1e-9 * float(cov.abs().max())):
        raise DataError(f"`{name}` must be finite and symmetric.")
    values, vectors = torch.linalg.eigh(cov)
    if float(values.min()) < -1e-6 * float(values.abs().max()):
        raise DataError(f"`{name}` must be positive semi-definite; its smallest eigenvalue is {float(values.min()):.3g}.")
    return (vectors * values.clamp_min(0.0).sqrt()) @ vectors.T


@metric_plan(recipe={"kernel": "(x.y / F + 1)^3", "estimator": "unbiased MMD^2 over all pairs"}, least=2)
def kid(real: Tensor, fake: Tensor) -> float:
    """MMD^2 = mean_{i != j} k(x_i, x_j) + mean_{i != j} k(y_i, y_j) - 2 mean k(x_i, y_j), k(x, y) = (x.y / F + 1)^3.

    Unbiased: its expectation does not depend on N and is 0 for equal distributions, so that it may be negative. All pairs are
    used, where other packages average over random subsets; the expectation is the same. Arguments and errors as `frechet_distance`.

    Paper: Demystifying MMD GANs (Binkowski et al., 2018) | https://arxiv.org/abs/1801.01401

    >>> x = torch.tensor([[0.0], [1.0]])
    >>> kid(x, x + 1)  # 1 + 27 - 2 (1 + 1 + 8 + 27) / 4
    9.5
    """
    real, fake = check_features(real, fake, 2)
    return _unbiased_mmd(real, fake, lambda x, y: (x @ y.T / x.shape[1] + 1.0).pow_(3))


@metric_plan(
    recipe={
        "kernel": "exp(-|x - y|^2 / (2 h^2)), h = median pooled distance",
        "estimator": "unbiased MMD^2 over all pairs",
    },
    least=2,
)
def mmd(real: Tensor, fake: Tensor, *, bandwidth: float | None = None) -> float:
    """MMD^2 as in `kid`, with the Gaussian kernel k(x, y) = exp(-|x - y|^2 / (2 h^2)).

    Args:
        real: features [N, F].
        fake: features [M, F].
        bandwidth: h; by default `median_bandwidth` of both sets together.

    Paper: A Kernel Two-Sample Test (Gretton et al., 2012) | https://jmlr.org/papers/v13/gretton12a.html

    >>> x = torch.tensor([[0.0], [1.0]])
    >>> round(mmd(x, x + 1, bandwidth=1.0), 6)  # e^(-1/2) + e^(-1/2) - (2 e^(-1/2) + 1 + e^-2) / 2
    0.038863
    """
    real, fake = check_features(real, fake, 2)
    h = _checked_bandwidth(real, fake, bandwidth)
    return _unbiased_mmd(real, fake, lambda x, y: _gaussian(x, y, h))


def median_bandwidth(x: Tensor, *, most: int = 1000) -> float:
    """The median of |x_i - x_j|, i < j, over at most `most` evenly spaced rows of x [N, F]; 1 where the median is 0."""
    rows = torch.linspace(0, len(x) - 1, min(most, len(x)), device=x.device).round().long()
    chosen = x[rows].double()
    upper = torch.triu_indices(len(chosen), len(chosen), 1, device=x.device)
    distances = squared_distances(chosen, chosen)[upper[0], upper[1]].sqrt()
    return float(np.median(distances.cpu().numpy())) or 1.0


def mmd_permutation_test(
    real: Tensor, fake: Tensor, *, permutations: int = 500, seed: int = 0, bandwidth: float | None = None
) -> tuple[float, float]:
    """(MMD^2 of `mmd`, p): p = (1 + number of label permutations with an MMD^2 at least as large) / (1 + permutations).

    Under equal distributions p is uniform, at any N: the test is exact. The kernel matrix is walked once, in blocks, for all permutations.

    Args:
        real: features [N, F].
        fake: features [M, F].
        permutations: how many; p is at least 1 / (1 + permutations).
        seed: of a Philox generator.
        bandwidth: as in `mmd`.

    >>> x = torch.arange(20.0)[:, None]
    >>> mmd_permutation_test(x, x + 100, permutations=99)[1]
    0.01
    """
    real, fake = check_features(real, fake, 2)
    h = _checked_bandwidth(real, fake, bandwidth)
    pool, n, m = torch.cat([real, fake]), len(real), len(fake)
    rng = np.random.Generator(np.random.Philox(seed))
    label = np.zeros((permutations + 1, n + m))  # row 0 is the true labelling
    label[:, :n] = 1.0
    label[1:] = rng.permuted(label[1:], axis=1)
    s = torch.from_numpy(label.T.copy()).to(pool)
    quadratic, linear, total = torch.zeros_like(s[0]), torch.zeros_like(s[0]), 0.0
    for rows in blocks(n + m, n + m):
        kernel = _gaussian(pool[rows], pool, h)
        quadratic += (s[rows] * (kernel @ s)).sum(0)
        linear += (s[rows] * kernel.sum(1, keepdim=True)).sum(0)
        total += float(kernel.sum())
    cross = linear - quadratic
    values = (quadratic - n) / (n * (n - 1)) + (total - 2 * linear + quadratic - m) / (m * (m - 1)) - 2 * cross / (n * m)
    # rounding must not decide between labellings that are the same
    as_large = int((values[1:] >= values[0] - 1e-12).sum())
    return float(values[0]), (1 + as_large) / (1 + permutations)


def _checked_bandwidth(real: Tensor, fake: Tensor, bandwidth: float | None) -> float:
    if bandwidth is None:
        return median_bandwidth(torch.cat([real, fake]))
    if not (math.isfinite(bandwidth) and bandwidth > 0):
        raise DataError(f"`bandwidth` must be positive; got {bandwidth}.")
    return bandwidth


def _gaussian(x: Tensor, y: Tensor, h: float) -> Tensor:
    return squared_distances(x, y).mul_(-0.5 / h**2).exp_()


def _unbiased_mmd(x: Tensor, y: Tensor, kernel: _Kernel) -> float:
    n, m = len(x), len(y)
    within = _sum(x, x, kernel, diagonal=False) / (n * (n - 1)) + _sum(y, y, kernel, diagonal=False) / (m * (m - 1))
    return within - 2.0 * _sum(x, y, kernel) / (n * m)


def _sum(x: Tensor, y: Tensor, kernel: _Kernel, *, diagonal: bool = True) -> float:
    total = 0.0
    for rows in blocks(len(x), len(y)):
        block = kernel(x[rows], y)
        total += float(block.sum())
        if not diagonal:
            total -= float(block.diagonal(rows.start).sum())
    return total
