"""How latents stand to attributes: interpretability, MIG, modularity, SAP, SCC.

Each takes latents z [N, L] and attributes a [N, A], float64, and gives one figure per attribute [A] or one number.
After Attribute-based Regularization of Latent Spaces for Variational Auto-Encoders (Pati, Lerch, 2021) | https://arxiv.org/abs/2004.05485
"""

from __future__ import annotations

import math

import torch
from scipy import stats
from torch import Tensor

from medgen.evaluation import metric_plan

__all__ = ["attribute_correlation", "attribute_r2", "bins_for", "mig", "modularity", "mutual_information", "sap"]

_LEAST = 20
_SIGNIFICANT = 0.05
_MI = {"mutual information": "of histograms with equally full bins, sqrt(N / 5) of them, 2 to 20; a bin per value where there are fewer"}


def bins_for(n: int) -> int:
    """sqrt(n / 5), between 2 and 20: about five samples per cell of a joint histogram.

    >>> bins_for(100), bins_for(10_000)
    (4, 20)
    """
    return min(20, max(2, int(math.sqrt(n / 5))))


def _binned(values: Tensor) -> Tensor:
    """Bin numbers of each column of [N, K], int64: its different values where there are few, else equally full bins."""
    out, bins = torch.empty(values.shape, dtype=torch.int64), bins_for(len(values))
    quantiles = torch.arange(1, bins, dtype=values.dtype) / bins
    for k, column in enumerate(values.T.contiguous()):
        levels, inverse = column.unique(return_inverse=True)
        edges = torch.quantile(column, quantiles).unique()
        out[:, k] = inverse if len(levels) <= bins else torch.bucketize(column, edges, right=True)
    return out


def _entropy(counts: Tensor) -> Tensor:
    share = counts / counts.sum()
    return -torch.special.xlogy(share, share).sum()


def mutual_information(z: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """I(z_l; a_k) [L, A] and H(a_k) [A] in nats, of binned values: H(z) + H(a) - H(z, a).

    >>> coin = torch.tensor([0.0, 0.0, 1.0, 1.0]).repeat(5)[:, None]
    >>> mutual_information(coin, coin)[0] / math.log(2)
    tensor([[1.]])
    """
    left, right = _binned(z), _binned(a)
    h_left, h_right = (torch.stack([_entropy(torch.bincount(c).to(z)) for c in binned.T]) for binned in (left, right))
    width = int(right.max()) + 1
    joint = torch.stack([torch.stack([_entropy(torch.bincount(i * width + j).to(z)) for j in right.T]) for i in left.T])
    return (h_left[:, None] + h_right - joint).clamp(min=0.0), h_right


def _squared_correlations(z: Tensor, a: Tensor) -> Tensor:
    """r^2 [L, A], which is the R^2 of the regression on one latent; 0 of what is constant."""
    left, right = (v - v.mean(0) for v in (z, a))
    left, right = (v / v.norm(dim=0).clamp(min=1e-300) for v in (left, right))
    return (left.T @ right).square()


def _lead(figures: Tensor) -> Tensor:
    """Largest minus second largest over the latents, [A]; with one latent the second is 0."""
    best = figures.sort(0, descending=True).values
    return best[0] - (best[1] if len(best) > 1 else 0.0)


@metric_plan(
    recipe={"definition": "R^2 of a linear regression on the latent value of most mutual information", **_MI}, limits=(0, 1), least=_LEAST
)
def attribute_r2(z: Tensor, a: Tensor) -> Tensor:
    """Interpretability: R^2 of the regression of each attribute on the latent value that has most mutual information with it, [A].

    >>> a = torch.linspace(0, 1, 50, dtype=torch.float64)[:, None]
    >>> round(attribute_r2(torch.cat([torch.sin(37 * a), 2 - 3 * a], 1), a).item(), 6)
    1.0
    """
    best = mutual_information(z, a)[0].argmax(0, keepdim=True)
    return _squared_correlations(z, a).gather(0, best)[0]


@metric_plan(
    recipe={"definition": "(largest - second largest mutual information) / entropy of the attribute", **_MI}, limits=(0, 1), least=_LEAST
)
def mig(z: Tensor, a: Tensor) -> Tensor:
    """Mutual information gap of each attribute: (I_1 - I_2) / H, over the latent values, [A]; 0 of a constant attribute.

    Paper: Isolating Sources of Disentanglement in Variational Autoencoders (Chen et al., 2018) | https://arxiv.org/abs/1802.04942
    """
    information, entropy = mutual_information(z, a)
    return torch.where(entropy > 0, _lead(information) / entropy.clamp(min=1e-300), 0.0)


@metric_plan(recipe={"definition": "mean over latents of 1 - (sum I^2 - max I^2) / (max I^2 (A - 1))", **_MI}, limits=(0, 1), least=_LEAST)
def modularity(z: Tensor, a: Tensor) -> float:
    """1 - (sum_k I_lk^2 - max_k I_lk^2) / (max_k I_lk^2 (A - 1)), averaged over latent values l: 1 where each tells of one attribute only.

    A latent value that tells of none counts 0; with a single attribute it is 1.

    Paper: Learning Deep Disentangled Embeddings with the F-Statistic Loss (Ridgeway, Mozer, 2018) | https://arxiv.org/abs/1802.05312
    """
    squared = mutual_information(z, a)[0].square()
    if squared.shape[1] == 1:
        return 1.0
    most = squared.max(1).values
    spill = (squared.sum(1) - most) / (most.clamp(min=1e-300) * (squared.shape[1] - 1))
    return float(torch.where(most > 0, 1.0 - spill, 0.0).mean())


@metric_plan(recipe={"definition": "largest - second largest squared correlation"}, limits=(0, 1), least=_LEAST)
def sap(z: Tensor, a: Tensor) -> Tensor:
    """Separated attribute predictability: the gap between the two largest squared correlations with latent values, [A].

    Paper: Variational Inference of Disentangled Latent Concepts from Unlabeled Observations (Kumar et al., 2018) |
    https://arxiv.org/abs/1711.00848
    """
    return _lead(_squared_correlations(z, a))


@metric_plan(recipe={"definition": "largest |Spearman's rho| over the latent values, 0 where p > 0.05"}, limits=(0, 1), least=_LEAST)
def attribute_correlation(z: Tensor, a: Tensor) -> Tensor:
    """SCC: the largest |Spearman's rank correlation| of each attribute with a latent value, [A]; 0 where its p-value is above 0.05.

    >>> a = torch.linspace(0.1, 1, 50, dtype=torch.float64)[:, None]
    >>> round(attribute_correlation(-a.log(), a).item(), 6)
    1.0
    """
    ranks = [torch.from_numpy(stats.rankdata(v.numpy(), axis=0)) for v in (z, a)]
    rho = _squared_correlations(*ranks).sqrt().clamp(max=1.0).max(0).values
    freedom = len(z) - 2
    t = rho * (freedom / (1.0 - rho.square()).clamp(min=1e-300)).sqrt()
    return torch.where(torch.from_numpy(2.0 * stats.t.sf(t.numpy(), freedom)) <= _SIGNIFICANT, rho, 0.0)
