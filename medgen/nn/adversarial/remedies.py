"""Remedies against instability and mode collapse, each a small part of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from medgen.interfaces import Noise

__all__ = ["FeatureDistance", "ImagePool", "InstanceNoise", "MinibatchDiscrimination", "VirtualBatchNorm", "diversity", "feature_matching"]

FeatureDistance = Literal["squared", "absolute", "paired"]


def feature_matching(real: Sequence[Tensor], fake: Sequence[Tensor], distance: FeatureDistance = "squared") -> Tensor:
    """Distance between a discriminator's features of data and of generated samples, averaged over its layers.

    squared: ||mean f(x) - mean f(G(z))||^2, the means over the batch (Improved Techniques for Training GANs, Salimans et al., 2016 |
    https://arxiv.org/abs/1606.03498). absolute: the mean absolute difference of the two means, as in its code. paired: the mean absolute
    difference sample by sample, where sample i of both belong together (pix2pixHD, Wang et al., 2018 | https://arxiv.org/abs/1711.11585).

    Args:
        real, fake: per layer [B, ...].
        distance: which.

    >>> feature_matching([torch.tensor([[0.0], [2.0]])], [torch.tensor([[4.0], [4.0]])])
    tensor(9.)
    """
    total = torch.zeros((), device=real[0].device, dtype=real[0].dtype)
    for a, b in zip(real, fake, strict=True):
        target = a.detach()
        if distance == "paired":
            total = total + (target - b).abs().mean()
        else:
            difference = (target.mean(0) - b.mean(0)).flatten()
            total = total + (difference.square().sum() if distance == "squared" else difference.abs().mean())
    return total / len(real)


@dataclass(frozen=True)
class InstanceNoise:
    """x + sigma_t n with n ~ N(0, I), for data and generated samples alike; sigma_t falls linearly to 0 and stays there.

    sigma_t = sigma max(0, 1 - t / until), t the part of the training that is done. Both distributions so overlap everywhere.
    Paper: Amortised MAP Inference for Image Super-resolution (Sonderby et al., 2017) | https://arxiv.org/abs/1610.04490

    Args:
        sigma: at the start, in units of x.
        until: part of the training after which there is none, in (0, 1].

    >>> [InstanceNoise(0.2, until=0.5).at(t) for t in (0.0, 0.25, 0.5, 1.0)]
    [0.2, 0.1, 0.0, 0.0]
    """

    sigma: float
    until: float = 1.0

    def at(self, fraction: float) -> float:
        """sigma_t at a part of the training, in [0, 1]."""
        return self.sigma * max(0.0, 1.0 - fraction / self.until)

    def add(self, x: Tensor, fraction: float, noise: Noise, stream: int) -> Tensor:
        """x [B, C, *S] with noise; x itself where sigma_t is 0."""
        sigma = self.at(fraction)
        return x if sigma == 0.0 else x + sigma * noise.normal(*x.shape[1:], stream=stream, dtype=x.dtype)


class MinibatchDiscrimination(nn.Module):
    """Features f [B, A] -> [f, o] [B, A + K]: how alike each sample is to the others of its batch.

    M_i = f_i T in R^{K x D};  o_k(i) = sum_{j != i} exp(-||M_{i,k} - M_{j,k}||_1) + b_k.
    A batch of equal samples has the largest o, so that a discriminator sees a collapse that no single sample shows.
    Paper: Improved Techniques for Training GANs (Salimans et al., 2016) | https://arxiv.org/abs/1606.03498

    Args:
        features: A.
        kernels: K.
        width: D.
    """

    def __init__(self, features: int, kernels: int, width: int = 5) -> None:
        super().__init__()
        self.kernels, self.width = kernels, width
        self.weight = nn.Parameter(torch.randn(features, kernels * width) / math.sqrt(features))
        self.bias = nn.Parameter(torch.zeros(kernels))

    def forward(self, f: Tensor) -> Tensor:
        """[B, A] -> [B, A + K]."""
        m = (f @ self.weight).view(len(f), self.kernels, self.width)
        alike = torch.exp(-(m[:, None] - m[None]).abs().sum(3))
        return torch.cat((f, alike.sum(1) - 1.0 + self.bias), 1)  # less the pair of a sample with itself, which is 1


class ImagePool(nn.Module):
    """A history of generated samples, from which a discriminator sees half: it does not forget what the generator has left behind.

    Until `capacity` samples are stored, each is stored and given back. From then on each row, with probability 1/2, takes the place of a
    stored sample, which is given back instead; else the row itself is given back. The rows of one batch take different places, and a batch
    that still fills the pool takes none.
    Paper: Learning from Simulated and Unsupervised Images through Adversarial Training (Shrivastava et al., 2017) |
    https://arxiv.org/abs/1612.07828

    What is stored is part of the state dict, and every choice comes from the noise, so that a resumed training goes on to the bit. On
    several devices all see the pool of the first.

    Args:
        capacity: K; 0 gives every sample back as it is.
        size: (C, *S) of a sample.

    >>> pool, noise = ImagePool(2, (1,)), Noise.of(0, range(2))
    >>> pool(torch.tensor([[1.0], [2.0]]), noise).tolist(), sorted(pool.images.flatten().tolist())
    ([[1.0], [2.0]], [1.0, 2.0])
    """

    images: Tensor
    count: Tensor

    def __init__(self, capacity: int, size: Sequence[int]) -> None:
        super().__init__()
        self.capacity = capacity
        self.register_buffer("images", torch.zeros(capacity, *size))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def forward(self, x: Tensor, noise: Noise, stream: int = 0) -> Tensor:
        """[B, C, *S] -> what the discriminator is shown, [B, C, *S], without gradients; draws from `stream` and the one after it."""
        x, n = x.detach(), min(len(x), self.capacity)
        if n == 0:
            return x
        row = torch.arange(n, device=x.device)
        full = self.count == self.capacity
        any_order = noise[:1].uniform(self.capacity, stream=stream)[0].argsort()
        place = torch.where(full, any_order[:n], (self.count + row) % self.capacity)
        swapped = full & (noise[:n].uniform(stream=stream + 1) < 0.5)
        stored = swapped | (self.count + row < self.capacity)
        before, shape = self.images[place], (-1, *[1] * (x.dim() - 1))
        self.images[place] = torch.where(stored.view(shape), x[:n].to(before.dtype), before)
        self.count.copy_((self.count + n).clamp(max=self.capacity))
        return torch.cat((torch.where(swapped.view(shape), before.to(x.dtype), x[:n]), x[n:]))

    def extra_repr(self) -> str:
        """Shown by repr."""
        return f"capacity={self.capacity}"


class VirtualBatchNorm(nn.Module):
    """Batch normalisation by a fixed reference batch of R samples, of which x is one more.

    mean = (R m_ref + m_x) / (R + 1), likewise the second moment; m_x is over the positions of x alone, so that the result for x depends on
    no other sample but the reference. The first R rows of the input are the reference batch, and are normalised by their own moments.
    Paper: Improved Techniques for Training GANs (Salimans et al., 2016) | https://arxiv.org/abs/1606.03498

    Args:
        channels: C.
        reference: R.
        eps: added to the variance.
    """

    def __init__(self, channels: int, reference: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.reference, self.eps = reference, eps
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[R + B, C, *S] -> the same shape."""
        r, axes = self.reference, tuple(range(2, x.dim()))
        first = x.mean(axes, keepdim=True) if axes else x
        second = x.square().mean(axes, keepdim=True) if axes else x.square()
        mean_ref, square_ref = first[:r].mean(0, keepdim=True), second[:r].mean(0, keepdim=True)
        mean = torch.cat((mean_ref.expand_as(first[:r]), (r * mean_ref + first[r:]) / (r + 1)))
        square = torch.cat((square_ref.expand_as(second[:r]), (r * square_ref + second[r:]) / (r + 1)))
        shape = (-1, *[1] * len(axes))
        scale = self.weight.view(shape) * torch.rsqrt((square - mean.square()).clamp(min=0.0) + self.eps)
        return (x - mean) * scale + self.bias.view(shape)

    def extra_repr(self) -> str:
        """Shown by repr."""
        return f"{len(self.weight)}, reference={self.reference}"


@torch.no_grad()
def diversity(fake: Tensor, real: Tensor, classes: Tensor | None = None, real_classes: Tensor | None = None) -> Tensor:
    """sqrt(sum of variances over the batch of `fake` / that of `real`): 1 as diverse as the data, 0 all samples equal.

    The ratio of root mean square distances between two samples. `real` without variance gives 1. With classes, variances are about the
    mean of each class: samples that differ by their class alone count as equal.

    Args:
        fake, real: [B, ...].
        classes: of `fake`, int64 [B].
        real_classes: of `real`; by default the same.

    >>> diversity(torch.zeros(4, 2), torch.randn(4, 2))
    tensor(0.)
    >>> fake, real = torch.tensor([[1.0], [1.0], [5.0], [5.0]]), torch.tensor([[0.0], [1.0], [5.0], [6.0]])
    >>> diversity(fake, real, torch.tensor([0, 0, 1, 1]))
    tensor(0.)
    """
    spread_fake = _spread(fake, classes)
    spread_real = _spread(real, classes if real_classes is None else real_classes)
    return torch.where(spread_real > 0, (spread_fake / spread_real).sqrt(), torch.ones_like(spread_real))


def _spread(x: Tensor, classes: Tensor | None) -> Tensor:
    x = x.detach().float().flatten(1)
    if classes is None:
        return x.var(0, correction=0).sum()
    same = (classes[:, None] == classes[None]).to(x.dtype)
    return (x - same @ x / same.sum(1, keepdim=True)).square().mean(0).sum()
