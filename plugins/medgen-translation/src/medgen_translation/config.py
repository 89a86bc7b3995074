"""Configurations of the translators. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

import medgen
from medgen_diffusion.config import ChainConfig

__all__ = ["DiffusionTranslationConfig", "RegressionConfig"]

Multiplier = Annotated[int, Field(ge=1, le=64)]


class RegressionConfig(medgen.Config):
    """A network from source to target, and what it minimises."""

    network: Literal["unet", "fcn"] = Field("unet", description="U-Net, or convolutions at full resolution without pooling (Nie).")
    width: int = Field(32, ge=1, le=4096, description="Features at full resolution.")
    multipliers: tuple[Multiplier, ...] = Field(
        (1, 2, 4), min_length=1, description="unet: features at each resolution, each half the last, over `width`."
    )
    blocks: int = Field(1, ge=1, le=32, description="unet: residual blocks per resolution.")
    attention: tuple[int, ...] = Field(
        (), description="unet: resolutions with self-attention: 0 the full one, -1 the lowest; time grows with voxels squared."
    )
    layers: int = Field(9, ge=1, le=64, description="fcn: convolutions; each sees one voxel further.")
    dropout: float = Field(0.0, ge=0, lt=1, description="unet: dropout within the blocks.")
    checkpointing: bool = Field(False, description="unet: compute activations again in the backward pass instead of keeping them.")
    loss: Literal["l1", "l2", "relative_l1"] = Field(
        "l1", description="Error per voxel: |d|, d^2, or |d| where it is at least `threshold` of the target's value (medSynthesis)."
    )
    threshold: float = Field(0.1, gt=0, le=10, description="Of relative_l1.")
    gradient_weight: float = Field(0.0, ge=0, description="Weight of the gradient-difference loss (Nie).")
    weighting: Literal["voxels", "regions"] = Field(
        "voxels", description="Every voxel counts alike, or every region of the condition 'regions' whatever its size (Wei)."
    )
    uncertainty: bool = Field(
        False, description="Also predict each voxel's standard deviation, by the likelihood of a normal; translations can then be drawn."
    )

    @property
    def channels(self) -> tuple[int, ...]:
        """Features at each resolution."""
        return tuple(self.width * multiplier for multiplier in self.multipliers)

    @model_validator(mode="after")
    def _check_loss(self) -> Self:
        if self.uncertainty and self.loss != "l2":
            raise ValueError(f"`uncertainty` is the likelihood of a normal and needs `loss` l2; got {self.loss}")
        if self.loss == "relative_l1" and self.weighting == "regions":
            raise ValueError("`loss` relative_l1 chooses voxels by itself and cannot be weighted by regions")
        return self


class DiffusionTranslationConfig(ChainConfig):
    """Denoising diffusion given the source."""

    condition_dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of training samples whose source is hidden; above 0 allows `guidance` other than 1."
    )

    @model_validator(mode="after")
    def _check_graph(self) -> Self:
        if self.cuda_graph:
            raise ValueError("`cuda_graph` pays for many samples of one condition, and a translation has a source of its own; leave it out")
        return self
