"""Configurations of the adversarial families. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

import medgen
from medgen import runtime_field

__all__ = ["AcganConfig", "CganConfig", "GameConfig", "GanConfig", "SganConfig", "VaeGanConfig", "WganGpConfig"]

Width = Annotated[int, Field(ge=1, le=4096)]
Beta = Annotated[float, Field(ge=0, lt=1)]


class GameConfig(medgen.Config):
    """The game between generator and discriminator, with its remedies; the players' optimisers. For every adversarial family."""

    loss: Literal["minimax", "non_saturating", "least_squares", "hinge", "wasserstein"] = Field(
        "non_saturating", description="What the players play for."
    )
    smoothing: float = Field(1.0, gt=0.5, le=1, description="Target of real samples: 0.9 is one-sided label smoothing; fakes keep 0.")
    gradient_penalty: float = Field(0.0, ge=0, description="Weight of (|grad D| - 1)^2 between real and generated samples.")
    r1: float = Field(0.0, ge=0, description="Weight of |grad D|^2 / 2 at real samples.")
    clip_weights: float = Field(0.0, ge=0, description="Bound on the discriminator's weights after each update (WGAN: 0.01); 0 for none.")
    instance_noise: float = Field(
        0.0, ge=0, description="Standard deviation, in halves of the data's range, of noise on all that the discriminator sees, at first."
    )
    noise_until: float = Field(1.0, gt=0, le=1, description="Part of the training over which the instance noise falls to 0.")
    adversarial: float = Field(1.0, ge=0, description="Weight of the adversarial loss in the generator's.")
    feature_matching: float = Field(0.0, ge=0, description="Weight of the distance between mean features of real and generated batches.")
    feature_distance: Literal["squared", "absolute", "paired"] = Field(
        "squared", description="That distance: of the paper, or of its code; paired: sample by sample, of translators with true targets."
    )

    discriminator_norm: Literal["none", "batch", "instance", "group"] = Field("none", description="Normalisation in the discriminator.")
    spectral_norm: bool = Field(True, description="Divide every weight of the discriminator by its largest singular value.")
    discriminator_steps: int = Field(1, ge=1, le=100, description="Updates of the discriminator per update of the generator.")
    generator_lr: float = Field(2e-4, gt=0, description="Learning rate of the generator, in the place of --lr.")
    discriminator_lr: float = Field(2e-4, gt=0, description="Learning rate of the discriminator, in the place of --lr.")
    adam_betas: tuple[Beta, Beta] = Field((0.5, 0.999), description="Decay rates of Adam's moments, in the place of --betas.")

    collapse_diversity: float = Field(
        0.2, ge=0, lt=1, description="Share of the data's spread below which generated batches raise the collapse alarm; 0 for never."
    )
    on_collapse: Literal["warn", "stop"] = Field("warn", description="What the alarm does: a warning, or the end of the training too.")

    @model_validator(mode="after")
    def _check_game(self) -> Self:
        if self.smoothing != 1 and self.loss in ("hinge", "wasserstein"):
            raise ValueError(f"`smoothing` is for losses with targets; got {self.smoothing} with `loss` {self.loss}")
        if self.gradient_penalty and self.discriminator_norm == "batch":
            raise ValueError("`gradient_penalty` is of one sample at a time; use another `discriminator_norm` than batch")
        return self


