"""How one sample becomes pictures: which planes and channels, which way up, how wide in mm, which grey window.

Volumes and slices whose orientation is known are shown as radiologists look at them: the patient's right on the left of the picture,
anterior (axial planes) or superior (coronal and sagittal planes) at the top; sagittal planes face left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from medgen.data.geometry import axis_codes
from medgen.data.intensity import label_values
from medgen.data.samples import Array
from medgen.registry import ImageSpec

__all__ = ["Display", "View", "views_of"]

_PLANES = {"L": "sagittal", "R": "sagittal", "A": "coronal", "P": "coronal", "S": "axial", "I": "axial"}
_MOST_CHANNELS = 4
_SPARSE = 0.05  # share of foreground below which a middle slice often shows nothing


@dataclass(frozen=True)
class View:
    """One picture of a sample.

    Args:
        name: e.g. "axial", "T1", "T1 axial"; empty where there is but one.
        channel: of the sample; None shows three channels as red, green and blue.
        axis: of a volume, perpendicular to the picture; None for images.
        project: the maximum along `axis`, instead of the middle slice.
        turn: rows and columns are exchanged.
        flip: (rows, columns) are reversed, after `turn`.
        size: (height, width) of the picture in mm, or in pixels where the spacing is unknown.
    """

    name: str
    channel: int | None
    axis: int | None
    project: bool
    turn: bool
    flip: tuple[bool, bool]
    size: tuple[float, float]

    def __call__(self, x: Array) -> Array:
        """x [C, *S] -> [H, W], or [H, W, 3]."""
        picture = np.moveaxis(x[:3], 0, -1) if self.channel is None else x[self.channel]
        if self.axis is not None:
            picture = picture.max(self.axis) if self.project else picture.take(picture.shape[self.axis] // 2, self.axis)
        if self.turn:
            picture = picture.swapaxes(0, 1)
        rows, columns = (-1 if flipped else 1 for flipped in self.flip)
        turned: Array = picture[::rows, ::columns]
        return turned


@dataclass(frozen=True)
class Display:
    """How the samples of one spec are shown, the same in every figure of a report.

    Args:
        spec: of the samples.
        views: pictures per sample; empty for signals and vectors.
        low, high: the grey window in stored units, one per channel.
        levels: stored class numbers of label maps.
    """

    spec: ImageSpec
    views: tuple[View, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    levels: tuple[float, ...] = ()

    @classmethod
    def of(cls, spec: ImageSpec, reference: Array | None = None) -> Display:
        """Fitted to samples in stored units, [N, C, *S] (label maps [N, 1, *S]); without any, to the spec alone.

        >>> Display.of(ImageSpec(channels=1, shape=(8, 8, 8))).views[0].name
        'axis 0'
        """
        low, high = _window(spec, reference)
        levels = label_values(spec) if spec.content == "labels" else ()
        return cls(spec, views_of(spec, project=reference is not None and _sparse(spec, reference)), low, high, levels)

    @property
    def project(self) -> bool:
        """Whether volumes are shown as maximum projections."""
        return any(view.project for view in self.views)

    @property
    def labels(self) -> bool:
        """Whether values are class numbers."""
        return self.spec.content == "labels"

    @property
    def unit(self) -> str:
        """Of the stored values, for axes."""
        return "class" if self.labels else self.spec.intensity.unit or "stored units"

    def channel_name(self, channel: int) -> str:
        """For captions and axes."""
        names = self.spec.channel_names
        return names[channel] if names and not self.labels else f"channel {channel}"

    @property
    def caption(self) -> str:
        """What a reader must know to look at the pictures."""
        parts = []
        if self.spec.dim == 3:
            kind = "maximum projections (the foreground is too sparse for slices)" if self.project else "middle slices"
            parts.append(f"Volumes are shown as {kind}.")
        if _codes(self.spec):
            parts.append("Radiological view: the patient's right is on the left of the picture.")
        elif self.spec.dim == 3:
            parts.append("The orientation is not known; axes are as stored.")
        if self.spec.dim > 1 and self.spec.content == "intensity" and not _same(self.low, self.high):
            parts.append("Each channel has its own grey window.")
        elif self.spec.dim > 1 and self.spec.content == "intensity":
            parts.append(f"Grey levels span {self.low[0]:.4g} to {self.high[0]:.4g} {self.unit}.")
        if self.spec.channels > _MOST_CHANNELS and self.spec.dim > 0 and not self.labels:
            parts.append(f"The first {_MOST_CHANNELS} of {self.spec.channels} channels are shown.")
        return " ".join(parts)


def views_of(spec: ImageSpec, *, project: bool = False) -> tuple[View, ...]:
    """The pictures of a sample: one per channel and plane; none for signals and vectors."""
    if spec.dim < 2:
        return ()
    channels: Sequence[int | None] = [0] if spec.content == "labels" else range(min(spec.channels, _MOST_CHANNELS))
    if _is_colour(spec):
        channels = [None]
    views = []
    for channel in channels:
        name = "" if len(channels) == 1 else (spec.channel_names[channel or 0] if spec.channel_names else f"channel {channel}")
        views += [_view(spec, channel, axis, name, project) for axis in ((None,) if spec.dim == 2 else _plane_order(spec))]
    return tuple(views)


def _is_colour(spec: ImageSpec) -> bool:
    """Three nameless 8-bit channels are a colour photograph; named or finer ones are contrasts."""
    return spec.channels == 3 and spec.content == "intensity" and not spec.channel_names and spec.intensity.dtype == "uint8"


def _codes(spec: ImageSpec) -> str:
    """Anatomical directions of the volume's three axes; empty where unknown."""
    if spec.affine is None or (spec.dim == 2 and spec.slice_axis is None) or spec.dim < 2:
        return ""
    return axis_codes(np.array(spec.affine).reshape(4, 4))


