"""Hearts over one cardiac cycle: the ejection fraction, every area and every injected spike are known."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from medgen.data.phantoms.cardiac import CardiacShape, draw_cardiac
from medgen.data.phantoms.drawing import bounded
from medgen.errors import DataError

__all__ = ["CardiacCycle", "contraction", "draw_cycle"]

# class -> mean and sd of the ejection fraction
_EJECTION = {"normal": (0.62, 0.04), "dilated": (0.28, 0.06), "hypertrophic": (0.68, 0.04)}


@dataclass(frozen=True, kw_only=True)
class CardiacCycle:
    """One slice of a beating heart. Frame 0 is end-diastole (ED), frame `end_systole` is end-systole (ES).

    At contraction s(t) in [0, 1] the semi-axes shrink by g = 1 - s (1 - g_ES), and the long axis of the ventricle by
    l = 1 - s (1 - l_ES). The cavity's volume is proportional to g^2 l, so that EF = 1 - g_ES^2 l_ES; the volume of the muscle,
    proportional to its area times l, is kept, so that the wall thickens.

    Args:
        diastole: the heart at ED.
        ejection_fraction: EF, in (0, 1).
        shortening: 1 - l_ES, of the long axis.
        frames: T, which cover one cycle; frame T would be frame 0 again.
        spikes: frames whose left cavity is drawn with the wrong size.
        spike_scale: factor on the cavity's semi-axes in those frames.
    """

    diastole: CardiacShape
    ejection_fraction: float
    shortening: float
    frames: int
    spikes: tuple[int, ...] = ()
    spike_scale: float = 0.8

    @property
    def end_systole(self) -> int:
        """The frame of smallest cavity, at about 35 % of the cycle."""
        return max(1, round(0.35 * self.frames))

    def contraction(self, frame: int) -> float:
        """s(t): 0 at ED, 1 at ES."""
        return contraction(frame, self.end_systole, self.frames)

    def shape(self, frame: int) -> CardiacShape:
        """The heart as drawn in one frame, spikes included."""
        heart = self.true_shape(frame)
        if frame not in self.spikes:
            return heart
        return replace(heart, a=heart.a * self.spike_scale, b=heart.b * self.spike_scale)

    def true_shape(self, frame: int) -> CardiacShape:
        """The heart in one frame, without spikes."""
        s = self.contraction(frame)
        heart = self.diastole
        long_axis = 1.0 - s * self.shortening
        g = 1.0 - s * (1.0 - math.sqrt((1.0 - self.ejection_fraction) / (1.0 - self.shortening)))
        a, b = heart.a * g, heart.b * g
        # (a + w)(b + w) - a b = muscle area / pi, solved for w
        wall = 0.5 * (math.sqrt((a + b) ** 2 + 4.0 * heart.myo_area / (math.pi * long_axis)) - a - b)
        return replace(heart, a=a, b=b, wall_thickness=wall, rv_width=heart.rv_width * (1.0 - 0.3 * s))


def contraction(frame: int, end_systole: int, frames: int) -> float:
    """s(t): 0 at ED, 1 at ES, two half cosines between, so that s has a continuous slope and period `frames`.

    >>> [round(contraction(t, 2, 6), 3) for t in range(7)]
    [0.0, 0.5, 1.0, 0.854, 0.5, 0.146, 0.0]
    """
    t = frame % frames
    phase = t / end_systole if t <= end_systole else 1.0 + (t - end_systole) / (frames - end_systole)
    return 0.5 * (1.0 - math.cos(math.pi * phase))


def draw_cycle(rng: np.random.Generator, frames: int = 30, spikes: int = 0, spike_scale: float = 0.8) -> CardiacCycle:
    """A random beating heart; the spikes are distinct frames, never the first or last, which have no two neighbours.

    Args:
        rng: source of every random number.
        frames: T, at least 3.
        spikes: how many frames are spoiled, at most T - 2.
        spike_scale: factor on the cavity's semi-axes in those frames.

    Raises:
        DataError: too few frames, or more spikes than inner frames.
    """
    if frames < 3 or not 0 <= spikes <= frames - 2:
        raise DataError(f"`frames` must be at least 3 and `spikes` in 0..frames - 2; got {frames} frames and {spikes} spikes.")
    heart = draw_cardiac(rng)
    fraction = bounded(rng, *_EJECTION[heart.disease])
    chosen = rng.permutation(np.arange(1, frames - 1))[:spikes]
    return CardiacCycle(
        diastole=heart,
        ejection_fraction=fraction,
        shortening=0.25 * fraction,
        frames=frames,
        spikes=tuple(sorted(int(t) for t in chosen)),
        spike_scale=spike_scale,
    )
