"""Configurations of the diffusion families. Imports no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

import medgen
from medgen import runtime_field

__all__ = [
    "ChainConfig",
    "DdpmConfig",
    "EdmConfig",
    "FlowMatchingConfig",
    "LatentDiffusionConfig",
    "NetworkConfig",
    "ProbabilityFlowConfig",
]

Multiplier = Annotated[int, Field(ge=1, le=64)]


class NetworkConfig(medgen.Config):
    """The network, and what all diffusion models share."""

    width: int = Field(32, ge=1, le=4096, description="Features at full resolution.")
    multipliers: tuple[Multiplier, ...] = Field(
        (1, 2, 4), min_length=1, description="Features at each resolution, each half the last, over `width`; layer widths for vectors."
    )
    blocks: int = Field(1, ge=1, le=32, description="Residual blocks per resolution.")
    attention: tuple[int, ...] = Field(
        (-1,), description="Resolutions with self-attention: 0 the full one, -1 the lowest; [] for none. Time grows with voxels squared."
    )
    head_channels: int = Field(32, ge=1, le=4096, description="Features per head of attention.")
    dropout: float = Field(0.0, ge=0, lt=1, description="Dropout within the blocks.")
    checkpointing: bool = Field(
        False, description="Compute activations again in the backward pass instead of keeping them: for volumes; a third more time."
    )
    condition_width: int = Field(32, ge=1, le=4096, description="Features of each condition's embedding.")
    condition_dropout: float = Field(
        0.1, ge=0, lt=1, description="Share of training samples whose conditions are hidden; above 0 the model also works without them."
    )
    guidance: float = runtime_field(
        1.0, ge=0, le=100, description="Classifier-free guidance: 0 ignores the conditions, 1 follows them, more than 1 exaggerates them."
    )
    sampling_memory: float | None = runtime_field(
        None, gt=0, description="GiB that sampling may take beside the weights; samples are then drawn in as many turns as needed."
    )
    precision: Literal["auto", "float32", "bfloat16"] = runtime_field(
        "auto",
        description="Arithmetic of sampling; auto: bfloat16 where that is faster and changes the network's output by at most 1 %.",
    )
    compile: bool = runtime_field(
        False, description="Sample through torch.compile: pays for thousands of samples; needs a C++ compiler, on a GPU Triton."
    )

    @property
    def channels(self) -> tuple[int, ...]:
        """Features at each resolution."""
        return tuple(self.width * multiplier for multiplier in self.multipliers)

    @model_validator(mode="after")
    def _check_guidance(self) -> Self:
        if self.guidance != 1 and self.condition_dropout == 0:
            raise ValueError(f"`guidance` needs a model trained with `condition_dropout` above 0; got guidance {self.guidance:g}")
        return self


class ChainConfig(NetworkConfig):
    """Denoising diffusion in discrete time: the chain and how it is sampled."""

    schedule: Literal["linear", "cosine"] = Field("cosine", description="Noise over time: betas that rise linearly, or Improved DDPM's.")
    steps: int = Field(1000, ge=2, le=100_000, description="Length T of the chain.")
    prediction: Literal["eps", "x0", "v"] = Field(
        "v",
        description="What the network predicts: the noise, the data, or v = sqrt(abar) eps - sqrt(1 - abar) x0.",
    )
    variance: Literal["beta", "posterior", "learned"] = Field(
        "posterior", description="Of the reverse steps: beta_t, that of the posterior given the data, or in between as the network says."
    )
    loss: Literal["auto", "simple", "hybrid", "vlb"] = Field(
        "auto",
        description="Squared error; with 0.001 of the bound, which trains a learned variance; the bound; auto by variance.",
    )
    time_sampling: Literal["uniform", "importance"] = Field(
        "uniform", description="Training times: all alike, or in proportion to the root mean square of their last 10 losses."
    )
    sampler: Literal["ancestral", "ddim", "dpm_solver"] = runtime_field(
        "dpm_solver", description="DDPM's own chain, DDIM, or DPM-Solver++(2M)."
    )
    sampling_steps: int | None = runtime_field(
        None, ge=1, le=100_000, description="Steps kept of the chain; none: 250 (ancestral), 50 (ddim) or 20 (dpm_solver)."
    )
    spacing: Literal["auto", "trailing", "uniform", "linspace", "quadratic", "log_snr"] = runtime_field(
        "auto", description="Which steps are kept; auto: trailing, but log_snr for dpm_solver."
    )
    eta: float = runtime_field(0.0, ge=0, le=1, description="Noise of ddim: 0 none, 1 that of DDPM.")
    threshold: Literal["auto", "static", "dynamic", "none"] = runtime_field(
        "auto",
        description="Bound on the predicted data: their range, or a quantile (for strong guidance); auto: static where data have a range.",
    )
    cuda_graph: bool = runtime_field(False, description="Capture a step of ancestral or ddim as a CUDA graph.")

    @model_validator(mode="after")
    def _check_chain(self) -> Self:
        if self.schedule == "linear" and self.steps <= 20:
            raise ValueError(f"the linear schedule needs more than 20 `steps`, or its betas exceed 1; got {self.steps}; use cosine")
        if self.sampling_steps is not None and self.sampling_steps > self.steps:
            raise ValueError(f"`sampling_steps` must not exceed the chain's {self.steps} steps; got {self.sampling_steps}")
        if self.sampler == "dpm_solver" and self.cuda_graph:
            raise ValueError("`cuda_graph` needs `sampler` ancestral or ddim; got dpm_solver")
        if self.loss == "simple" and self.variance == "learned":
            raise ValueError("`loss` simple cannot train a learned variance; use auto, hybrid or vlb")
        if self.loss == "hybrid" and self.variance != "learned":
            raise ValueError(f"`loss` hybrid is for a learned variance; got variance {self.variance}; use simple or vlb")
        return self


class DdpmConfig(ChainConfig):
    """Denoising diffusion in discrete time, with its bound."""

    resample: int | None = runtime_field(
        None,
        ge=1,
        le=100,
        description="Rounds per step when filling in what is not known: more fit better to what is; none: 5, but 1 for dpm_solver.",
    )
    bound_draws: int = runtime_field(
        16,
        ge=1,
        le=100_000,
        description="Terms of the bound that log_prob evaluates per importance sample, spread over time; T or more: all.",
    )

    @model_validator(mode="after")
    def _check_resample(self) -> Self:
        if self.sampler == "dpm_solver" and (self.resample or 1) > 1:
            raise ValueError("`resample` needs `sampler` ancestral or ddim; got dpm_solver")
        return self


class ProbabilityFlowConfig(NetworkConfig):
    """What models in continuous time share."""

    resample: int = runtime_field(
        5, ge=1, le=100, description="Rounds per step when filling in what is not known: more fit better to what is; time grows with them."
    )
    log_prob_steps: int = runtime_field(
        64, ge=1, le=100_000, description="Steps of Heun's method along which log_prob follows the samples into noise; two calls each."
    )
    exact_divergence: int = runtime_field(
        8,
        ge=0,
        le=65536,
        description="Values up to which log_prob computes the divergence, by a backward pass for each; beyond, it estimates it.",
    )


class EdmConfig(ProbabilityFlowConfig):
    """EDM. Noise levels are in units of the data's standard deviation: EDM's own, for one of 0.5, are half of these."""

    noise_mean: float = Field(-0.5, ge=-10, le=10, description="Mean of ln sigma in training.")
    noise_sd: float = Field(1.2, gt=0, le=10, description="Standard deviation of ln sigma in training.")
    sigma_min: float = runtime_field(0.004, gt=0, lt=1, description="Least noise level of sampling; data are known as precisely as that.")
    sigma_max: float = runtime_field(160.0, gt=1, le=1e6, description="Noise level that sampling starts with.")
    rho: float = runtime_field(7.0, gt=0, le=100, description="Spacing of the noise levels: 1 even, more has more of them near the data.")
    sampling_steps: int = runtime_field(18, ge=1, le=100_000, description="Noise levels; two calls of the network each, but for the last.")
    churn: float = runtime_field(0.0, ge=0, description="Noise added anew while sampling, S_churn; 0 is deterministic.")
    churn_min: float = runtime_field(0.0, ge=0, description="Least noise level with churn, S_min.")
    churn_max: float | None = runtime_field(None, ge=0, description="Greatest noise level with churn, S_max; none has no limit.")
    churn_noise: float = runtime_field(1.0, ge=0, le=2, description="Standard deviation of the noise added, S_noise.")


class FlowMatchingConfig(ProbabilityFlowConfig):
    """Flow matching on straight paths."""

    time_sampling: Literal["uniform", "logit_normal"] = Field(
        "logit_normal", description="Training times: all alike, or more in the middle, where data and noise are hardest to tell apart."
    )
    logit_mean: float = Field(0.0, ge=-5, le=5, description="Mean of logit t for logit_normal; above 0 is nearer to the data.")
    logit_sd: float = Field(1.0, gt=0, le=5, description="Standard deviation of logit t for logit_normal.")
    sampler: Literal["euler", "midpoint", "heun"] = runtime_field("midpoint", description="How the flow is followed from noise to data.")
    sampling_steps: int = runtime_field(
        25, ge=1, le=100_000, description="Steps from noise to data: one call of the network each (euler), or two."
    )


class LatentDiffusionConfig(ChainConfig):
    """Denoising diffusion of the latents of another model."""

    first_stage: str | dict[str, Any] = Field(
        description="Run folder or weights file of the trained model whose latents are learned; once it is part of this one, what it was."
    )