def _plane_order(spec: ImageSpec) -> tuple[int, ...]:
    """Axial, coronal, sagittal where known."""
    codes = _codes(spec)
    return tuple(sorted(range(3), key=lambda axis: _PLANES[codes[axis]])) if codes else (0, 1, 2)


def _view(spec: ImageSpec, channel: int | None, axis: int | None, name: str, project: bool) -> View:
    across = spec.slice_axis if spec.dim == 2 else axis
    codes = _codes(spec)
    own = tuple(k for k in range(3) if k != across) if codes else (0, 1)
    in_plane = (0, 1) if spec.dim == 2 else tuple(k for k in range(3) if k != axis)
    lengths = tuple(spec.shape[k] * (spec.spacing[k] if spec.spacing else 1.0) for k in in_plane)
    turn, flip = _upright(codes[own[0]], codes[own[1]]) if codes else (False, (False, False))
    if axis is not None:
        plane = _PLANES[codes[axis]] if codes else f"axis {axis}"
        name = f"{name} {plane}".strip()
    size = (lengths[1], lengths[0]) if turn else (lengths[0], lengths[1])
    return View(name, channel, axis, project and axis is not None, turn, flip, size)


def _upright(first: str, second: str) -> tuple[bool, tuple[bool, bool]]:
    """(turn, (flip rows, flip columns)) for a plane whose axes grow towards `first` and `second`.

    >>> _upright("L", "P")  # rows grow to the left of the patient: must become columns
    (True, (False, False))
    """
    horizontal = "LR" if first in "LR" or second in "LR" else "AP"
    turn = first in horizontal
    down, right = (second, first) if turn else (first, second)
    return turn, (down not in "PI", right not in "LP")


def _window(spec: ImageSpec, reference: Array | None) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The window of images where somebody chose it, else the middle 99 % of the reference; signals have all of their range."""
    if spec.content == "labels":
        return (0.0,), (float(spec.channels - 1),)
    rule = spec.intensity
    spread = 1 if len(rule.low) == spec.channels else spec.channels
    low, high = list(rule.low * spread), list(rule.high * spread)
    if reference is None or not len(reference) or (spec.dim > 1 and rule.clip and not rule.rule.startswith("full range of")):
        return tuple(low), tuple(high)
    for c in range(spec.channels):
        values = np.asarray(reference[:, c], np.float64)
        a, b = np.percentile(values, (0.5, 99.5)) if spec.dim > 1 else (values.min(), values.max())
        if b > a:
            low[c], high[c] = float(a), float(b)
    return tuple(low), tuple(high)


def _same(low: tuple[float, ...], high: tuple[float, ...]) -> bool:
    return len(set(low)) == len(set(high)) == 1


def _sparse(spec: ImageSpec, x: Array) -> bool:
    if spec.dim != 3:
        return False
    if spec.content == "labels":
        return bool((x != label_values(spec)[0]).mean() < _SPARSE)
    middle = (np.asarray(spec.intensity.low) + np.asarray(spec.intensity.high)) / 2
    return bool((x > middle.reshape(1, -1, 1, 1, 1)).mean() < _SPARSE) and len(np.unique(x[:4])) <= 2
