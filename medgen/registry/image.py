"""What an array means: `ImageSpec`, `Intensity`, `ConditionSlot`, `ConditionSpec`. Torch-free and frozen.

Symbols: B batch, C channels, S spatial shape. A model's array is always [B, C, *S]; S has 0 (vectors, table rows), 1 (signals), 2 or 3
(images, volumes) axes.
"""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from medgen.errors import ConfigError

__all__ = ["ConditionSlot", "ConditionSpec", "ImageSpec", "Intensity"]

SlotKind = Literal["label", "attributes", "image"]
SLOT_KINDS: tuple[str, ...] = ("label", "attributes", "image")
SlotContent = Literal["any", "intensity", "labels"]


def _finite(numbers: Iterable[float]) -> bool:
    return all(math.isfinite(number) for number in numbers)


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(json.dumps(fields))  # tuples become lists
    return value


def _whole(number: Any, what: str) -> int:
    try:
        return operator.index(number)  # NumPy integers too, but no 2.7
    except TypeError:
        raise ConfigError(f"{what} must be whole; got {number!r}.") from None


@dataclass(frozen=True, kw_only=True)
class Intensity:
    """The affine map between stored units (HU, grey levels, mV) and the units that the model sees, per channel.

    model = a + (stored - low) / (high - low) * (b - a), with (a, b) = `range`; clipped to [a, b] where `clip`.

    Args:
        low, high: stored values that map to `a` and `b`; one per channel, or one for all.
        range: (a, b), what the model sees.
        clip: values outside [low, high] are clipped (windows) or kept (standardised tables).
        unit: of the stored values, for captions.
        dtype: NumPy name of the stored type, restored on output.
        rule: how low and high were found ("window -600 1400", "percentiles 0.5 99.5", "full range", "standardise").

    >>> lung = Intensity(low=(-600.0,), high=(1400.0,), range=(-1.0, 1.0), unit="HU", dtype="int16")
    >>> lung.scale(0), lung.offset(0)  # model = stored * scale + offset
    (0.001, -0.4)
    """

    low: tuple[float, ...] = (0.0,)
    high: tuple[float, ...] = (1.0,)
    range: tuple[float, float] = (0.0, 1.0)
    clip: bool = True
    unit: str = ""
    dtype: str = "float32"
    rule: str = "identity"

    def __post_init__(self) -> None:
        object.__setattr__(self, "low", tuple(float(v) for v in self.low))
        object.__setattr__(self, "high", tuple(float(v) for v in self.high))
        object.__setattr__(self, "range", (float(self.range[0]), float(self.range[1])))
        if len(self.low) != len(self.high) or not self.low:
            raise ConfigError(f"`low` and `high` must have one value per channel; got {len(self.low)} and {len(self.high)}.")
        for low, high in zip(self.low, self.high, strict=True):
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ConfigError(f"an intensity window must be finite with low < high; got {low} to {high}.")
        if not (_finite(self.range) and self.range[0] < self.range[1]):
            raise ConfigError(f"`range` must be finite and increase; got {self.range}.")

    def scale(self, channel: int) -> float:
        """Factor of the map stored -> model for one channel."""
        low, high = self._window(channel)
        return (self.range[1] - self.range[0]) / (high - low)

    def offset(self, channel: int) -> float:
        """Summand of the map stored -> model for one channel."""
        return self.range[0] - self._window(channel)[0] * self.scale(channel)

    def _window(self, channel: int) -> tuple[float, float]:
        index = 0 if len(self.low) == 1 else channel
        return self.low[index], self.high[index]


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """Shape, geometry and intensity of the arrays [B, C, *S] that a model is built for.

    Args:
        channels: C. For label maps the number of classes: models see them one-hot.
        shape: S, 0 to 3 axes.
        spacing: size of a voxel along each axis, in mm (seconds for signals), or None where unknown.
        content: "intensity", "labels" (one-hot), or "features" (table rows).
        intensity: the map between stored and model units.
        affine: 16 numbers, row by row: the 4x4 voxel-to-world matrix of the first file (RAS+ mm), or None.
        slice_axis: the axis of the volume across which 2-D slices were cut, or None.
        channel_names: e.g. ("T1", "FLAIR"), class names of label maps, column names of tables; may be empty.

    >>> ImageSpec(channels=1, shape=(28, 28)).dim
    2
    """

    channels: int
    shape: tuple[int, ...]
    spacing: tuple[float, ...] | None = None
    content: Literal["intensity", "labels", "features"] = "intensity"
    intensity: Intensity = field(default_factory=Intensity)
    affine: tuple[float, ...] | None = None
    slice_axis: int | None = None
    channel_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", _whole(self.channels, "`channels`"))
        object.__setattr__(self, "shape", tuple(_whole(s, "each axis of `shape`") for s in self.shape))
        object.__setattr__(self, "channel_names", tuple(self.channel_names))
        if self.spacing is not None:
            object.__setattr__(self, "spacing", tuple(float(s) for s in self.spacing))
        if self.affine is not None:
            object.__setattr__(self, "affine", tuple(float(a) for a in self.affine))
        self._check()

    def _check(self) -> None:
        if self.channels < 1:
            raise ConfigError(f"`channels` must be at least 1; got {self.channels}.")
        if len(self.shape) > 3 or any(s < 1 for s in self.shape):
            raise ConfigError(f"`shape` must have 0 to 3 axes, each at least 1; got {self.shape}.")
        if self.spacing is not None and (
            len(self.spacing) != len(self.shape) or not _finite(self.spacing) or any(s <= 0 for s in self.spacing)
        ):
            raise ConfigError(f"`spacing` must give one positive number per axis of {self.shape}; got {self.spacing}.")
        if self.content not in ("intensity", "labels", "features"):
            raise ConfigError(f"`content` must be 'intensity', 'labels' or 'features'; got {self.content!r}.")
        if self.affine is not None and (len(self.affine) != 16 or not _finite(self.affine)):
            raise ConfigError(f"`affine` must hold 16 finite numbers; got {self.affine}.")
        if self.slice_axis not in (None, 0, 1, 2):
            raise ConfigError(f"`slice_axis` must be 0, 1, 2 or None; got {self.slice_axis!r}.")
        if self.channel_names and len(self.channel_names) != self.channels:
            raise ConfigError(f"`channel_names` must name each of {self.channels} channels; got {self.channel_names}.")
        if len(self.intensity.low) not in (1, self.channels):
            raise ConfigError(f"`intensity` must have 1 or {self.channels} windows; got {len(self.intensity.low)}.")

    @property
    def dim(self) -> int:
        """Number of spatial axes, 0 to 3."""
        return len(self.shape)

    @property
    def size(self) -> tuple[int, ...]:
        """(C, *S), the shape of one sample."""
        return (self.channels, *self.shape)

    @property
    def numel(self) -> int:
        """D = C * prod(S), the number of values in one sample."""
        return math.prod(self.size)

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Interval of every value in model units: that of a window that clips, (0, 1) of one-hot labels, or None.

        >>> ImageSpec(channels=1, shape=(4,)).bounds, ImageSpec(channels=3, shape=(), content="features").bounds
        ((0.0, 1.0), None)
        """
        if self.content == "labels":
            return 0.0, 1.0
        return self.intensity.range if self.content == "intensity" and self.intensity.clip else None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; `from_json` inverts it."""
        return _plain(asdict(self))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ImageSpec:
        """Inverse of `to_json`."""
        try:
            return cls(**{**value, "intensity": Intensity(**value.get("intensity", {}))})
        except (TypeError, AttributeError) as error:  # a missing or foreign key
            raise ConfigError(f"this is not an image spec: {error}; got {value!r}.") from error


