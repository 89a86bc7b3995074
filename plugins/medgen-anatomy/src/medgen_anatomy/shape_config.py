"""Configurations of the families of shapes. Imports no torch."""

from __future__ import annotations

from pydantic import Field

import medgen
from medgen_autoencoders.config import VaeConfig

__all__ = ["ArVaeConfig", "ConstrainedVaeConfig", "PcaConfig", "ShapeVaeConfig"]


class ShapeVaeConfig(VaeConfig):
    """VAE of shapes: cross-entropy and soft Dice on label maps, a weighted KL."""

    beta: float = Field(1e-4, ge=0, description="Weight of the KL, in nats per sample; the reconstruction is a mean over positions.")
    cross_entropy_weight: float = Field(0.1, ge=0, description="Weight of the reconstruction's -ln p(x|z) per position, on label maps.")
    dice_weight: float = Field(1.0, ge=0, description="Weight of 1 - soft Dice of the structures, on label maps.")


class ConstrainedVaeConfig(ShapeVaeConfig):
    """VAE whose latent predicts one attribute linearly."""

    attribute: str = Field("", description="Attribute that is regressed, by its name in the data; may be left out where there is only one.")
    linear_constraint_weight: float = Field(
        1.0, ge=0, description="Weight of the regression's squared error, of the standardised attribute."
    )


class ArVaeConfig(ShapeVaeConfig):
    """VAE in which chosen latent values order the samples by chosen attributes."""

    attributes: tuple[str, ...] = Field((), description="Attributes that are regularised, by their names in the data; by default all.")
    dimensions: tuple[int, ...] = Field((), description="Latent value of each of them; by default 0, 1, 2, ...")
    gamma: float = Field(
        0.1, ge=0, description="Weight of the regularisation, summed over attributes (10 in the original, of sums of pixels)."
    )
    delta: float = Field(16.0, gt=0, description="Slope of tanh: differences of 1 / delta count as ordered (1 in the original).")


class PcaConfig(medgen.Config):
    """Principal component analysis."""

    components: int = Field(16, ge=1, le=65536, description="Number of principal components, fewer than training samples.")
