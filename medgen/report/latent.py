"""Walks through a latent space: interpolations, the 2-D manifold, traversals of single dimensions. Pure functions of a model."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import torch
from torch import Tensor

from medgen.interfaces import Condition, LatentModel, evaluating

__all__ = ["Posterior", "decode", "interpolate", "manifold", "posterior_of", "principal_plane", "quantiles", "traversals"]

_BATCH = 32


@dataclass(frozen=True)
class Posterior:
    """q(z|x) of N samples, as numbers.

    Args:
        mean: [N, *latent_shape].
        sd: the same shape; zeros where the encoder is deterministic.
    """

    mean: Tensor
    sd: Tensor

    @property
    def random(self) -> bool:
        """Whether the model has posteriors, and with them a prior N(0, I), rather than points."""
        return bool((self.sd > 0).any())

    def weights(self) -> tuple[str, Tensor]:
        """How much each latent value carries, with the name of the measure, [prod(latent_shape)].

        KL_j = (mean_j^2 + sd_j^2 - 1 - ln sd_j^2) / 2 against N(0, 1), averaged over samples; of points the variance of the mean.
        """
        mean, variance = self.mean.flatten(1), self.sd.flatten(1).square()
        if self.random:
            return "KL to N(0, 1) in nats", 0.5 * (mean.square() + variance - 1 - variance.clamp_min(1e-30).log()).mean(0)
        return "variance", mean.var(0, correction=0)


def posterior_of(model: LatentModel, x: Tensor, condition: Condition) -> Posterior:
    """Means and standard deviations of q(z | x, condition), x [N, C, *S] in model units."""
    means, sds = [], []
    with evaluating(model):
        for start in range(0, len(x), _BATCH):
            rows = slice(start, start + _BATCH)
            q = model.encode(x[rows], condition=condition[rows])
            means.append(q.mean.float().cpu())
            sds.append(_sd(q, means[-1]))
    return Posterior(torch.cat(means), torch.cat(sds))


def _sd(q: torch.distributions.Distribution, mean: Tensor) -> Tensor:
    try:
        return q.variance.float().sqrt().cpu().expand_as(mean)
    except NotImplementedError:  # torch leaves the variance of some distributions open
        return torch.zeros_like(mean)


def decode(model: LatentModel, z: Tensor, condition: Condition) -> Tensor:
    """x [N, C, *S] of z [N, *latent_shape], in batches, on the CPU."""
    with evaluating(model):
        parts = [
            model.decode(z[start : start + _BATCH], condition=condition[start : start + _BATCH]).cpu() for start in range(0, len(z), _BATCH)
        ]
    return torch.cat(parts)


def interpolate(
    model: LatentModel, a: Tensor, b: Tensor, t: Tensor, *, condition_a: Condition | None = None, condition_b: Condition | None = None
) -> Tensor:
    """decode(t z_a + (1 - t) z_b), with z the posterior means: at t = 1 the reconstruction of a, at t = 0 that of b.

    Args:
        model: whose latent space is crossed.
        a, b: one sample each, [C, *S] in model units.
        t: [K].
        condition_a, condition_b: of one sample each. Floating slots are interpolated too; labels, and which slots are present, must agree.

    Returns:
        [K, C, *S].

    >>> import medgen
    >>> model = medgen.create("vae", medgen.ImageSpec(channels=1, shape=(8, 8)), latent_dim=2, channels=[4]).eval()
    >>> a, b = torch.rand(2, 1, 8, 8)
    >>> ends = interpolate(model, a, b, torch.tensor([1.0, 0.0]))
    >>> torch.allclose(ends, model.reconstruct(torch.stack([a, b])), atol=1e-5)
    True
    """
    first, second = condition_a or Condition(), condition_b or Condition()
    with evaluating(model):
        z_a = model.encode(a[None], condition=first).mean
        z_b = model.encode(b[None], condition=second).mean
    t = t.to(z_a)
    return decode(model, _mixed(z_a, z_b, t), _between(first, second, t.cpu()))


def _mixed(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    weight = t.reshape(-1, *[1] * (a.dim() - 1))
    return weight * a + (1 - weight) * b


def _between(a: Condition, b: Condition, t: Tensor) -> Condition:
    """Conditions on the way from b to a."""
    if differ := [k for k in a.values if not a.values[k].is_floating_point() and not torch.equal(a.values[k], b.values[k])]:
        raise ValueError(f"the samples must agree in the conditions {differ}: classes cannot be interpolated.")
    mixed = {k: _mixed(v, b.values[k], t.to(v)) if v.is_floating_point() else v.expand(len(t), *v.shape[1:]) for k, v in a.values.items()}
    return Condition(mixed, {k: v.expand(len(t)) for k, v in a.present.items()})


def quantiles(n: int) -> Tensor:
    """The quantiles (i + 1/2) / n of N(0, 1), [n].

    >>> quantiles(3)
    tensor([-0.9674,  0.0000,  0.9674])
    """
    return torch.tensor([NormalDist().inv_cdf((i + 0.5) / n) for i in range(n)])


def manifold(model: LatentModel, n: int, condition: Condition, *, centre: Tensor | None = None, scale: Tensor | None = None) -> Tensor:
    """The decoded grid of quantiles of N(0, 1) of a 2-D latent space: z1 grows to the right, z2 upwards.

    Args:
        model: with latent_shape (2,).
        n: points per axis.
        condition: of one sample, used for all; empty for none.
        centre, scale: of the latents where they do not follow N(0, I), [2].

    Returns:
        [n * n, C, *S], row by row from the top.
    """
    q = quantiles(n)
    z = torch.stack([q.repeat(n), q.flip(0).repeat_interleave(n)], 1)
    if centre is not None and scale is not None:
        z = centre + scale * z
    return decode(model, z, condition.repeat(n * n))


def traversals(model: LatentModel, dims: Tensor, values: Tensor, condition: Condition, *, base: Tensor, scale: Tensor) -> Tensor:
    """One latent value at a time set to base + scale * value, the others left at base.

    Args:
        model: whose decoder is shown.
        dims: places in the flattened latent, int64 [R].
        values: [K].
        condition: of one sample, used for all; empty for none.
        base, scale: flattened latents, [prod(latent_shape)].

    Returns:
        [R * K, C, *S], one row of K per place.
    """
    z = base.repeat(len(dims) * len(values), 1)
    places = dims.repeat_interleave(len(values))
    z[torch.arange(len(z)), places] += scale[places] * values.repeat(len(dims))
    return decode(model, z.reshape(-1, *model.latent_shape), condition.repeat(len(z)))


def principal_plane(mean: Tensor) -> tuple[Tensor, tuple[float, float]]:
    """The first two principal components of latents [N, D] and the shares of variance that they explain.

    >>> points, shares = principal_plane(torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0], [1.0, 0.0, 0.0]]))
    >>> tuple(points.shape), shares
    ((3, 2), (1.0, 0.0))
    """
    centred = (mean - mean.mean(0)).double()
    u, s, vt = torch.linalg.svd(centred, full_matrices=False)
    signs = torch.where(vt[:2].gather(1, vt[:2].abs().argmax(1, keepdim=True)) < 0, -1.0, 1.0).T  # the same picture on every machine
    points = u[:, :2] * s[:2] * signs
    total = float(s.square().sum()) or 1.0
    return points.float(), (float(s[0] ** 2) / total, float(s[1] ** 2) / total)
