"""Invertible maps with log-determinants, the parts of normalizing flows."""

from medgen.nn.flow.autoregressive import MaskedAffineAutoregressive
from medgen.nn.flow.conditioners import ConvConditioner, MlpConditioner
from medgen.nn.flow.coupling import AdditiveCoupling, AffineCoupling, SplineCoupling, coupling_sizes
from medgen.nn.flow.discrete import Dequantise, Logit, has_levels
from medgen.nn.flow.linear import InvertibleConv
from medgen.nn.flow.made import Made, MaskedLinear
from medgen.nn.flow.mixture import MixtureAutoregressive
from medgen.nn.flow.multiscale import MultiScale, OnFirst, Squeeze
from medgen.nn.flow.normalise import ActNorm, DiagonalScale, initialise
from medgen.nn.flow.transform import Chain, Flip, Inverted, Transform, log_det_dtype

__all__ = [
    "ActNorm",
    "AdditiveCoupling",
    "AffineCoupling",
    "Chain",
    "ConvConditioner",
    "Dequantise",
    "DiagonalScale",
    "Flip",
    "Inverted",
    "InvertibleConv",
    "Logit",
    "Made",
    "MaskedAffineAutoregressive",
    "MaskedLinear",
    "MixtureAutoregressive",
    "MlpConditioner",
    "MultiScale",
    "OnFirst",
    "SplineCoupling",
    "Squeeze",
    "Transform",
    "coupling_sizes",
    "has_levels",
    "initialise",
    "log_det_dtype",
]
