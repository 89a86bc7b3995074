"""`glow`: actnorm, invertible 1x1 convolution, coupling.

Paper: Glow: generative flow with invertible 1x1 convolutions (Kingma, Dhariwal, 2018) | https://arxiv.org/abs/1807.03039
"""

from __future__ import annotations

from collections.abc import Sequence

from medgen.registry import ConditionSpec, ImageSpec
from medgen_flows.config import GlowConfig
from medgen_flows.flow import Flow
from medgen_flows.steps import additive, affine, stack_of_steps

__all__ = ["Glow"]


class Glow(Flow):
    """`steps` times ActNorm, W x, coupling; at each resolution of images, where half of the channels then leave.

    The log-scale of affine couplings is bounded by `s_max` on both sides; the paper's ln sigmoid(h + 2) falls without bound, which makes
    samples overflow.

    >>> import medgen
    >>> model = medgen.create("glow", medgen.ImageSpec(channels=1, shape=(12, 12)), width=8, steps=2)
    >>> model.log_prob(model.sample(3, noise=0)).shape
    torch.Size([3])
    """

    config: GlowConfig

    def __init__(self, config: GlowConfig, image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()) -> None:
        super().__init__(config, image_spec, conditions)
        coupling = affine if config.coupling == "affine" else additive
        self.transform = stack_of_steps(config, coupling, image_spec, config.steps, self.embedding.size)
