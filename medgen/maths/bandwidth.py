"""Bandwidths of a Gaussian kernel density by rule, and the data's own scale, which they are factors on."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

from medgen.errors import ConfigError, DataError

__all__ = ["BandwidthKind", "bandwidth_scale", "scott_factor", "silverman_factor"]

BandwidthKind = Literal["absolute", "scalar", "diagonal", "full"]


def scott_factor(n: float, dim: int) -> float:
    """n^(-1 / (D + 4)), as SciPy's `gaussian_kde` has it.

    Book: Multivariate Density Estimation (Scott, 1992)

    Args:
        n: number of points; with weights the effective one, (sum w)^2 / sum w^2.
        dim: D.

    >>> scott_factor(32, 1)
    0.5
    """
    _check(n, dim)
    return float(n ** (-1.0 / (dim + 4)))


def silverman_factor(n: float, dim: int) -> float:
    """(n (D + 2) / 4)^(-1 / (D + 4)), as SciPy's `gaussian_kde` has it; equal to Scott's where D = 2.

    Book: Density Estimation for Statistics and Data Analysis (Silverman, 1986). Arguments as in `scott_factor`.

    >>> silverman_factor(1000, 2) == scott_factor(1000, 2)
    True
    """
    _check(n, dim)
    return float((n * (dim + 2) / 4.0) ** (-1.0 / (dim + 4)))


def bandwidth_scale(points: Tensor, kind: BandwidthKind) -> Tensor:
    """S, the scale of the data, so that a bandwidth is L = factor S. Float64.

    - "absolute": 1, so that the factor is the bandwidth in the units of the data, as in scikit-learn; [].
    - "scalar": the root mean square of the columns' standard deviations; [].
    - "diagonal": the standard deviation of each column; [D].
    - "full": the lower Cholesky factor of the covariance (N - 1 in the denominator), as in SciPy; [D, D].

    Args:
        points: [N, D].
        kind: see above.

    Raises:
        DataError: fewer than two points, a column that is constant, or columns that depend on each other linearly ("full").

    >>> bandwidth_scale(torch.tensor([[0.0, 0.0], [2.0, 4.0]]), "diagonal")
    tensor([1.4142, 2.8284], dtype=torch.float64)
    """
    if kind == "absolute":
        return torch.ones((), dtype=torch.float64, device=points.device)
    if points.dim() != 2 or len(points) < 2:
        raise DataError(f"a bandwidth of kind {kind!r} needs points [N, D] with N of at least 2; got {tuple(points.shape)}.")
    wide = points.to(torch.float64)
    if kind == "full":
        factor, failed = torch.linalg.cholesky_ex(torch.atleast_2d(wide.mT.cov()))
        if int(failed) or not bool((factor.diagonal() > 1e-7 * wide.std(0)).all()):
            raise DataError(
                f"the covariance of {points.shape[0]} points in {points.shape[1]} dimensions is singular: columns are constant or "
                'depend on each other, or there are too few points. Use the kind "diagonal" or "scalar", or fewer dimensions.'
            )
        return factor
    sd = wide.std(0)
    if kind == "scalar":
        sd = sd.square().mean().sqrt()
    elif kind != "diagonal":
        raise ConfigError(f'the kind of a bandwidth must be "absolute", "scalar", "diagonal" or "full"; got {kind!r}.')
    if not bool((sd > 0).all()):
        constant = torch.nonzero(torch.atleast_1d(sd) <= 0).flatten().tolist()
        raise DataError(f'columns {constant[:8]} are constant, so that they give no bandwidth; leave them out, or use the kind "scalar".')
    return sd


def _check(n: float, dim: int) -> None:
    if not (math.isfinite(n) and n > 0) or dim < 1:
        raise ConfigError(f"a bandwidth needs a positive number of points and of dimensions; got {n} and {dim}.")
