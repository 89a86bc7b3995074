"""`parzen`: a Gaussian kernel density of the training data, exact and without training.

Paper: On Estimation of a Probability Density Function and Mode (Parzen, 1962) | https://doi.org/10.1214/aoms/1177704472
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

import torch
from torch import Tensor

from medgen.errors import ConfigError
from medgen.interfaces import Batch, Condition, DensityModel, Generator, Noise, Phase, PreparesOnData
from medgen.nn import Parzen
from medgen.registry import ConditionSpec, ImageSpec
from medgen_anatomy.config import ParzenConfig

__all__ = ["ParzenModel"]


class ParzenModel(Generator, DensityModel, PreparesOnData):
    """p(x) = 1/N sum_j N(x; x_j, L L^T) over the flattened training arrays; a sample is one of them plus L times noise.

    The training arrays are saved with the model. Before it has seen any it is a standard normal.
    """

    log_prob_kind: Literal["exact", "bound", "estimate"] = "exact"
    config: ParzenConfig

    def __init__(self, config: ParzenConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        super().__init__(config, image_spec, conditions)
        self.density = Parzen(torch.zeros(1, image_spec.numel), 1.0)

    @torch.no_grad()
    def prepare(self, batches: Callable[[], Iterable[Batch]]) -> None:
        """Keep the training arrays and choose the bandwidth.

        Raises:
            DataError: too few arrays for this kind of bandwidth, or arrays that are all alike.
        """
        kept = [batch.x.flatten(1) for batch in batches()]
        if not kept:
            raise ConfigError("the training data must hold at least one sample; got none.")
        config = self.config
        grid = torch.logspace(-1, 1, config.grid_size, dtype=torch.float64)
        self.density = Parzen.fit(torch.cat(kept), config.rule, config.kind, fixed=config.factor, folds=config.folds, grid=grid)

    def phases(self) -> Sequence[Phase]:
        """None: nothing is learned by gradient."""
        return []

    def _sample(self, n: int, condition: Condition, noise: Noise) -> Tensor:
        return self.density.draw(noise).view(n, *self.image_spec.size)

    def _log_prob(self, x: Tensor, condition: Condition, noise: Noise, importance_samples: int) -> Tensor:
        return self.density.log_prob(x.flatten(1))
