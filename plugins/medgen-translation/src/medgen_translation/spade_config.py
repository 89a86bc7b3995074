"""Configuration of `spade`. Imports no torch."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from medgen_gans.config import Beta, Width
from medgen_translation.config import JudgedConfig, Multiplier

__all__ = ["SpadeConfig"]


class SpadeConfig(JudgedConfig):
    """Images from label maps by spatially adaptive normalisation, with styles."""

    width: int = Field(32, ge=1, le=4096, description="Features of the generator at full resolution; 64 in the paper.")
    multipliers: tuple[Multiplier, ...] = Field(
        (1, 2, 4, 8, 8), min_length=1, description="Features at each resolution, each half the last, over `width`."
    )
    blocks: int = Field(1, ge=1, le=32, description="SPADE residual blocks per resolution.")
    hidden: int = Field(128, ge=1, le=4096, description="Features of the label map from which gamma and beta come.")
    generator_spectral_norm: bool = Field(
        True, description="Divide the generator's and encoder's convolutions by their largest singular value; not those of gamma and beta."
    )
    style: bool = Field(True, description="A latent for what the label map does not tell, and its encoder; else one image per map.")
    style_dim: int = Field(256, ge=1, le=65536, description="Number of values in it.")
    kl_weight: float = Field(0.05, ge=0, description="Weight of its KL from N(0, I), in nats per image.")
    distance_weight: float = Field(0.0, ge=0, description="Weight of the mean absolute error in [-1, 1]; 100 where there are few images.")

    loss: Literal["minimax", "non_saturating", "least_squares", "hinge", "wasserstein"] = Field(
        "hinge", description="What the players play for."
    )
    feature_matching: float = Field(
        10.0, ge=0, description="Weight of the distance between features of true and generated images, summed over layers, mean of scales."
    )
    feature_distance: Literal["squared", "absolute", "paired"] = Field(
        "paired", description="That distance: paired, |f(x) - f(G)| sample by sample; or between means of a batch, squared or absolute."
    )
    discriminator_channels: tuple[Width, ...] = Field(
        (32, 64, 128, 256), min_length=1, description="The discriminator's features at each resolution; four have patches 70 wide."
    )
    scales: int = Field(2, ge=1, le=8, description="Discriminators, each on half the resolution of the one before.")
    spectral_norm: bool = Field(True, description="Divide every weight of the discriminator by its largest singular value.")
    generator_lr: float = Field(1e-4, gt=0, description="Learning rate of generator and encoder, in the place of --lr.")
    discriminator_lr: float = Field(4e-4, gt=0, description="Learning rate of the discriminator, in the place of --lr.")
    adam_betas: tuple[Beta, Beta] = Field((0.0, 0.9), description="Decay rates of Adam's moments, in the place of --betas.")

    @property
    def channels(self) -> tuple[int, ...]:
        """Features at each resolution."""
        return tuple(self.width * multiplier for multiplier in self.multipliers)

    @model_validator(mode="after")
    def _check_aim(self) -> Self:
        if self.adversarial == self.distance_weight == self.feature_matching == 0:
            raise ValueError("the generator needs `adversarial`, `distance_weight` or `feature_matching` above 0")
        return self
