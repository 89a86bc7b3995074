"""Invertible maps with log-determinants, the parts of normalizing flows."""

from medgen.nn.flow.autoregressive import MaskedAffineAutoregressive
from medgen.nn.flow.made import Made, MaskedLinear
from medgen.nn.flow.transform import Chain, Flip, Inverted, Transform, log_det_dtype

__all__ = ["Chain", "Flip", "Inverted", "Made", "MaskedAffineAutoregressive", "MaskedLinear", "Transform", "log_det_dtype"]
