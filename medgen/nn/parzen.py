"""`Parzen`: a Gaussian kernel density as a module, and its bandwidth by the likelihood of points that are left out.

Papers: On Estimation of a Probability Density Function and Mode (Parzen, 1962) | https://doi.org/10.1214/aoms/1177704472
On the Choice of Smoothing Parameters for Parzen Estimators (Duin, 1976) | https://doi.org/10.1109/TC.1976.1674577
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from medgen.errors import ConfigError, DataError
from medgen.interfaces import Noise
from medgen.maths import BandwidthKind, bandwidth_scale, scott_factor, silverman_factor
from medgen.ops import parzen_draw, parzen_log_density

__all__ = ["BandwidthRule", "Parzen", "fit_factor", "grid_factor", "leave_one_out_factor"]

BandwidthRule = Literal["scott", "silverman", "leave_one_out", "grid", "fixed"]

_LEAST, _MOST = 1e-3, 1e2  # where the leave-one-out likelihood is searched, as factors on the scale
_STARTS = 31  # bandwidths that are tried first: the likelihood may have several maxima


class Parzen(nn.Module):
    """p(y) = sum_j w_j N(y; x_j, L L^T), in D dimensions.

    Points, bandwidth and weights are buffers: part of the weights, of whatever number.

    Args:
        points: x, [N, D].
        bandwidth: L: a number or scalar tensor, one per dimension [D], or a lower Cholesky factor [D, D].
        weights: w, [N], not negative, normalised here; None for equal ones.

    Raises:
        ConfigError: shapes do not fit, or the bandwidth is not positive.
        DataError: a point is not finite.

    >>> density = Parzen(torch.tensor([[0.0], [1.0]]), 0.5)
    >>> density.log_prob(torch.tensor([[0.5]]))
    tensor([-0.7258])
    >>> density.draw(Noise.of(0, range(2))).shape
    torch.Size([2, 1])
    """

    points: Tensor
    bandwidth: Tensor
    weights: Tensor | None

    def __init__(self, points: Tensor, bandwidth: float | Tensor, weights: Tensor | None = None) -> None:
        super().__init__()
        if points.dim() != 2 or 0 in points.shape:
            raise ConfigError(f"`points` must be [N, D] with at least one point; got {tuple(points.shape)}.")
        if not bool(points.isfinite().all()):
            raise DataError("`points` must be finite; some are NaN or infinite.")
        points = points.detach().to(torch.promote_types(points.dtype, torch.float32))
        factor = torch.as_tensor(bandwidth, dtype=points.dtype, device=points.device).detach()
        dim = points.shape[1]
        if factor.shape not in ((), (dim,), (dim, dim)):
            raise ConfigError(f"`bandwidth` must be a number, [D] or [D, D] with D = {dim}; got shape {tuple(factor.shape)}.")
        if not bool(((factor.diagonal() if factor.dim() == 2 else factor) > 0).all()):
            raise ConfigError(f"`bandwidth` must be positive; got {factor.tolist() if factor.numel() < 9 else 'others'}.")
        if weights is not None and (weights.shape != points.shape[:1] or not bool((weights >= 0).all()) or not float(weights.sum()) > 0):
            raise ConfigError(f"`weights` must be one per point, [{len(points)}], not negative, and not all 0; got {tuple(weights.shape)}.")
        self.register_buffer("points", points.clone())
        self.register_buffer("bandwidth", factor.clone())
        self.register_buffer("weights", None if weights is None else (weights.to(points) / weights.sum()).clone())
        self.register_load_state_dict_pre_hook(_resize)

    @classmethod
    def fit(cls, points: Tensor, rule: BandwidthRule = "scott", kind: BandwidthKind = "full", **options: Any) -> Parzen:
        """The density of `points` [N, D] with the bandwidth L = `fit_factor` x `bandwidth_scale`. `options` are those of `fit_factor`."""
        scale = bandwidth_scale(points, kind)
        return cls(points, fit_factor(points, scale, rule, **options) * scale)

    @property
    def dim(self) -> int:
        """D."""
        return self.points.shape[1]

    def log_prob(self, x: Tensor) -> Tensor:
        """ln p(x), [B], in nats, of x [B, D]. See `medgen.ops.parzen_log_density`."""
        return parzen_log_density(x, self.points, self.bandwidth, self.weights)

    def draw(self, noise: Noise) -> Tensor:
        """Exact draws [B, D], a function of the noise. See `medgen.ops.parzen_draw`."""
        return parzen_draw(noise.seed, noise.index, self.points, self.bandwidth, weights=self.weights)

    def widened(self, scale: float) -> Parzen:
        """The same points and weights with `scale` times the bandwidth."""
        return Parzen(self.points, scale * self.bandwidth, self.weights)


def _resize(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    """The number of points, and the kind of the bandwidth, are the file's."""
    for name in ("points", "bandwidth", "weights"):
        stored, own = state.get(prefix + name), getattr(module, name)
        if stored is not None and own is not None and stored.shape != own.shape:
            setattr(module, name, own.new_empty(stored.shape))


