"""`banana`: a flow without parameters to learn, whose every number is known."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from medgen.errors import ConfigError
from medgen.nn.flow import Transform, log_det_dtype
from medgen.registry import ConditionSpec, ImageSpec
from medgen_flows.config import BananaConfig
from medgen_flows.flow import Flow

__all__ = ["Banana"]


class Banana(Flow):
    """x1 = u1, x2 = u2 - bend u1^2 - shift, u standard normal: ln p(x) = ln N(x1) + ln N(x2 + bend x1^2 + shift).

    Further columns are standard normal.

    >>> import medgen
    >>> model = medgen.create("banana", medgen.ImageSpec(channels=2, shape=(), content="features"))
    >>> model.log_prob(torch.tensor([[0.0, 0.0], [1.0, -2.0]]))
    tensor([-2.3379, -2.3379])
    """

    config: BananaConfig

    def __init__(self, config: BananaConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        super().__init__(config, image_spec, conditions)
        if image_spec.numel < 2:
            raise ConfigError(f"family 'banana' models tables of two columns or more; got {image_spec.numel}.")
        self.transform = _Bend(config.bend, config.shift)


class _Bend(Transform):
    bend: Tensor
    shift: Tensor

    def __init__(self, bend: float, shift: float) -> None:
        super().__init__()
        self.register_buffer("bend", torch.tensor(bend))
        self.register_buffer("shift", torch.tensor(shift))

    def _moved(self, x: Tensor, sign: float) -> Tensor:
        second = x[:, 1] + sign * (self.bend * x[:, 0].square() + self.shift)
        return torch.cat([x[:, :1], second[:, None], x[:, 2:]], 1)

    def forward(self, x: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._moved(x, 1.0), x.new_zeros(len(x), dtype=log_det_dtype(x.dtype))

    def inverse(self, z: Tensor, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return self._moved(z, -1.0), z.new_zeros(len(z), dtype=log_det_dtype(z.dtype))
