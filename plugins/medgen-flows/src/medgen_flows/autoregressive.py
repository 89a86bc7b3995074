"""`made`, `maf`: density in one pass, samples feature after feature.

Papers: MADE (Germain, Gregor, Murray, Larochelle, 2015) | https://arxiv.org/abs/1502.03509
Masked Autoregressive Flow (Papamakarios, Pavlakou, Murray, 2017) | https://arxiv.org/abs/1705.07057
"""

from __future__ import annotations

from collections.abc import Sequence

from medgen.nn.flow import Chain, MaskedAffineAutoregressive, Transform
from medgen.nn.flow.made import Order
from medgen.registry import ConditionSpec, ImageSpec
from medgen_flows.config import AutoregressiveConfig, MadeConfig, MafConfig
from medgen_flows.flow import Flow

__all__ = ["Made", "Maf"]


def _layer(config: AutoregressiveConfig, features: int, context: int, number: int) -> Transform:
    """Layer `number` of a stack: the order turns from one to the next, or is drawn anew."""
    turned: dict[Order, Order] = {"sequential": "reversed", "reversed": "sequential", "random": "random"}
    return MaskedAffineAutoregressive(
        features,
        config.hidden,
        context=context,
        order=turned[config.order] if number % 2 else config.order,
        degrees=config.degrees,
        seed=config.order_seed + number,
        activation=config.activation,
        s_max=config.s_max,
    )


class Made(Flow):
    """p(x) = prod_i N(x_i; mu_i, exp(2 alpha_i)), mu_i and alpha_i of the values before i.

    >>> import medgen
    >>> model = medgen.create("made", medgen.ImageSpec(channels=3, shape=(), content="features"), hidden=[16])
    >>> model.log_prob(model.sample(4, noise=0)).shape
    torch.Size([4])
    """

    config: MadeConfig

    def __init__(self, config: MadeConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        super().__init__(config, image_spec, conditions)
        self.transform = _layer(config, image_spec.numel, self.embedding.size, 0)


class Maf(Flow):
    """A stack of `made`: each explains what the one before leaves, in another order of the values.

    >>> import medgen
    >>> model = medgen.create("maf", medgen.ImageSpec(channels=3, shape=(), content="features"), layers=2, hidden=[16])
    >>> model.log_prob(model.sample(4, noise=0)).shape
    torch.Size([4])
    """

    config: MafConfig

    def __init__(self, config: MafConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        super().__init__(config, image_spec, conditions)
        self.transform = Chain(_layer(config, image_spec.numel, self.embedding.size, k) for k in range(config.layers))
