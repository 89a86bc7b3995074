"""Configurations of the sound families. Imports no torch."""

from __future__ import annotations

from pydantic import Field

import medgen


class SmallConfig(medgen.Config):
    """Of all but the sampler."""

    width: int = Field(4, ge=1, le=8, description="Features of embeddings and hidden layers.")
    layers: int = Field(2, ge=1, le=3, description="Maps in a row.")


class SamplerConfig(medgen.Config):
    """Of the sampler."""

    width: int = Field(4, ge=1, le=8, description="Features of embeddings.")
    total: int = Field(100, ge=50, le=200, description="Steps of the whole chain.")
    kept: int = Field(10, ge=1, le=50, description="Steps that sampling takes.")
