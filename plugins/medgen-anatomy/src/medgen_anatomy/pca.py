"""`pca_shape` and `pca_masks`: principal component analysis, x = mean + P b, in closed form.

Papers: Active Shape Models - Their Training and Application (Cootes et al., 1995) | https://doi.org/10.1006/cviu.1995.1004
Probabilistic Principal Component Analysis (Tipping, Bishop, 1999) | https://doi.org/10.1111/1467-9868.00196
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.distributions import Distribution

from medgen.errors import ConfigError, DataError
from medgen.interfaces import Batch, Condition, DensityModel, Generator, LatentModel, Noise, Phase, PreparesOnData
from medgen.maths import Delta
from medgen.registry import ConditionSpec, ImageSpec
from medgen_anatomy.shape_config import PcaConfig

__all__ = ["Pca", "PcaMasks", "PcaShape", "principal_components"]

_WIDE = 2048  # values per sample above which the Gram matrix of the samples is smaller than the covariance of the values
_FLOOR = 1e-6  # least variance, as a share of the mean variance per value: exactly linear data would have an infinite density
_SCORES, _NOISE = 0, 1  # streams


def principal_components(batches: Callable[[], Iterable[Batch]], q: int) -> tuple[Tensor, Tensor, Tensor, float, int]:
    """Mean [D], the first q components [q, D] (rows), their variances [q], the sum of all variances, and N.

    The variances are divided by N, as maximum likelihood has it. Signs are such that the largest entry of a component is positive.

    Args:
        batches: each call is a pass over the data.
        q: at most D, and below N.

    Raises:
        DataError: too few samples.
    """
    total, n = torch.zeros(()), 0
    for batch in batches():
        rows = batch.x.flatten(1).double()
        total, n = total + rows.sum(0), n + len(rows)
    mean = total / n
    if n <= q:
        raise DataError(f"`components` must be fewer than the {n} training samples; got {q}.")
    if len(mean) <= _WIDE:
        covariance = torch.zeros(len(mean), len(mean), dtype=torch.float64, device=mean.device)
        for batch in batches():
            rows = batch.x.flatten(1).double() - mean
            covariance += rows.T @ rows
        values, vectors = torch.linalg.eigh(covariance / n)
        components, whole = vectors.flip(1)[:, :q].T, float(values.clamp(min=0).sum())
        variances = values.flip(0)[:q]
    else:
        rows = torch.cat([batch.x.flatten(1).double() for batch in batches()]) - mean
        values, vectors = torch.linalg.eigh(rows @ rows.T / n)
        variances, whole = values.flip(0)[:q], float(values.clamp(min=0).sum())
        # QR keeps the directions of the samples' combinations, and directions of no variance orthogonal to them
        components = torch.linalg.qr(rows.T @ vectors.flip(1)[:, :q]).Q.T
    largest = components.gather(1, components.abs().argmax(1, keepdim=True))
    return mean, components * torch.where(largest < 0, -1.0, 1.0), variances.clamp(min=0), whole, n


class Pca(Generator, LatentModel, PreparesOnData):
    """b = P (x - mean), x = mean + P' b, with P [q, D] the rows of largest variance; b_i ~ N(0, variance_i).

    Mean +- k sd of one component is a mode of variation: the report's traversals show them, and its bars the variances.
    """

    config: PcaConfig
    mean: Tensor
    components: Tensor
    variances: Tensor
    noise_variance: Tensor
    total_variance: Tensor

    def __init__(self, config: PcaConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        super().__init__(config, image_spec, conditions)
        q, d = config.components, image_spec.numel
        if q > d:
            raise ConfigError(f"`components` must be at most the {d} values of a sample; got {q}.")
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("components", torch.eye(q, d))
        self.register_buffer("variances", torch.ones(q))
        self.register_buffer("noise_variance", torch.ones(()))
        self.register_buffer("total_variance", torch.tensor(float(d)))

    @property
    def latent_shape(self) -> tuple[int, ...]:
        """(components,)."""
        return (self.config.components,)

    @property
    def explained_variance(self) -> Tensor:
        """Share of the data's variance that each component explains, [q]."""
        return self.variances / self.total_variance

    def phases(self) -> Sequence[Phase]:
        """None: `prepare` does it all."""
        return []

    def prepare(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Mean, components and variances of the training set; what is left is spread over the other D - q directions."""
        q, d = self.config.components, self.image_spec.numel
        mean, components, variances, total, _ = principal_components(batches, q)
        floor = max(_FLOOR * total / d, 1e-12)
        variances = variances.clamp(min=floor)
        rest = max((total - float(variances.sum())) / max(1, d - q), floor)
        self.mean.copy_(mean)
        self.components.copy_(components)
        self.variances.copy_(variances)
        self.noise_variance.fill_(rest)
        self.total_variance.fill_(max(total, floor * d))

    def _scores(self, x: Tensor) -> Tensor:
        return (x.flatten(1) - self.mean) @ self.components.T

    def _encode(self, x: Tensor, condition: Condition) -> Distribution:
        return Delta(self._scores(x))

    def _linear(self, b: Tensor) -> Tensor:
        return (self.mean + b @ self.components).view(-1, *self.image_spec.size)

    def _drawn(self, noise: Noise) -> Tensor:
        """Scores of new samples, [n, q]."""
        return self.variances.sqrt() * noise.normal(*self.latent_shape, stream=_SCORES, dtype=self.dtype)


class PcaShape(Pca, DensityModel):
    """Probabilistic PCA: x ~ N(mean, P' diag(variances) P + s^2 (I - P' P)), s^2 the mean variance of the directions left out.

    That is Tipping and Bishop's N(mean, W W' + s^2 I) with W = P' (diag(variances) - s^2 I)^(1/2), their maximum likelihood.

    >>> import medgen
    >>> spec = medgen.ImageSpec(channels=3, shape=(), content="features")
    >>> medgen.create("pca_shape", spec, components=2).log_prob(torch.zeros(1, 3))  # N(0, I) until it is trained: -3/2 ln(2 pi)
    tensor([-2.7568])
    """

    log_prob_kind: Literal["exact", "bound", "estimate"] = "exact"

    def _decode(self, z: Tensor, condition: Condition) -> Tensor:
        return self._linear(z)

    def _sample(self, n: int, condition: Condition, noise: Noise) -> Tensor:
        eps = noise.normal(self.image_spec.numel, stream=_NOISE, dtype=self.dtype)
        eps = eps - (eps @ self.components.T) @ self.components
        return self._linear(self._drawn(noise)) + (self.noise_variance.sqrt() * eps).view(-1, *self.image_spec.size)

    def _log_prob(self, x: Tensor, condition: Condition, noise: Noise, importance_samples: int) -> Tensor:
        q, d = self.config.components, self.image_spec.numel
        with torch.autocast(x.device.type, enabled=False):
            centred = x.flatten(1) - self.mean
            b = centred @ self.components.T
            along = (b.square() / self.variances).sum(1) + self.variances.log().sum()
            rest = (centred - b @ self.components).square().sum(1)
            across = rest / self.noise_variance + (d - q) * self.noise_variance.log() if d > q else 0.0
            return -0.5 * (along + across + d * math.log(2.0 * math.pi))


class PcaMasks(Pca):
    """PCA of one-hot label maps: decoded maps are mean + P' b, cut at 0 and divided by their sum over classes.

    Samples lie in the space of the components. It has no density: that of a cut Gaussian has no closed form.
    """

    output_range = (0.0, 1.0)

    def _decode(self, z: Tensor, condition: Condition) -> Tensor:
        # The classes of mean + P' b sum to 1 at every position, hence to at least 1 after the cut; until it is trained they may sum to 0.
        shares = self._linear(z).clamp(min=1e-12)
        return shares / shares.sum(1, keepdim=True)

    def _sample(self, n: int, condition: Condition, noise: Noise) -> Tensor:
        return self._decode(self._drawn(noise), condition)