@dataclass(frozen=True, kw_only=True)
class ConditionSlot:
    """A kind of condition that a family accepts, declared in its `Capabilities`.

    Args:
        name: "label", "attributes", "source", "mask", "planes", "spacing", ...
        kind: "label" (class index per sample), "attributes" (vector per sample) or "image" (array per sample).
        required: False where the family works with the slot missing.
        content: what an image slot must hold: "labels" (one-hot maps), "intensity", or "any" of both.
    """

    name: str
    kind: SlotKind
    required: bool = False
    content: SlotContent = "any"

    def __post_init__(self) -> None:
        if self.kind not in SLOT_KINDS:
            raise ConfigError(f"`kind` of condition slot {self.name!r} must be one of {SLOT_KINDS}; got {self.kind!r}.")
        if not self.name.isidentifier():
            raise ConfigError(f"a condition slot's name must be an identifier; got {self.name!r}.")
        if self.content not in get_args(SlotContent) or (self.content != "any" and self.kind != "image"):
            raise ConfigError(
                f"`content` of condition slot {self.name!r} must be 'any', or of an image slot 'intensity' or 'labels'; "
                f"got {self.content!r} of kind {self.kind!r}."
            )


@dataclass(frozen=True, kw_only=True)
class ConditionSpec:
    """One concrete slot of a trained model: the slot plus its size.

    Args:
        name, kind: as in `ConditionSlot`.
        names: class names (label) or attribute names (attributes); their number is the slot's size.
        mean, sd: of each attribute over the training set; models see (value - mean) / sd.
        image: spec of an image slot.
    """

    name: str
    kind: SlotKind
    names: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    sd: tuple[float, ...] = ()
    image: ImageSpec | None = None

    def __post_init__(self) -> None:
        ConditionSlot(name=self.name, kind=self.kind)
        object.__setattr__(self, "names", tuple(str(n) for n in self.names))
        object.__setattr__(self, "mean", tuple(float(v) for v in self.mean))
        object.__setattr__(self, "sd", tuple(float(v) for v in self.sd))
        if (self.image is None) != (self.kind != "image"):
            raise ConfigError(f"condition {self.name!r}: `image` is for slots of kind 'image', and needed there.")
        if self.kind != "image" and not self.names:
            raise ConfigError(f"condition {self.name!r} of kind {self.kind!r} must name its classes or attributes; got none.")
        for numbers in (self.mean, self.sd):
            if numbers and len(numbers) != len(self.names):
                raise ConfigError(f"condition {self.name!r} must give mean and sd of each of {self.names}; got {numbers}.")
        if not _finite((*self.mean, *self.sd)) or any(sd <= 0 for sd in self.sd):
            raise ConfigError(f"condition {self.name!r} must have finite means and positive sds; got {self.mean} and {self.sd}.")

    @property
    def size(self) -> int:
        """Number of classes, attributes, or image channels."""
        return self.image.channels if self.image is not None else len(self.names)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; `from_json` inverts it."""
        return _plain(asdict(self))

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ConditionSpec:
        """Inverse of `to_json`."""
        try:
            image = value.get("image")
            return cls(**{**value, "image": None if image is None else ImageSpec.from_json(image)})
        except (TypeError, AttributeError) as error:
            raise ConfigError(f"this is not a condition spec: {error}; got {value!r}.") from error
