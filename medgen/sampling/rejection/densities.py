"""Densities to reject against and to propose from: `Gaussian`, `GaussianMixture`, and any trained model; `medgen.nn.Parzen` is one too."""

from __future__ import annotations

import math
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from medgen.errors import ConfigError, DataError
from medgen.interfaces import DensityModel, Generator, Noise, evaluating
from medgen.maths import bandwidth_scale
from medgen.nn import Parzen

__all__ = ["Density", "Gaussian", "GaussianMixture", "ModelDensity", "Proposal", "density_of"]

_LOG_2PI = math.log(2.0 * math.pi)


@runtime_checkable
class Density(Protocol):
    """Has ln p(x), [B], of x [B, D], in nats."""

    def log_prob(self, x: Tensor, /) -> Tensor:
        """ln p(x), [B]."""


@runtime_checkable
class Proposal(Density, Protocol):
    """A density that can be drawn from exactly; draw i depends on (seed, i) only."""

    def draw(self, noise: Noise, /) -> Tensor:
        """[B, D] of the B samples of the noise."""


class Gaussian(nn.Module):
    """N(mean, L L^T).

    Args:
        mean: [D].
        factor: L, lower, [D, D].

    >>> float(Gaussian(torch.zeros(2), torch.eye(2)).log_prob(torch.zeros(1, 2)))  # -ln(2 pi)
    -1.8378770664093453
    """

    mean: Tensor
    factor: Tensor

    def __init__(self, mean: Tensor, factor: Tensor) -> None:
        super().__init__()
        if factor.shape != (*mean.shape, *mean.shape) or mean.dim() != 1:
            raise ConfigError(f"`mean` must be [D] and `factor` [D, D]; got {tuple(mean.shape)} and {tuple(factor.shape)}.")
        self.register_buffer("mean", mean.detach().to(torch.float64).clone())
        self.register_buffer("factor", factor.detach().to(torch.float64).tril())

    @classmethod
    def fit(cls, points: Tensor) -> Gaussian:
        """Mean and full covariance (N - 1) of points [N, D].

        Raises:
            DataError: the covariance is singular.
        """
        return cls(points.to(torch.float64).mean(0), bandwidth_scale(points, "full"))

    def log_prob(self, x: Tensor) -> Tensor:
        """Float64 [B]."""
        return _log_normal(x.to(torch.float64), self.mean[None], self.factor[None])[:, 0]

    def draw(self, noise: Noise) -> Tensor:
        """Float32 [B, D]: mean + L noise."""
        normals = noise.normal(len(self.mean)).to(torch.float64)
        return (self.mean + normals @ self.factor.mT).to(torch.float32)


class GaussianMixture(nn.Module):
    """sum_k w_k N(mean_k, L_k L_k^T), with full covariances.

    Args:
        weights: [K].
        means: [K, D].
        factors: L, lower, [K, D, D].
    """

    weights: Tensor
    means: Tensor
    factors: Tensor

    def __init__(self, weights: Tensor, means: Tensor, factors: Tensor) -> None:
        super().__init__()
        k, dim = means.shape
        if weights.shape != (k,) or factors.shape != (k, dim, dim):
            shapes = [tuple(t.shape) for t in (weights, means, factors)]
            raise ConfigError(f"a mixture has weights [K], means [K, D] and factors [K, D, D]; got {shapes}.")
        self.register_buffer("weights", (weights / weights.sum()).to(torch.float64))
        self.register_buffer("means", means.to(torch.float64))
        self.register_buffer("factors", factors.to(torch.float64).tril())

    @classmethod
    def fit(cls, points: Tensor, components: int = 8, *, seed: int = 0, steps: int = 200, tolerance: float = 1e-4) -> GaussianMixture:
        """Maximum likelihood by expectation and maximisation from points [N, D]; a thousandth of the data's covariance is added to each.

        Paper: Maximum Likelihood from Incomplete Data via the EM Algorithm (Dempster, Laird, Rubin, 1977)

        Args:
            points: to fit.
            components: K.
            seed: of the first means, chosen far from each other (k-means++).
            steps: at most.
            tolerance: rise of the mean log-likelihood, in nats, below which it ends.

        Raises:
            DataError: fewer points than K (D + 1).

        >>> x = torch.cat([Noise.of(0, range(200)).normal(1) - 5, Noise.of(1, range(200)).normal(1) + 5])
        >>> GaussianMixture.fit(x, 2).means.flatten().sort().values.round()
        tensor([-5.,  5.], dtype=torch.float64)
        """
        x = points.to(torch.float64)
        n, dim = x.shape
        if components < 1 or n < components * (dim + 1):
            raise DataError(f"{components} components in {dim} dimensions need at least {components * (dim + 1)} points; got {n}.")
        whole = bandwidth_scale(points, "full")
        ridge = 1e-3 * (whole @ whole.mT)
        means, factors = _far_apart(x, components, seed), whole.expand(components, dim, dim)
        weights, last = torch.full((components,), 1.0 / components, dtype=torch.float64, device=x.device), -math.inf
        for _ in range(steps):
            joint = weights.log() + _log_normal(x, means, factors)
            total = joint.logsumexp(1, keepdim=True)
            share = (joint - total).exp()
            counts = share.sum(0).clamp_min(1e-9)
            weights, means = counts / counts.sum(), share.mT @ x / counts[:, None]
            second = torch.stack([(x * s[:, None]).mT @ x for s in share.mT]) / counts[:, None, None]
            factors = torch.linalg.cholesky(second - means[:, :, None] * means[:, None] + ridge)
            if float(total.mean()) < last + tolerance:
                break
            last = float(total.mean())
        return cls(weights, means, factors)

    def log_prob(self, x: Tensor) -> Tensor:
        """Float64 [B]."""
        return (self.weights.log() + _log_normal(x.to(torch.float64), self.means, self.factors)).logsumexp(1)

    def draw(self, noise: Noise) -> Tensor:
        """Float32 [B, D]."""
        u = noise.uniform(stream=1, dtype=torch.float64)
        chosen = torch.searchsorted(self.weights.cumsum(0), u).clamp_(max=len(self.weights) - 1)
        normals = noise.normal(self.means.shape[1]).to(torch.float64)
        moved = torch.empty_like(normals)
        for k in range(len(self.weights)):  # products of rows by one factor, rather than a factor per row
            rows = chosen == k
            moved[rows] = self.means[k] + normals[rows] @ self.factors[k].mT
        return moved.to(torch.float32)


