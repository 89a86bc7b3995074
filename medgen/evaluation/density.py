"""Figures of densities: nats, and bits per dimension in the units of the model and of the stored values."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from medgen.errors import DataError
from medgen.evaluation.plan import metric_plan
from medgen.registry import ImageSpec

__all__ = ["bits_per_dim", "bits_per_dim_model", "log_likelihood", "log_volume"]


def log_volume(spec: ImageSpec) -> float:
    """ln |d model / d stored| of one sample: prod(S) sum_c ln(scale of channel c), with model = stored * scale + offset.

    >>> from medgen.registry import Intensity
    >>> grey = ImageSpec(channels=1, shape=(2, 2), intensity=Intensity(high=(255.0,)))
    >>> round(log_volume(grey), 4)  # 4 ln(1 / 255)
    -22.1651
    """
    voxels = math.prod(spec.shape)
    return voxels * math.fsum(math.log(spec.intensity.scale(channel)) for channel in range(spec.channels))


def _checked(log_prob: Tensor) -> Tensor:
    if log_prob.dim() != 1 or not len(log_prob) or bool(torch.isnan(log_prob).any()):
        raise DataError(f"`log_prob` must be a vector [N] without NaN; got shape {tuple(log_prob.shape)}.")
    return log_prob.double()


@metric_plan(recipe={"definition": "ln p(x)", "unit": "nats, model units"})
def log_likelihood(log_prob: Tensor, spec: ImageSpec) -> Tensor:  # noqa: ARG001
    """ln p(x) in nats of each sample [N], with respect to model units.

    Args:
        log_prob: [N] nats, from `DensityModel.log_prob`.
        spec: of the samples.

    Raises:
        DataError: not a vector, or NaN.

    >>> log_likelihood(torch.tensor([-1.0]), ImageSpec(channels=1, shape=(2,))).tolist()
    [-1.0]
    """
    return _checked(log_prob)


@metric_plan(recipe={"definition": "-ln p(x) / (D ln 2)", "unit": "bits per value, model units"})
def bits_per_dim_model(log_prob: Tensor, spec: ImageSpec) -> Tensor:
    """-ln p(x) / (D ln 2) of each sample [N], D = C prod(S): bits per value with respect to model units.

    It changes with the range that the model's units span: compare `bits_per_dim` instead. Arguments as `log_likelihood`.

    >>> bits_per_dim_model(torch.tensor([-4 * math.log(2.0)]), ImageSpec(channels=1, shape=(2, 2))).round(decimals=4).tolist()
    [1.0]
    """
    return -_checked(log_prob) / (spec.numel * math.log(2.0))


@metric_plan(
    recipe={
        "definition": "-(ln p(x) + ln |d model / d stored|) / (D ln 2)",
        "unit": "bits per value, stored units",
        "transform": "model = stored * scale + offset, per channel",
    }
)
def bits_per_dim(log_prob: Tensor, spec: ImageSpec) -> Tensor:
    """-(ln p(x) + ln |d model / d stored|) / (D ln 2) of each sample [N]: bits per value with respect to stored units.

    The density of the stored values y, of which x = scale y + offset: it does not depend on the model's range. For 8-bit images in
    [0, 1] it is `bits_per_dim_model` + log2 255. It is the literature's figure only for a model trained on dequantised values.
    Arguments as `log_likelihood`.

    >>> from medgen.registry import Intensity
    >>> grey = ImageSpec(channels=1, shape=(2, 2), intensity=Intensity(high=(255.0,)))
    >>> bits_per_dim(torch.zeros(1), grey).round(decimals=4).tolist()  # log2 255
    [7.9944]
    """
    return -(_checked(log_prob) + log_volume(spec)) / (spec.numel * math.log(2.0))