class GanConfig(GameConfig):
    """Generator, discriminator, and the game between them."""

    latent_dim: int = Field(64, ge=1, le=65536, description="Number of values in z.")
    channels: tuple[Width, ...] = Field(
        (32, 64, 128), min_length=1, description="Generator: features at each resolution, each half the last; layer widths for vectors."
    )
    discriminator_channels: tuple[Width, ...] = Field((), description="The same of the discriminator; [] for those of the generator.")
    generator_norm: Literal["none", "batch", "group", "virtual"] = Field(
        "batch", description="Normalisation in the generator: batch as in DCGAN; group or virtual, of one sample alone, go best with --ema."
    )
    reference: int = Field(32, ge=2, le=4096, description="Samples of the reference batch of virtual batch normalisation.")
    minibatch_kernels: int = Field(0, ge=0, le=1024, description="Kernels of minibatch discrimination (Salimans); 0 for none.")
    feature_distance: Literal["squared", "absolute"] = Field("squared", description="That distance: of the paper, or of its code.")
    temperature: float = runtime_field(1.0, gt=0, le=10, description="Factor on z when sampling: less gives more typical samples.")

    @property
    def judge_channels(self) -> tuple[int, ...]:
        """Features of the discriminator at each resolution."""
        return self.discriminator_channels or self.channels

    @model_validator(mode="after")
    def _check_aim(self) -> Self:
        if self.adversarial == 0 and self.feature_matching == 0:
            raise ValueError("the generator needs `adversarial` or `feature_matching` above 0")
        return self


class WganGpConfig(GanConfig):
    """Wasserstein GAN with gradient penalty."""

    loss: Literal["wasserstein"] = Field("wasserstein", description="What the players play for.")
    gradient_penalty: float = Field(10.0, gt=0, description="Weight of (|grad f| - 1)^2; 10 for images, 0.1 for toys in the plane.")
    spectral_norm: bool = Field(False, description="Divide every weight of the critic by its largest singular value.")
    discriminator_steps: int = Field(5, ge=1, le=100, description="Updates of the critic per update of the generator.")
    generator_lr: float = Field(1e-4, gt=0, description="Learning rate of the generator, in the place of --lr.")
    discriminator_lr: float = Field(1e-4, gt=0, description="Learning rate of the critic, in the place of --lr.")
    adam_betas: tuple[Beta, Beta] = Field((0.5, 0.9), description="Decay rates of Adam's moments, in the place of --betas.")


class CganConfig(GanConfig):
    """Conditional GAN."""

    condition_width: int = Field(32, ge=1, le=4096, description="Features of each condition's embedding.")
    condition_dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of training samples whose conditions are hidden; above 0 the model also works without them."
    )


class AcganConfig(GanConfig):
    """GAN whose discriminator also tells the class."""

    condition_width: int = Field(32, ge=1, le=4096, description="Features of the label's embedding in the generator.")
    class_weight: float = Field(1.0, gt=0, description="Weight of the classes' cross-entropy in both players' losses.")
    class_on_fake: bool = Field(True, description="The discriminator learns the classes of generated samples too.")


class SganConfig(AcganConfig):
    """Semi-supervised GAN with K+1 classes."""

    loss: Literal["minimax", "non_saturating"] = Field("non_saturating", description="What the players play for.")
    class_on_fake: bool = Field(False, description="The discriminator learns the classes of generated samples too.")


class VaeGanConfig(GanConfig):
    """Variational autoencoder whose decoder is a generator."""

    encoder_blocks: int = Field(1, ge=0, le=16, description="Residual blocks of the encoder per resolution.")
    encoder_lr: float = Field(2e-4, gt=0, description="Learning rate of the encoder, in the place of --lr.")
    discriminator_norm: Literal["none", "batch", "instance", "group"] = Field(
        "group", description="Normalisation in the discriminator; it also gives the features of the reconstruction their scale."
    )
    feature_layer: int = Field(
        -1, description="Layer of the discriminator in which reconstructions are compared: 0 the first, -1 the last."
    )
    gamma: float = Field(1.0, gt=0, description="Weight of the reconstruction against the game, in the generator's loss.")
    kl_weight: float = Field(1.0, gt=0, description="Weight of the KL in the encoder's loss.")

    @model_validator(mode="after")
    def _check_layer(self) -> Self:
        levels = len(self.judge_channels)
        if not -levels <= self.feature_layer < levels:
            raise ValueError(f"`feature_layer` must be one of the discriminator's {levels} layers; got {self.feature_layer}")
        return self
