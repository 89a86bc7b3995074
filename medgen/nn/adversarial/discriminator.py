"""Discriminators: whole image, patches (PatchGAN), several scales; of vectors, signals, images and volumes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgen.errors import ConfigError
from medgen.nn.adversarial.regularisers import spectral_norm
from medgen.nn.adversarial.remedies import MinibatchDiscrimination
from medgen.nn.encoder import level_shapes
from medgen.nn.layers import _CONV, group_norm

__all__ = ["Discriminator", "Judgement", "MultiScaleDiscriminator", "Normalisation", "normalisation"]

Normalisation = Literal["none", "batch", "instance", "group"]

_BATCH: dict[int, type[nn.Module]] = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_INSTANCE: dict[int, type[nn.Module]] = {1: nn.InstanceNorm1d, 2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_SLOPE = 0.2  # of leaky rectifiers


@dataclass(frozen=True)
class Judgement:
    """What a discriminator says of B samples.

    Args:
        logits: per scale [B, 1] or, of patches, [B, 1, *P].
        features: of the intermediate layers, from the input on, of all scales.
        classes: logits of the classes [B, K], of one with a class head.
    """

    logits: tuple[Tensor, ...]
    features: tuple[Tensor, ...] = ()
    classes: Tensor | None = field(default=None)

    @property
    def score(self) -> Tensor:
        """One number per sample: the mean over positions and scales, [B]."""
        return torch.stack([x.flatten(1).mean(1) for x in self.logits]).mean(0)


def normalisation(kind: str, dim: int, channels: int) -> nn.Module:
    """The layer of that name over `dim` axes.

    >>> normalisation("batch", 2, 8)
    BatchNorm2d(8, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True)
    """
    if kind == "batch":
        return _BATCH[dim](channels)
    if kind == "instance" and dim:
        return _INSTANCE[dim](channels, affine=True)
    return group_norm(channels) if kind == "group" else nn.Identity()


class Discriminator(nn.Module):
    """x [B, C, *S] (and an embedding [B, E]) -> `Judgement`.

    image: strided convolutions down to one logit per image; the embedding e enters by projection, logit + e^T V h / sqrt(features).
    patch: PatchGAN, one logit per overlapping patch: 4-wide kernels, all but the last of stride 2, whose receptive field is 70 for four
    levels; the embedding enters as constant channels beside x. Vectors: a multi-layer perceptron of (x, e).
    Papers: Image-to-Image Translation with Conditional Adversarial Networks (Isola et al., 2017) | https://arxiv.org/abs/1611.07004;
    cGANs with Projection Discriminator (Miyato, Koyama, 2018) | https://arxiv.org/abs/1802.05637

    Args:
        in_channels: C.
        shape: S; () for vectors.
        channels: features at each resolution; layer widths for vectors.
        kind: "image" or "patch"; vectors have one kind.
        embedding: E; 0 for none.
        classes: K, of a second head that tells the class; 0 for none.
        joint: the class logits l are the only head, and the logit is logsumexp(l): the K+1 classes of Salimans et al. (2016), in which
            D(x) = Z / (Z + 1) with Z = sum_k exp(l_k).
        norm: of all layers but the first.
        spectral: divide every weight by its largest singular value; see `update_spectral_norms`.
        kernels: of minibatch discrimination, before the last layer; 0 for none. Not for patches.
        bias: of the last layer; Wasserstein critics need none.

    Raises:
        ConfigError: no channels, classes or kernels with patches, joint without classes.
    """

    def __init__(
        self,
        in_channels: int,
        shape: Sequence[int],
        channels: Sequence[int],
        *,
        kind: Literal["image", "patch"] = "image",
        embedding: int = 0,
        classes: int = 0,
        joint: bool = False,
        norm: Normalisation = "none",
        spectral: bool = False,
        kernels: int = 0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        dim = len(shape)
        self.patch, self.joint, self.dim = kind == "patch" and dim > 0, joint, dim
        if not channels:
            raise ConfigError("a discriminator needs at least one number of `channels`; got none.")
        if self.patch and (classes or kernels):
            raise ConfigError("a discriminator of patches has neither classes nor minibatch discrimination; use kind 'image'.")
        if joint and not classes:
            raise ConfigError("`joint` needs `classes`; got none.")
        self._wrap = spectral_norm if spectral else _same
        self.beside = embedding if self.patch or dim == 0 else 0
        widths = [in_channels + self.beside, *channels]
        self.stages = nn.ModuleList(self._stage(dim, a, b, level, len(channels), norm) for level, (a, b) in enumerate(pairwise(widths)))
        if self.patch:
            self.head: nn.Module = self._wrap(_CONV[dim](channels[-1], 1, 4, padding=2, bias=bias))
            self.minibatch, self.class_head, self.projection = None, None, None
            return
        features = channels[-1] * math.prod(level_shapes(shape, len(channels))[-1])
        self.minibatch = MinibatchDiscrimination(features, kernels) if kernels else None
        self.projection = self._wrap(nn.Linear(embedding, features, bias=False)) if embedding and dim else None
        self._scale = 1.0 / math.sqrt(features)
        features += kernels
        self.head = nn.Identity() if joint else self._wrap(nn.Linear(features, 1, bias=bias))
        self.class_head = self._wrap(nn.Linear(features, classes)) if classes else None

    def _stage(self, dim: int, a: int, b: int, level: int, levels: int, norm: str) -> nn.Module:
        kind = "none" if level == 0 else norm
        bias = kind in ("none", "group")  # the others take it away again
        if dim == 0:
            layer: nn.Module = nn.Linear(a, b, bias=bias)
        elif self.patch:
            layer = _CONV[dim](a, b, 4, stride=2 if level + 1 < levels else 1, padding=2, bias=bias)
        else:
            layer = _CONV[dim](a, b, 3, stride=1 if level == 0 else 2, padding=1, bias=bias)
        return nn.Sequential(self._wrap(layer), normalisation(kind, dim, b), nn.LeakyReLU(_SLOPE))

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Judgement:
        """[B, C, *S], [B, E] -> logits, features, classes."""
        features, h = [], x
        if self.beside and embedding is not None:
            constant = embedding.view(*embedding.shape, *[1] * self.dim).expand(-1, -1, *x.shape[2:])
            h = torch.cat((x, constant.to(x.dtype)), 1)
        for stage in self.stages:
            h = stage(h)
            features.append(h)
        if self.patch:
            return Judgement((self.head(h),), tuple(features))
        h = h.flatten(1)
        projected = None if self.projection is None or embedding is None else (self.projection(embedding) * h).sum(1, keepdim=True)
        if self.minibatch is not None:
            h = self.minibatch(h)
        classes = None if self.class_head is None else self.class_head(h)
        logit = torch.logsumexp(classes, 1, keepdim=True) if self.joint and classes is not None else self.head(h)
        return Judgement((logit if projected is None else logit + self._scale * projected,), tuple(features), classes)


class MultiScaleDiscriminator(nn.Module):
    """Several discriminators, each on half the resolution of the one before; one `Judgement` of all.

    Paper: High-Resolution Image Synthesis and Semantic Manipulation with Conditional GANs (Wang et al., 2018) |
    https://arxiv.org/abs/1711.11585

    Args:
        scales: how many, from the full resolution on.
        in_channels, shape, channels, options: those of `Discriminator`, which must have neither classes nor joint.

    Raises:
        ConfigError: vectors, or classes.
    """

    def __init__(self, scales: int, in_channels: int, shape: Sequence[int], channels: Sequence[int], **options: object) -> None:
        super().__init__()
        self.dim = len(shape)
        if self.dim == 0:
            raise ConfigError("vectors have one scale only; use `Discriminator`.")
        if options.get("classes"):
            raise ConfigError("a discriminator of several scales has no classes; use `Discriminator`.")
        sizes = level_shapes(shape, scales)
        self.scales = nn.ModuleList(Discriminator(in_channels, size, channels, **options) for size in sizes)  # type: ignore[arg-type]

    def forward(self, x: Tensor, embedding: Tensor | None = None) -> Judgement:
        """[B, C, *S], [B, E] -> logits and features of all scales."""
        pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[self.dim - 1]
        judgements = []
        for number, scale in enumerate(self.scales):
            if number:
                x = pool(x, 3, stride=2, padding=1, count_include_pad=False)
            judgements.append(scale(x, embedding))
        return Judgement(tuple(t for j in judgements for t in j.logits), tuple(t for j in judgements for t in j.features))


def _same(layer: nn.Module) -> nn.Module:
    return layer
