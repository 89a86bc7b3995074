"""Configurations of the sound families. Imports no torch."""

from __future__ import annotations

from typing import Self

from pydantic import ConfigDict, Field, field_serializer, model_validator

import medgen


class SmallConfig(medgen.Config):
    """Of all but the sampler."""

    width: int = Field(4, ge=1, le=8, description="Features of embeddings and hidden layers.")
    layers: int = Field(2, ge=1, le=3, description="Maps in a row.")


class SamplerConfig(medgen.Config):
    """Of the sampler."""

    width: int = Field(4, ge=1, le=8, description="Features of embeddings.")
    total: int = Field(100, ge=50, le=200, description="Steps of the whole chain.")
    kept: int = medgen.runtime_field(10, ge=1, le=50, description="Steps that sampling takes.")


class Reopened(SmallConfig):
    """A size that can be overridden after training."""

    width: int = medgen.runtime_field(4, ge=1, le=8, description="Features of embeddings and hidden layers.")


class Changeable(SmallConfig):
    """Not frozen."""

    model_config = ConfigDict(frozen=False)


class Rounded(SmallConfig):
    """Written with one decimal."""

    scale: float = Field(0.25, gt=0, le=1, description="Factor.")

    @field_serializer("scale")
    def _short(self, scale: float) -> float:
        return round(scale, 1)


class Contradictory(SmallConfig):
    """The defaults contradict each other."""

    hidden: int = Field(2, ge=1, le=64, description="At least `width`.")

    @model_validator(mode="after")
    def _wide(self) -> Self:
        if self.hidden < self.width:
            raise ValueError("`hidden` must be at least `width`.")
        return self


class Lenient(SmallConfig):
    """Takes any key."""

    model_config = ConfigDict(extra="ignore")


class Advisory(SmallConfig):
    """Limits that are written down and not checked."""

    rate: float = Field(0.5, description="In [0, 1].", json_schema_extra={"minimum": 0, "maximum": 1})
