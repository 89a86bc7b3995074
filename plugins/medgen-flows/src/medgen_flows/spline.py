"""`spline_flow`: rational-quadratic coupling.

Paper: Neural Spline Flows (Durkan, Bekasov, Murray, Papamakarios, 2019) | https://arxiv.org/abs/1906.04032
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from medgen.nn.flow import SplineCoupling, coupling_sizes
from medgen.ops.affine_coupling import Mask
from medgen.registry import ConditionSpec, ImageSpec
from medgen_flows.config import CouplingConfig, SplineFlowConfig
from medgen_flows.flow import Flow
from medgen_flows.steps import conditioner, stack_of_steps

__all__ = ["SplineFlow"]


class SplineFlow(Flow):
    """`steps` times ActNorm, W x, and monotone rational-quadratic splines of one half given the other.

    >>> import medgen
    >>> model = medgen.create("spline_flow", medgen.ImageSpec(channels=3, shape=(), content="features"), steps=2)
    >>> model.log_prob(model.sample(4, noise=0)).shape
    torch.Size([4])
    """

    config: SplineFlowConfig

    def __init__(self, config: SplineFlowConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        super().__init__(config, image_spec, conditions)
        self.transform = stack_of_steps(config, self._coupling, image_spec, config.steps, self.embedding.size)

    def _coupling(self, config: CouplingConfig, dim: int, channels: int, context: int, mask: Mask) -> SplineCoupling:
        seen, changed = coupling_sizes(channels, mask)
        net = conditioner(config, dim, seen, changed * (3 * self.config.bins - 1), context)
        with torch.no_grad():
            net.get_parameter("last.bias").copy_(SplineCoupling.identity(self.config.bins).repeat(changed))
        return SplineCoupling(net, bins=self.config.bins, tail=self.config.tail, mask=mask)
