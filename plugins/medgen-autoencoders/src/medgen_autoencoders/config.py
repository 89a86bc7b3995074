"""Configurations of the autoencoder families. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

import medgen

__all__ = ["AeConfig", "BetaVaeConfig", "CvaeConfig", "VaeConfig"]

Width = Annotated[int, Field(ge=1, le=4096)]


class AeConfig(medgen.Config):
    """Encoder and decoder shared by all autoencoders."""

    latent_dim: int = Field(16, ge=1, le=65536, description="Number of values in the latent vector.")
    channels: tuple[Width, ...] = Field(
        (16, 32, 64), description="Features at each resolution, each half the last; layer widths for vectors; [] for one affine map."
    )
    blocks: int = Field(1, ge=0, le=16, description="Residual blocks per resolution.")


class VaeConfig(AeConfig):
    """Variational autoencoder."""

    likelihood: Literal["auto", "gaussian", "bernoulli", "categorical"] = Field(
        "auto",
        description="p(x|z): gaussian for intensities, bernoulli for data in [0, 1], categorical for one-hot labels; auto by content.",
    )
    noise_sd: float | None = Field(
        None, gt=0, description="Standard deviation of the gaussian likelihood, in model units; none learns it (one number for all values)."
    )
    sample_noise: bool = medgen.runtime_field(False, description="Samples are draws from p(x|z) instead of its mean.")
    posterior: Literal["gaussian", "iaf"] = Field(
        "gaussian", description="q(z|x): a diagonal Gaussian, or one transformed by an inverse autoregressive flow."
    )
    iaf_steps: int = Field(2, ge=1, le=32, description="Steps of the posterior's flow.")
    iaf_hidden: tuple[Width, ...] = Field((64, 64), description="Widths within a step of the posterior's flow.")
    free_bits: float = Field(0.0, ge=0, description="Nats of KL per sample that cost nothing in training.")


class BetaVaeConfig(VaeConfig):
    """beta-VAE with a capacity."""

    beta: float = Field(4.0, ge=0, description="Weight of |KL - capacity|.")
    capacity: float = Field(0.0, ge=0, description="Nats of KL that cost nothing, reached at the end of the schedule.")
    capacity_steps: int = Field(0, ge=0, description="Steps over which the capacity rises linearly from 0; 0 has it from the start.")


class CvaeConfig(VaeConfig):
    """Conditional VAE."""

    condition_width: int = Field(32, ge=1, le=4096, description="Features of each condition's embedding.")
    condition_dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of training samples whose conditions are hidden; above 0 the model also works without them."
    )
    prior: Literal["standard", "learned"] = Field("standard", description="p(z|c): N(0, I), or a Gaussian that depends on c.")