def fit_factor(
    points: Tensor, scale: Tensor, rule: BandwidthRule = "scott", *, fixed: float = 1.0, folds: int = 5, grid: Tensor | None = None
) -> float:
    """The factor of the bandwidth L = factor x scale of points [N, D] by a rule.

    - "scott", "silverman": of N and D; with the scale "absolute", times the data's own.
    - "leave_one_out", "grid": see `leave_one_out_factor` and `grid_factor`.
    - "fixed": the number `fixed`.

    Args:
        points: x.
        scale: made by `bandwidth_scale`.
        rule: see above.
        fixed: the factor of "fixed".
        folds, grid: of `grid_factor`.

    Raises:
        ConfigError, DataError: the rule does not fit the points.
    """
    n, dim = points.shape
    if rule in ("scott", "silverman"):
        factor = scott_factor(n, dim) if rule == "scott" else silverman_factor(n, dim)
        return factor * float(bandwidth_scale(points, "scalar") / scale) if scale.dim() == 0 else factor
    if rule == "leave_one_out":
        return leave_one_out_factor(points, scale)
    if rule == "grid":
        return grid_factor(points, scale, folds=folds, grid=grid)
    if rule != "fixed" or not (math.isfinite(fixed) and fixed > 0):
        raise ConfigError(
            f'`rule` must be "scott", "silverman", "leave_one_out", "grid", or "fixed" with a positive factor; got {rule!r} and {fixed}.'
        )
    return fixed


def leave_one_out_factor(points: Tensor, scale: Tensor) -> float:
    """argmax_f sum_i ln p_-i(x_i), p_-i the density of all points but the i-th with the bandwidth f x scale.

    Exact: each value is one pass of `medgen.ops.parzen_log_density`. Searched from 1e-3 to 1e2 times the data's own scale, first on a grid,
    then by Brent's method.

    Args:
        points: x, [N, D].
        scale: made by `bandwidth_scale`.

    Raises:
        DataError: fewer than two points, or so many equal ones that the likelihood has no maximum.

    >>> x = torch.tensor([[-1.0], [1.0]])  # d/df of -ln f - 2 / f^2 is 0 at f = 2
    >>> round(leave_one_out_factor(x, bandwidth_scale(x, "absolute")), 2)
    2.0
    """
    from scipy.optimize import minimize_scalar  # slow to import, and building a model does not need it

    if len(points) < 2:
        raise DataError(f"the leave-one-out likelihood needs at least two points; got {len(points)}.")

    def loss(log_factor: float) -> float:
        value = -parzen_log_density(points, points, math.exp(log_factor) * scale, leave_one_out=True).to(torch.float64).mean()
        return float(value.nan_to_num(posinf=1e300))  # none of the others is within reach

    middle = float(bandwidth_scale(points, "scalar") / scale) if scale.dim() == 0 else 1.0
    at = math.log(middle) + np.linspace(math.log(_LEAST), math.log(_MOST), _STARTS)
    values = [loss(float(a)) for a in at]
    best = int(np.argmin(values))
    if best in (0, len(at) - 1):
        twins = len(points) - len(points.unique(dim=0))
        why = f"{twins} of {len(points)} points repeat others" if best == 0 else "it still rises at 100 times the scale"
        raise DataError(f"the leave-one-out likelihood has no maximum: {why}. Leave repeated points out, or use the rule scott or fixed.")
    found = minimize_scalar(loss, bounds=(float(at[best - 1]), float(at[best + 1])), method="bounded", options={"xatol": 1e-5})
    return math.exp(float(found.x))


def grid_factor(points: Tensor, scale: Tensor, *, folds: int = 5, grid: Tensor | None = None) -> float:
    """The factor of a grid under which points are likeliest given those of the other folds. Fold k is every `folds`-th point from the k-th.

    Args:
        points: x, [N, D].
        scale: made by `bandwidth_scale`.
        folds: at least 2; with fewer points than folds, each point is a fold.
        grid: factors; by default 100, spaced evenly in logarithm from 0.1 to 10.

    Raises:
        ConfigError: fewer than two folds or an empty grid.
        DataError: fewer than two points, or all of them out of reach of each other at every factor.
    """
    factors = torch.logspace(-1, 1, 100, dtype=torch.float64) if grid is None else grid.to(torch.float64)
    if folds < 2 or not factors.numel():
        raise ConfigError(f"`folds` must be at least 2 and the grid not empty; got {folds} and {factors.numel()} factors.")
    if len(points) < 2:
        raise DataError(f"cross-validation needs at least two points; got {len(points)}.")
    fold = torch.arange(len(points), device=points.device) % min(folds, len(points))
    parts = [(points[fold == k], points[fold != k]) for k in range(int(fold.max()) + 1)]
    score = [sum(float(parzen_log_density(held, rest, f * scale).to(torch.float64).sum()) for held, rest in parts) for f in factors]
    best = int(np.argmax(score))
    if not math.isfinite(score[best]):
        raise DataError(f"no factor from {factors[0]:.3g} to {factors[-1]:.3g} reaches from point to point; use another grid.")
    return float(factors[best])
