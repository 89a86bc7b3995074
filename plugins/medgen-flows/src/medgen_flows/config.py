"""Configurations of the flow families. Imports no torch."""

from __future__ import annotations

from pydantic import Field

import medgen

__all__ = ["FlowConfig"]


class FlowConfig(medgen.Config):
    """What all flows share."""

    condition_width: int = Field(32, ge=1, le=4096, description="Features of each condition's embedding.")
    temperature: float = Field(1.0, gt=0, le=2, description="Factor on the base distribution's noise when sampling.")