class ModelDensity(nn.Module):
    """A trained model over flattened arrays [B, D], D = C x S, in model units. It proposes where it also generates.

    Args:
        model: a `DensityModel` with an exact density and no conditions that it requires.

    Raises:
        ConfigError: it has none, or does not draw from it as it is (a temperature).
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        if not isinstance(model, DensityModel) or model.log_prob_kind != "exact" or model.log_prob_measure != "density":
            kind = getattr(model, "log_prob_kind", "no")
            raise ConfigError(
                f"rejection needs an exact density of continuous values; {model.family or type(model).__name__} has {kind} log-density. "
                "`medgen list --interface density` shows those that have."
            )
        if model.required_conditions:
            raise ConfigError(f"rejection takes models without conditions; {model.family} requires {', '.join(model.required_conditions)}.")
        if getattr(model.config, "temperature", 1.0) != 1.0:
            raise ConfigError("the model's temperature must be 1: with another it does not draw from its own density.")
        self.model = model

    def log_prob(self, x: Tensor) -> Tensor:
        """[B], without gradients."""
        with evaluating(self.model):
            found: Tensor = self.model.log_prob(x.view(len(x), *self.model.image_spec.size))
        return found

    def draw(self, noise: Noise) -> Tensor:
        """[B, D].

        Raises:
            ConfigError: the model draws no samples.
        """
        if not isinstance(self.model, Generator):
            raise ConfigError(f"{self.model.family} draws no samples, so that it cannot propose.")
        return self.model.sample(len(noise), noise=noise, micro_batch=max(1, len(noise))).flatten(1)


def density_of(model: Any) -> Parzen | ModelDensity:
    """The density of a trained model: its kernels where its attribute `density` is a `Parzen`, as in family parzen, else the model itself.

    Raises:
        ConfigError: see `ModelDensity`.
    """
    own = getattr(model, "density", None)
    return own if isinstance(own, Parzen) else ModelDensity(model)


def _log_normal(x: Tensor, means: Tensor, factors: Tensor) -> Tensor:
    """ln N(x; mean_k, L_k L_k^T), [B, K]."""
    dim = x.shape[1]
    inverse = torch.linalg.solve_triangular(factors, torch.eye(dim, dtype=factors.dtype, device=factors.device), upper=False)
    away = torch.stack([((x - m) @ f.mT).square_().sum(1) for m, f in zip(means, inverse, strict=True)])  # products, K of them
    constant = factors.diagonal(dim1=1, dim2=2).log().sum(1) + dim / 2 * _LOG_2PI
    return (-0.5 * away - constant[:, None]).mT


def _far_apart(x: Tensor, count: int, seed: int) -> Tensor:
    """`count` of the points, each chosen with probability in proportion to its squared distance from those before."""
    u = Noise.of(seed, range(count), x.device).uniform(dtype=torch.float64)
    sd = x.std(0)
    chosen = [int(u[0] * len(x))]
    nearest = torch.full((len(x),), torch.inf, dtype=torch.float64, device=x.device)
    for k in range(1, count):
        nearest = torch.minimum(nearest, ((x - x[chosen[-1]]) / sd).square().sum(1))
        cumulative = nearest.cumsum(0)
        chosen.append(min(int(torch.searchsorted(cumulative, u[k] * cumulative[-1])), len(x) - 1))
    return x[chosen]
