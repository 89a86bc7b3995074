"""Structural similarity of pairs: global, windowed, multi-scale. [B, C, *S] x [B, C, *S] -> [B], in 1-D, 2-D and 3-D.

SSIM = l c s with l = (2 mu_x mu_y + C1) / (mu_x^2 + mu_y^2 + C1), c = (2 s_x s_y + C2) / (s_x^2 + s_y^2 + C2) and
s = (s_xy + C3) / (s_x s_y + C3); C1 = (0.01 L)^2, C2 = (0.03 L)^2, C3 = C2 / 2, L = b - a of `value_range`. With this C3,
c s = (2 s_xy + C2) / (s_x^2 + s_y^2 + C2). Averaged over channels.

Paper: Image Quality Assessment: From Error Visibility to Structural Similarity (Wang et al., 2004) | https://doi.org/10.1109/TIP.2003.819861
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from medgen.errors import DataError
from medgen.evaluation.paired import Range, checked_pair, empty, masked_mean
from medgen.evaluation.plan import metric_plan

__all__ = ["MS_WEIGHTS", "TAPS", "ms_ssim", "scales_that_fit", "ssim", "ssim_global"]

K1, K2, SD, TAPS = 0.01, 0.03, 1.5, 11
MS_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
"""Of Wang 2003, from the finest scale to the coarsest; they sum to 1."""

_CONSTANTS = {"K1": K1, "K2": K2, "L": "b - a of value_range", "origin": "a of value_range", "channels": "mean"}
_WINDOW = {**_CONSTANTS, "window": f"Gaussian, {TAPS} taps, sd {SD}, valid positions only", "covariance": "1/N (of the window)"}


@metric_plan(recipe={**_CONSTANTS, "window": "none: one statistic per sample and channel", "covariance": "1/(N-1)"}, limits=(-1.0, 1.0))
def ssim_global(real: Tensor, fake: Tensor, *, value_range: Range = (0.0, 1.0), mask: Tensor | None = None) -> Tensor:
    """l c s of the whole sample (or of its mask), with variances and covariance over N - 1; [B].

    Args:
        real: [B, C, *S].
        fake: the same shape.
        value_range: (a, b).
        mask: True where voxels count, [B, 1 or C, *S].

    Raises:
        DataError: shapes that differ, values that are not finite, or fewer than two voxels.

    >>> x = torch.tensor([[[0.0, 1.0]]])
    >>> ssim_global(x, x).tolist(), ssim_global(x, 1 - x).round(decimals=4).tolist()
    ([1.0], [-0.9982])
    """
    real, fake, mask = checked_pair(real, fake, value_range, mask)
    weight = torch.ones_like(real) if mask is None else mask
    n = weight.flatten(2).sum(2)
    if bool((n < 2).any()):
        raise DataError("global SSIM needs at least two voxels in every sample and channel.")
    x, y, w = (real - value_range[0]).flatten(2), (fake - value_range[0]).flatten(2), weight.flatten(2)
    mu_x, mu_y = (w * x).sum(2) / n, (w * y).sum(2) / n
    dx, dy = x - mu_x[..., None], y - mu_y[..., None]
    var_x, var_y, cov = ((w * a * b).sum(2) / (n - 1) for a, b in ((dx, dx), (dy, dy), (dx, dy)))
    luminance, structure = _terms((mu_x, mu_y), (var_x, var_y), cov, value_range[1] - value_range[0])
    return (luminance * structure).mean(1)


@metric_plan(recipe=_WINDOW, limits=(-1.0, 1.0))
def ssim(real: Tensor, fake: Tensor, *, value_range: Range = (0.0, 1.0), mask: Tensor | None = None) -> Tensor:
    """Mean over windows of l c s, each statistic weighted by an 11-tap Gaussian of sd 1.5 along every axis; [B].

    Only windows that lie wholly inside the image count. Under a mask those count whose centre is in it; their statistics still see
    voxels outside. The same definition as MONAI, and as scikit-image with gaussian_weights=True, use_sample_covariance=False;
    torchmetrics has the same windows, and averages over windows on reflected borders as well. Arguments as `ssim_global`.

    Raises:
        DataError: as `ssim_global`; or an axis shorter than 11.

    >>> x = torch.linspace(0, 1, 16).expand(1, 1, 16, 16)
    >>> ssim(x, x).tolist(), ssim(x, x.flip(-1)).round(decimals=4).tolist()
    ([1.0], [-0.8266])
    """
    real, fake, mask = checked_pair(real, fake, value_range, mask)
    _check_size(real, 1)
    luminance, structure = _windowed(real - value_range[0], fake - value_range[0], value_range[1] - value_range[0])
    return masked_mean(luminance * structure, _centres(mask))


def _scale_recipe(size: tuple[int, ...]) -> Mapping[str, Any]:
    scales = scales_that_fit(size[1:])
    stated = "as published" if scales == len(MS_WEIGHTS) else f"the first {scales} of 5, divided by their sum"
    weights = [round(w, 6) for w in _weights(scales)]
    return {**_WINDOW, "scales": scales, "weights": weights, "weights are": stated, "pooling": "mean of 2 per axis", "negative terms": "0"}


@metric_plan(recipe=_scale_recipe, limits=(0.0, 1.0))
def ms_ssim(
    real: Tensor, fake: Tensor, *, value_range: Range = (0.0, 1.0), mask: Tensor | None = None, scales: int | None = None
) -> Tensor:
    """prod_{j<M} mean(c s)_j^w_j * mean(l c s)_M^w_M over M scales, each half the size of the one before; [B].

    Negative means of a scale count as 0 (a fractional power of them is not defined). The same definition as MONAI's.
    Where fewer than five scales fit (an axis below 176), the first M weights are used, divided by their sum: such a
    figure is not comparable with a five-scale one.

    Args:
        real, fake, value_range, mask: as `ssim`; a mask is pooled with the images, and weighs windows at every scale.
        scales: M, 1 to 5; by default as many as fit.

    Raises:
        DataError: as `ssim`; or `scales` that do not fit.

    Paper: Multi-Scale Structural Similarity for Image Quality Assessment (Wang et al., 2003) | https://doi.org/10.1109/ACSSC.2003.1292216

    >>> x = torch.linspace(0, 1, 32).expand(1, 1, 32, 32)
    >>> ms_ssim(x, x).tolist(), ms_ssim(x, 0.5 * x).round(decimals=4).tolist()
    ([1.0], [0.6751])
    """
    real, fake, mask = checked_pair(real, fake, value_range, mask)
    scales = scales_that_fit(tuple(real.shape[2:])) if scales is None else scales
    if not 1 <= scales <= len(MS_WEIGHTS):
        raise DataError(f"`scales` must be in 1..5; got {scales}. The smallest axis must be at least {TAPS}.")
    _check_size(real, scales)
    x, y, length = real - value_range[0], fake - value_range[0], value_range[1] - value_range[0]
    result = torch.ones(len(x), dtype=x.dtype, device=x.device)
    for j, weight in enumerate(_weights(scales)):
        if j:
            x, y, mask = _pool(x), _pool(y), None if mask is None else _pool(mask)
        luminance, structure = _windowed(x, y, length)
        values = structure if j < scales - 1 else luminance * structure
        result = result * masked_mean(values, _centres(mask)).clamp_min(0.0).pow(weight)
    return result


def scales_that_fit(shape: tuple[int, ...]) -> int:
    """How many of the five scales leave every axis at least 11 long.

    >>> [scales_that_fit((size, size)) for size in (10, 28, 64, 176)]
    [0, 2, 3, 5]
    """
    return sum(min(shape, default=0) // 2**j >= TAPS for j in range(len(MS_WEIGHTS)))


def _weights(scales: int) -> list[float]:
    chosen = MS_WEIGHTS[:scales]
    return [w / math.fsum(chosen) for w in chosen]


def _check_size(x: Tensor, scales: int) -> None:
    shape, needed = tuple(x.shape[2:]), TAPS * 2 ** (scales - 1)
    if scales_that_fit(shape) < scales:
        raise DataError(
            f"every spatial axis must be at least {needed} long for {scales} scale(s) of {TAPS} taps; got shape {shape}. "
            "Use 'ssim_global', which has no window" + (", or fewer scales." if scales > 1 else ".")
        )


def _windowed(x: Tensor, y: Tensor, length: float) -> tuple[Tensor, Tensor]:
    mu_x, mu_y, xx, yy, xy = _blur(torch.stack([x, y, x * x, y * y, x * y])).unbind(0)
    return _terms((mu_x, mu_y), (xx - mu_x * mu_x, yy - mu_y * mu_y), xy - mu_x * mu_y, length)


def _terms(mu: tuple[Tensor, Tensor], var: tuple[Tensor, Tensor], cov: Tensor, length: float) -> tuple[Tensor, Tensor]:
    c1, c2 = (K1 * length) ** 2, (K2 * length) ** 2
    return (2 * mu[0] * mu[1] + c1) / (mu[0] ** 2 + mu[1] ** 2 + c1), (2 * cov + c2) / (var[0] + var[1] + c2)


def _blur(x: Tensor) -> Tensor:
    """Gaussian mean over valid windows along every axis of [5, B, C, *S], as sums of shifted views: any number of axes."""
    weights = [math.exp(-0.5 * ((t - TAPS // 2) / SD) ** 2) for t in range(TAPS)]
    total = math.fsum(weights)
    for axis in range(3, x.dim()):
        length = x.shape[axis] - TAPS + 1
        out = x.narrow(axis, 0, length) * (weights[0] / total)
        for t in range(1, TAPS):
            out.add_(x.narrow(axis, t, length), alpha=weights[t] / total)
        x = out
    return x


def _centres(mask: Tensor | None) -> Tensor | None:
    if mask is None:
        return None
    inner = mask
    for axis in range(2, mask.dim()):
        inner = inner.narrow(axis, TAPS // 2, mask.shape[axis] - TAPS + 1)
    if missing := empty(inner):
        raise DataError(f"`mask` must hold the centre of a window, {TAPS // 2} voxels from every border; samples {missing} have none.")
    return inner


def _pool(x: Tensor) -> Tensor:
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[x.dim() - 3]
    return pool(x, 2)
