"""Configurations of the flow families. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

import medgen

__all__ = ["AutoregressiveConfig", "FlowConfig", "MadeConfig", "MafConfig"]

Width = Annotated[int, Field(ge=1, le=65536)]


class FlowConfig(medgen.Config):
    """What all flows share."""

    condition_width: int = Field(32, ge=1, le=4096, description="Features of each condition's embedding.")
    temperature: float = Field(1.0, gt=0, le=2, description="Factor on the base distribution's noise when sampling.")


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


class MafConfig(AutoregressiveConfig):
    """Masked autoregressive flow."""

    layers: int = Field(5, ge=1, le=64, description="Masked networks on top of each other.")
