"""Configurations of the families. Imports no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

import medgen

__all__ = ["ParzenConfig"]


class ParzenConfig(medgen.Config):
    """Gaussian kernel density."""

    rule: Literal["scott", "silverman", "leave_one_out", "grid", "fixed"] = Field(
        "leave_one_out", description="Where the factor of the bandwidth comes from; grid is cross-validated over factors from 0.1 to 10."
    )
    kind: Literal["absolute", "scalar", "diagonal", "full"] = Field(
        "full", description="What it is a factor on: 1 (model units), one deviation for all values, each value's own, or the covariance."
    )
    factor: float = Field(1.0, gt=0, le=1e6, description="The factor of rule fixed.")
    folds: int = Field(5, ge=2, le=100, description="Parts of the data of rule grid.")
    grid_size: int = Field(100, ge=2, le=10000, description="Factors of rule grid, spaced evenly in logarithm.")
