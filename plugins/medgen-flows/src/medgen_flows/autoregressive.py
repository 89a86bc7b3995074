"""`made`, `maf`, `iaf`: masked autoregressive networks.

Papers: MADE (Germain, Gregor, Murray, Larochelle, 2015) | https://arxiv.org/abs/1502.03509
Masked Autoregressive Flow (Papamakarios, Pavlakou, Murray, 2017) | https://arxiv.org/abs/1705.07057
Improving Variational Inference with Inverse Autoregressive Flow (Kingma et al., 2016) | https://arxiv.org/abs/1606.04934
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from medgen.nn.flow import ActNorm, Chain, Inverted, MaskedAffineAutoregressive, MixtureAutoregressive, Transform
from medgen.nn.flow.made import Order
from medgen.registry import ConditionSpec, ImageSpec
from medgen_flows.config import AutoregressiveConfig, IafConfig, MadeConfig, MafConfig
from medgen_flows.flow import Flow

__all__ = ["Iaf", "Made", "Maf"]


def _options(config: AutoregressiveConfig, context: int, number: int) -> dict[str, Any]:
    """Of layer `number` of a stack: the order turns from one to the next, or is drawn anew."""
    turned: dict[Order, Order] = {"sequential": "reversed", "reversed": "sequential", "random": "random"}
    return {
        "hidden": config.hidden,
        "context": context,
        "order": turned[config.order] if number % 2 else config.order,
        "degrees": config.degrees,
        "seed": config.order_seed + number,
        "activation": config.activation,
        "s_max": config.s_max,
    }


def _stack(config: MadeConfig | MafConfig, spec: ImageSpec, context: int, layers: int) -> Iterator[Transform]:
    """Data to noise. `ActNorm` takes the place of the paper's batch normalisation, so that no sample depends on its batch."""
    for number in range(layers):
        yield ActNorm(spec.channels)
        options = _options(config, context, number) | {"s_max": config.s_max / layers}
        if config.components > 1 and number == layers - 1:
            yield MixtureAutoregressive(spec.numel, config.components, **options)
        else:
            yield MaskedAffineAutoregressive(spec.numel, **options)


class Made(Flow):
    """p(x) = prod_i sum_k pi_ik N(x_i; mu_ik, exp(2 alpha_ik)), all of the values before i; one Gaussian (K = 1), or a mixture.

    >>> import medgen
    >>> model = medgen.create("made", medgen.ImageSpec(channels=3, shape=(), content="features"), hidden=[16])
    >>> model.log_prob(model.sample(4, noise=0)).shape
    torch.Size([4])
    """

    config: MadeConfig

    def __init__(self, config: MadeConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        super().__init__(config, image_spec, conditions)
        self.transform = Chain(_stack(config, image_spec, self.embedding.size, 1))


class Maf(Flow):
    """A stack of `made`: each explains what the one before leaves, in another order of the values. The last may be a mixture (MAF MoG).

    >>> import medgen
    >>> model = medgen.create("maf", medgen.ImageSpec(channels=3, shape=(), content="features"), layers=2, hidden=[16])
    >>> model.log_prob(model.sample(4, noise=0)).shape
    torch.Size([4])
    """

    config: MafConfig

    def __init__(self, config: MafConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        super().__init__(config, image_spec, conditions)
        self.transform = Chain(_stack(config, image_spec, self.embedding.size, config.layers))


class Iaf(Flow):
    """x = f_L(... f_1(u)), each f a masked affine map of u: samples in one pass a layer, densities value after value.

    "gated": f_i = g_i u_i + (1 - g_i) m_i, g = sigmoid(s); "affine": f_i = (u_i - m_i) exp(-s_i).

    >>> import medgen
    >>> model = medgen.create("iaf", medgen.ImageSpec(channels=3, shape=(), content="features"), layers=2, hidden=[16])
    >>> model.log_prob(model.sample(4, noise=0)).shape
    torch.Size([4])
    """

    config: IafConfig

    def __init__(self, config: IafConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        super().__init__(config, image_spec, conditions)
        parts: list[Transform] = [ActNorm(image_spec.channels)]
        for number in reversed(range(config.layers)):  # layer 0 is the first that noise meets
            options = _options(config, self.embedding.size, number)
            parts.append(Inverted(MaskedAffineAutoregressive(image_spec.numel, form=config.step, **options)))
        self.transform = Chain(parts)
