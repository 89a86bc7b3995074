"""Configurations of the flow families. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

import medgen

__all__ = [
    "AutoregressiveConfig",
    "BananaConfig",
    "CouplingConfig",
    "FlowConfig",
    "GlowConfig",
    "IafConfig",
    "MadeConfig",
    "MafConfig",
    "NiceConfig",
    "RealNvpConfig",
    "SplineFlowConfig",
]

Width = Annotated[int, Field(ge=1, le=65536)]


class FlowConfig(medgen.Config):
    """What all flows share."""

    dequantise: Literal["auto", "none", "uniform", "variational"] = Field(
        "auto",
        description="Noise that fills the cells between stored integers: log_prob then bounds their mass; auto: uniform for integers.",
    )
    logit_alpha: float = Field(
        0.0,
        ge=0,
        lt=0.5,
        description="Flow on logit(alpha + (1 - 2 alpha) x) of images scaled to [0, 1], which keeps samples near it; 0: on x.",
    )
    conditional: bool = Field(True, description="Model p(x | conditions) where the data has labels or attributes; false: p(x).")
    condition_width: int = Field(32, ge=1, le=4096, description="Features of each condition's embedding.")
    condition_dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of training samples whose conditions are hidden; above 0 the model also works without them."
    )
    temperature: float = medgen.runtime_field(1.0, gt=0, le=2, description="Factor on the base distribution's noise when sampling.")


class AutoregressiveConfig(FlowConfig):
    """What the families made of masked networks share."""

    hidden: tuple[Width, ...] = Field((128, 128), description="Widths of the hidden layers; [] for a linear map.")
    activation: Literal["relu", "tanh", "silu"] = Field("relu", description="Between the layers.")
    order: Literal["sequential", "reversed", "random"] = Field("sequential", description="In which the values follow from each other.")
    degrees: Literal["sequential", "random"] = Field("sequential", description="How many values a hidden unit may see: in turn, or drawn.")
    order_seed: int = Field(0, ge=0, lt=2**63, description="Of random orders and degrees.")
    s_max: float = Field(5.0, gt=0, le=20, description="Largest |log-scale| of a layer, reached softly.")


class MadeConfig(AutoregressiveConfig):
    """Masked autoencoder for density estimation."""

    components: int = Field(1, ge=1, le=256, description="Gaussians in the mixture of each value.")


class MafConfig(AutoregressiveConfig):
    """Masked autoregressive flow."""

    layers: int = Field(5, ge=1, le=64, description="Masked networks on top of each other.")
    components: int = Field(1, ge=1, le=256, description="Gaussians in the mixture of each value, in the last layer.")
    # Shared out over the layers: each may stretch an outlier, ten times 5 nats do not train, and ten times 3 cost thousands of nats a row.
    s_max: float = Field(10.0, gt=0, le=40, description="Largest |log-scale| of all layers together, reached softly.")


class IafConfig(AutoregressiveConfig):
    """Inverse autoregressive flow."""

    layers: int = Field(4, ge=1, le=64, description="Masked networks on top of each other.")
    step: Literal["affine", "gated"] = Field("gated", description="g u + (1 - g) m with a gate g, or (u - m) exp(-s).")


class CouplingConfig(FlowConfig):
    """What flows of couplings share."""

    width: int = Field(64, ge=1, le=4096, description="Features of the hidden layers of each coupling's network.")
    depth: int = Field(2, ge=1, le=64, description="Hidden layers (vectors) or residual blocks (images) of each coupling's network.")
    s_max: float = Field(2.0, gt=0, le=10, description="Bound of the log-scale of affine couplings, in nats.")
    levels: int = Field(2, ge=1, le=10, description="Resolutions (images), each half the last; half of the values leave at each.")
    reversible: bool = Field(
        False,
        description="Train in memory that does not grow with depth: activations are recovered by inversion, in about half as long again.",
    )


class RealNvpConfig(CouplingConfig):
    """RealNVP."""

    logit_alpha: float = Field(
        0.05,
        ge=0,
        lt=0.5,
        description="Flow on logit(alpha + (1 - 2 alpha) x) of images scaled to [0, 1], which keeps samples near it; 0: on x.",
    )
    couplings: int = Field(8, ge=1, le=1000, description="Couplings (vectors).")
    couplings_per_mask: int = Field(3, ge=1, le=100, description="Couplings per kind of mask at each resolution (images).")


class GlowConfig(CouplingConfig):
    """Glow."""

    levels: int = Field(3, ge=1, le=10, description="Resolutions (images), each half the last; half of the values leave at each.")
    steps: int = Field(8, ge=1, le=1000, description="Steps at each resolution; in all for vectors.")
    coupling: Literal["affine", "additive"] = Field("affine", description="Kind of coupling in each step.")


class SplineFlowConfig(CouplingConfig):
    """Neural spline flow."""

    steps: int = Field(5, ge=1, le=1000, description="Steps at each resolution; in all for vectors.")
    bins: int = Field(8, ge=1, le=64, description="Pieces of each spline.")
    tail: float = Field(4.0, gt=0, le=100, description="Half the interval on which splines act; the identity beyond.")


class NiceConfig(FlowConfig):
    """NICE."""

    couplings: int = Field(4, ge=1, le=1000, description="Additive couplings, on even and odd values by turns.")
    width: int = Field(512, ge=1, le=65536, description="Features of the hidden layers of each coupling's network.")
    depth: int = Field(3, ge=1, le=64, description="Hidden layers of each coupling's network.")
    prior: Literal["logistic", "gaussian"] = Field("logistic", description="Distribution of every value after the last scale.")


class BananaConfig(FlowConfig):
    """The banana."""

    bend: float = Field(1.0, ge=-100, le=100, description="Factor on x1^2.")
    shift: float = Field(1.0, ge=-100, le=100, description="Downward shift of x2.")
