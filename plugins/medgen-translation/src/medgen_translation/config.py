"""Configurations of the translators. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

import medgen
from medgen import runtime_field
from medgen_diffusion.config import ChainConfig
from medgen_gans.config import GameConfig, Width

__all__ = [
    "ContextAwareGanConfig",
    "CycleGanConfig",
    "DiffusionTranslationConfig",
    "JudgedConfig",
    "NetworkConfig",
    "PairedGanConfig",
    "Pix2pixConfig",
    "RegressionConfig",
    "SketcherRefinerConfig",
    "SourceNetConfig",
]

Multiplier = Annotated[int, Field(ge=1, le=64)]


class NetworkConfig(medgen.Config):
    """A network from source to target."""

    network: Literal["unet", "fcn", "resnet"] = Field(
        "unet", description="U-Net, convolutions at full resolution without pooling (Nie), or down, residual blocks, up (CycleGAN)."
    )
    width: int = Field(32, ge=1, le=4096, description="Features at full resolution.")
    multipliers: tuple[Multiplier, ...] = Field(
        (1, 2, 4), min_length=1, description="unet, resnet: features at each resolution, each half the last, over `width`."
    )
    blocks: int = Field(1, ge=1, le=32, description="unet: residual blocks per resolution.")
    attention: tuple[int, ...] = Field(
        (), description="unet: resolutions with self-attention: 0 the full one, -1 the lowest; time grows with voxels squared."
    )
    layers: int = Field(9, ge=1, le=64, description="fcn: convolutions; each sees one voxel further.")
    residual_blocks: int = Field(
        9, ge=1, le=64, description="resnet: residual blocks at the lowest resolution; 9 for 256 x 256 (CycleGAN)."
    )
    kernel: Literal[1, 3] = Field(3, description="fcn: width of the convolutions; 1 is a perceptron of each voxel, without norms.")
    dropout: float = Field(0.0, ge=0, lt=1, description="unet: dropout within the blocks.")
    checkpointing: bool = Field(False, description="unet: compute activations again in the backward pass instead of keeping them.")

    @property
    def channels(self) -> tuple[int, ...]:
        """Features at each resolution."""
        return tuple(self.width * multiplier for multiplier in self.multipliers)


class SourceNetConfig(NetworkConfig):
    """A network from source to target, which may only change the source."""

    long_skip: bool = Field(
        False,
        description="Add the source to what the network makes of it (medSynthesis' LRes); of one channel, or as many as the target.",
    )


class RegressionConfig(SourceNetConfig):
    """A network from source to target, and what it minimises."""

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

    @model_validator(mode="after")
    def _check_loss(self) -> Self:
        if self.uncertainty and self.loss != "l2":
            raise ValueError(f"`uncertainty` is the likelihood of a normal and needs `loss` l2; got {self.loss}")
        if self.loss == "relative_l1" and self.weighting == "regions":
            raise ValueError("`loss` relative_l1 chooses voxels by itself and cannot be weighted by regions")
        return self


class JudgedConfig(GameConfig):
    """The discriminator of a translator, and the game."""

    discriminator: Literal["patch", "image"] = Field("patch", description="Judges overlapping patches (PatchGAN), or whole images.")
    discriminator_channels: tuple[Width, ...] = Field(
        (32, 64, 128),
        min_length=1,
        description="Its features at each resolution; patches are 16, 34, 70 wide for 2, 3, 4 of them.",
    )
    scales: int = Field(1, ge=1, le=8, description="Discriminators, each on half the resolution of the one before.")
    loss: Literal["minimax", "non_saturating", "least_squares", "hinge", "wasserstein"] = Field(
        "least_squares", description="What the players play for."
    )
    discriminator_norm: Literal["none", "batch", "instance", "group"] = Field("instance", description="Normalisation in the discriminator.")
    spectral_norm: bool = Field(False, description="Divide every weight of the discriminator by its largest singular value.")


class PairedGanConfig(SourceNetConfig, JudgedConfig):
    """A generator that has the true target of every source, and its discriminator."""

    distance: Literal["l1", "l2"] = Field("l1", description="Error per voxel beside the game: |d|, or d^2 (context encoders).")
    distance_weight: float = Field(100.0, ge=0, description="Its weight, lambda.")
    gradient_weight: float = Field(0.0, ge=0, description="Weight of the gradient-difference loss (Nie).")
    weighting: Literal["voxels", "regions"] = Field(
        "voxels", description="Every voxel counts alike, or every region of the condition 'regions' whatever its size (Wei)."
    )

    judged: Literal["pair", "target"] = Field(
        "pair", description="What the discriminator sees: the source (and an earlier estimate) with the target, or the target alone (Nie)."
    )

    @model_validator(mode="after")
    def _check_aim(self) -> Self:
        if self.adversarial == self.distance_weight == self.feature_matching == 0:
            raise ValueError("the generator needs `adversarial`, `distance_weight` or `feature_matching` above 0")
        return self


class Pix2pixConfig(PairedGanConfig):
    """Conditional GAN with an error per voxel."""


class CycleGanConfig(NetworkConfig, JudgedConfig):
    """Two generators, there and back, and a discriminator for either side."""

    adversarial: float = Field(2.0, ge=0, description="Weight of the game in the generators' loss: 2 makes least squares (D(G(x)) - 1)^2.")
    cycle_weight: float = Field(10.0, ge=0, description="Weight of |F(G(x)) - x| + |G(F(y)) - y|, lambda.")
    identity: float = Field(
        0.0, ge=0, description="Weight of |G(y) - y| + |F(x) - x|, as a share of `cycle_weight`; 0.5 where intensities are to stay."
    )
    pool: int = Field(50, ge=0, le=4096, description="Translations kept on either side, of which the discriminators see half; 0 for none.")

    @model_validator(mode="after")
    def _check_aim(self) -> Self:
        if self.adversarial == self.feature_matching == 0:
            raise ValueError("without pairs the generators learn from the game alone and need `adversarial` or `feature_matching` above 0")
        if self.identity and not self.cycle_weight:
            raise ValueError("`identity` is a share of `cycle_weight`, which is 0")
        return self


class ChainedGansConfig(PairedGanConfig):
    """Generators in a row, each of which sees what the one before made."""

    in_turn: bool = Field(
        False, description="Each learns in its own part of the steps, all equally long (the papers), or all in every step."
    )

    def spans(self, n: int) -> list[tuple[float, float]]:
        """The part of the training in which each of n generators learns."""
        return [(k / n, (k + 1) / n) if self.in_turn else (0.0, 1.0) for k in range(n)]


class ContextAwareGanConfig(ChainedGansConfig):
    """Generators without pooling, each refining the estimate of the one before, with gradient-difference loss."""

    network: Literal["unet", "fcn", "resnet"] = Field(
        "fcn", description="U-Net, convolutions at full resolution without pooling (Nie), or down, residual blocks, up (CycleGAN)."
    )
    loss: Literal["minimax", "non_saturating", "least_squares", "hinge", "wasserstein"] = Field(
        "non_saturating", description="What the players play for; wasserstein with `gradient_penalty` 10 is WGAN-GP."
    )
    discriminator: Literal["patch", "image"] = Field("image", description="Judges overlapping patches (PatchGAN), or whole images.")
    judged: Literal["pair", "target"] = Field("target", description="What the discriminator sees: source and target, or the target alone.")
    adversarial: float = Field(0.5, ge=0, description="Weight of the adversarial loss in the generator's.")
    distance: Literal["l1", "l2"] = Field("l2", description="Error per voxel beside the game: |d|, or d^2.")
    distance_weight: float = Field(100.0, ge=0, description="Its weight; the paper's 1 is that of a sum over the voxels of a patch.")
    gradient_weight: float = Field(100.0, ge=0, description="Weight of the gradient-difference loss, likewise.")
    contexts: int = Field(1, ge=0, le=8, description="Further GANs, each of which also sees the estimate of the one before (auto-context).")
    estimate: int = runtime_field(-1, description="The translation: 0 is the first GAN's, before any context; -1 the last one's.")

    @model_validator(mode="after")
    def _check_estimate(self) -> Self:
        if not -self.contexts - 1 <= self.estimate <= self.contexts:
            raise ValueError(f"`estimate` must be one of {self.contexts + 1}, from 0 or from -1 down; got {self.estimate}")
        return self


class SketcherRefinerConfig(ChainedGansConfig):
    """Two conditional GANs in a row; `distance`, `distance_weight` (lambda_R) and `weighting` are the refiner's, all else is of both."""

    loss: Literal["minimax", "non_saturating", "least_squares", "hinge", "wasserstein"] = Field(
        "non_saturating", description="What the players play for: cross-entropy."
    )
    sketch_weight: float = Field(100.0, ge=0, description="Weight of the sketcher's error, over voxels alike: lambda_S.")
    weighting: Literal["voxels", "regions"] = Field(
        "regions", description="Of the refiner: every region of the condition 'regions' counts alike, or every voxel."
    )


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
