"""`DataConfig`: how a path is read. Every field is an option of `medgen train`."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from medgen.registry.config import Config

__all__ = ["DataConfig"]

Pair = tuple[float, float]

_AXIS = {"L": 0, "R": 0, "P": 1, "A": 1, "I": 2, "S": 2}


class DataConfig(Config):
    """How data is read, cut, split and mapped to model units.

    >>> DataConfig.parse({"window": [-600, 1400]}).window
    (-600.0, 1400.0)
    >>> DataConfig.parse({"windw": [-600, 1400]})
    Traceback (most recent call last):
        ...
    medgen.errors.ConfigError: DataConfig has no key 'windw' (got [-600, 1400]); did you mean 'window'?
    """

    window: Pair | None = Field(None, description="Stored values LOW HIGH that map to the ends of the model's range; outside is clipped.")
    percentiles: Pair | None = Field(None, description="The same, found as two percentiles of the training split, e.g. 0.5 99.5.")
    range: Pair | None = Field(None, description="Interval of model units; by default the family's own.")
    content: Literal["auto", "intensity", "labels"] = Field(
        "auto", description="labels: integer maps, one-hot for the model; auto takes integers within 0..31 for labels."
    )
    dim: int | None = Field(None, ge=0, le=3, description="Spatial axes of one sample where an array can be read in several ways.")
    channels_last: bool | None = Field(None, description="Whether channels are the last axis of an array; by default told from its shape.")
    channels: tuple[int, ...] | None = Field(None, description="Numbers of the channels to keep; by default all.")
    axis: int | None = Field(
        None, ge=0, le=2, description="Cut volumes into 2-D slices: 0 sagittal, 1 coronal, 2 axial; by default whole volumes."
    )
    size: tuple[int, ...] | None = Field(None, description="Resize samples to this shape: linear with antialiasing, labels nearest.")
    spacing: tuple[float, ...] | None = Field(None, description="Resample volumes to this voxel size in mm, one number per axis.")
    orientation: str | None = Field(None, pattern="^[LRAPSI]{3}$", description="Turn volumes to these axes, e.g. RAS.")
    min_foreground: float = Field(
        0.0, ge=0, le=1, description="Drop slices with a smaller fraction of foreground (above the volume's mean; labels: nonzero)."
    )
    select: str | None = Field(None, description="Pattern of the file names to read in a folder, e.g. 'T1*.nii.gz'.")
    key: str | None = Field(None, description="Name of the npz array to learn; by default images, x, data and the like.")
    source: tuple[str, ...] | None = Field(
        None,
        description="Input of translation: npz arrays, columns of a table of files, or files, folders, patterns; several become channels.",
    )
    source_channels: tuple[int, ...] | None = Field(
        None, description="Numbers of the channels of the source to keep (npz arrays, 4-D files); by default all."
    )
    source_window: Pair | None = Field(None, description="As `window`, of the source.")
    source_content: Literal["auto", "intensity", "labels"] = Field("auto", description="As `content`, of the source.")
    pairing: Literal["auto", "name", "subject", "unpaired"] = Field(
        "auto",
        description="How files of source and target go together: by name, by subject (see `subjects`), not at all; auto: name or subject.",
    )
    regions: tuple[str, ...] = Field(
        (),
        description="Masks of regions beside the samples, in order of priority: npz arrays, columns of a table of files, or NAME=PATH.",
    )
    columns: tuple[str, ...] | None = Field(
        None, description="Columns of a CSV table to learn; by default all numeric ones without a role."
    )
    labels: str = Field("auto", description="npz array or CSV column with class labels; auto looks for one, none ignores it.")
    attributes: tuple[str, ...] = Field((), description="npz arrays or CSV columns that become the condition 'attributes'.")
    subjects: str = Field("auto", description="npz array, CSV column, or regex with one group on file names; none: unknown.")
    length: int | None = Field(None, ge=1, description="Samples per window of a 1-D signal; 256 for long recordings by default.")
    stride: int | None = Field(None, ge=1, description="Samples from one window to the next; by default the length, without overlap.")
    split: tuple[float, float, float] = Field((0.8, 0.1, 0.1), description="Fractions of training, validation and test.")
    split_seed: int = Field(0, ge=0, description="Seed of the random split.")
    val_subjects: tuple[str, ...] = Field((), description="Subjects for validation, by name; by default a fraction of those not for test.")
    test_subjects: tuple[str, ...] = Field((), description="Subjects for test, by name; the others are then for training and validation.")
    patch: tuple[int, ...] | None = Field(
        None, description="Train on random patches of this shape; the model then sees whole samples in tiles."
    )
    patches: int = Field(16, ge=1, description="Patches of each sample per epoch.")
    patch_foreground: float = Field(
        0.0, ge=0, le=1, description="Share of patches centred on the foreground: the regions, else what is above the sample's mean."
    )
    unit: str = Field("", description="Unit of the stored values, for captions; by default what the file says.")

    @field_validator("source", mode="before")
    @classmethod
    def _one_source(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else tuple(value) if isinstance(value, list) else value

    @field_validator("source")
    @classmethod
    def _some_source(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        return value or None

    @field_validator("window", "source_window", "percentiles", "range")
    @classmethod
    def _increases(cls, value: Pair | None) -> Pair | None:
        if value is not None and not value[0] < value[1]:
            raise ValueError("must increase")
        return value

    @field_validator("size", "spacing", "patch")
    @classmethod
    def _positive(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and not (1 <= len(value) <= 3 and all(v > 0 for v in value)):
            raise ValueError("must hold 1 to 3 positive numbers")
        return value

    @field_validator("percentiles")
    @classmethod
    def _within_hundred(cls, value: Pair | None) -> Pair | None:
        if value is not None and not (value[0] >= 0 and value[1] <= 100):
            raise ValueError("must lie in 0..100")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.window is not None and self.percentiles is not None:
            raise ValueError("give `window` or `percentiles`, not both")
        if both := sorted(set(self.val_subjects) & set(self.test_subjects)):
            raise ValueError(f"`val_subjects` and `test_subjects` must differ; {', '.join(both)} in both")
        if self.source is None and (self.pairing != "auto" or self.source_channels is not None):
            raise ValueError("`pairing` and `source_channels` need a `source`")
        if min(self.split) < 0 or self.split[0] <= 0 or abs(sum(self.split) - 1) > 1e-6:
            raise ValueError("`split` must be three fractions that sum to 1, the first above 0")
        if self.orientation is not None and len({_AXIS[letter] for letter in self.orientation}) < 3:
            raise ValueError("`orientation` must name left-right, front-back and up-down once each, e.g. RAS")
        return self
