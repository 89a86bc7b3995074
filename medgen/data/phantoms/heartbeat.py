"""One-lead electrocardiograms: a strip around one beat, made of Gaussian waves whose place, width and height are known.

Model: signal(t) = sum over beats and waves of A exp(-(t - t_wave)^2 / (2 s^2)), the waves of McSharry et al., A dynamical model for
generating synthetic electrocardiogram signals (2003) | https://doi.org/10.1109/TBME.2003.808805
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgen.data.arrays import from_arrays
from medgen.data.dataset import Dataset
from medgen.data.phantoms.drawing import Array, bounded, check_count, generator
from medgen.errors import DataError

__all__ = ["BEATS", "Heartbeat", "draw_heartbeat", "heartbeat", "heartbeat_signal", "noiseless_heartbeat"]

BEATS = ("normal", "PVC")
"""Of the central beat: normal, or premature ventricular contraction."""

# wave -> delay after R in s (P and T scale with the RR interval), width in s, height in mV
_NORMAL = {
    "P": (-0.17, 0.022, 0.14),
    "Q": (-0.030, 0.009, -0.10),
    "R": (0.0, 0.011, 1.15),
    "S": (0.030, 0.011, -0.24),
    "T": (0.27, 0.050, 0.30),
}
# A ventricular beat has no P, a wide QRS and a T wave opposite to it.
_PVC = {"R": (0.0, 0.032, 1.45), "S": (0.085, 0.035, -0.55), "T": (0.30, 0.062, -0.42)}


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """The truth about one strip; times in s from its central R peak, heights in mV.

    Args:
        heart_rate: of the sinus rhythm, per minute.
        beat: index into `BEATS`, of the central beat.
        prematurity: the interval before a PVC as a fraction of the normal one; 1 for normal beats.
        r_height: of the normal R peak.
        t_height: of the normal T wave.
        qrs_width: factor on the widths of Q, R and S.
        wander: amplitude of the baseline wander.
    """

    heart_rate: float
    beat: int
    prematurity: float
    r_height: float
    t_height: float
    qrs_width: float
    wander: float

    @property
    def rr(self) -> float:
        """Interval between normal beats, 60 / heart rate, in s."""
        return 60.0 / self.heart_rate

    def r_times(self, reach: float) -> list[float]:
        """R peaks within `reach` s of the central one. The sinus node keeps its clock: a PVC is followed by a compensatory pause."""
        before = -self.prematurity * self.rr
        after = (2.0 - self.prematurity) * self.rr
        count = int(reach / self.rr) + 2
        times = [before - k * self.rr for k in range(count)] + [0.0] + [after + k * self.rr for k in range(count)]
        return sorted(t for t in times if abs(t) <= reach)


def draw_heartbeat(rng: np.random.Generator) -> Heartbeat:
    """A random strip: heart rate 50 to 110 per minute, one central beat in three a PVC."""
    beat = int(rng.uniform() < 1 / 3)
    early = float(rng.uniform(0.55, 0.75))
    return Heartbeat(
        heart_rate=float(rng.uniform(50.0, 110.0)),
        beat=beat,
        prematurity=early if beat else 1.0,
        r_height=bounded(rng, 1.15, 0.15),
        t_height=bounded(rng, 0.30, 0.05),
        qrs_width=bounded(rng, 1.0, 0.07),
        wander=float(rng.uniform(0.0, 0.08)),
    )


def noiseless_heartbeat(truth: Heartbeat, times: Array) -> Array:
    """The strip in mV at `times` (s from the central R peak), without wander and noise."""
    signal = np.zeros_like(times)
    reach = float(np.abs(times).max()) + 1.5  # waves of beats outside the strip may enter it
    for r_time in truth.r_times(reach):
        ventricular = truth.beat == 1 and r_time == 0.0
        for name, (delay, width, height) in (_PVC if ventricular else _NORMAL).items():
            # Bazett: the QT interval goes with the root of RR
            slow = math.sqrt(truth.rr) if name in "PT" else 1.0
            spread = width * (slow if name in "PT" else truth.qrs_width)
            gain = truth.t_height / _NORMAL["T"][2] if name == "T" else truth.r_height / _NORMAL["R"][2]
            signal += gain * height * np.exp(-0.5 * ((times - r_time - delay * slow) / spread) ** 2)
    return signal


def heartbeat_signal(truth: Heartbeat, rng: np.random.Generator, length: int, rate: float, noise: float = 0.015) -> NDArray[np.float32]:
    """The strip in mV [length], its central R peak at sample length // 2, with baseline wander and white noise.

    Args:
        truth: the strip.
        rng: of wander and noise.
        length: samples.
        rate: samples per s.
        noise: standard deviation in mV.
    """
    times = (np.arange(length) - length // 2) / rate
    breath, phase = rng.uniform(0.15, 0.35), rng.uniform(0.0, 2.0 * np.pi)
    wander = truth.wander * np.sin(2.0 * np.pi * breath * times + phase)
    return (noiseless_heartbeat(truth, times) + wander + noise * rng.standard_normal(length)).astype(np.float32)


_ATTRIBUTES = ("heart_rate", "prematurity", "r_height", "t_height")


def heartbeat(*, n: int = 2000, length: int = 256, rate: float = 125.0, seed: int = 0, noise: float = 0.015, **data: Any) -> Dataset:
    """One-lead ECG strips in mV centred on an R peak, class normal or PVC, with heart rate and wave heights.

    Args:
        n: number of strips.
        length: samples per strip.
        rate: samples per second.
        seed: of all randomness.
        noise: standard deviation in mV.
        data: passed to `from_arrays`; the window is -1.5 2.5 mV unless given.
    """
    check_count(n=n, length=length)
    if not rate > 0:
        raise DataError(f"`rate` must be positive; got {rate}.")

    def make(rng: np.random.Generator) -> tuple[Heartbeat, NDArray[np.float32]]:
        truth = draw_heartbeat(rng)
        return truth, heartbeat_signal(truth, rng, length, rate, noise)

    samples = [make(generator(seed, i)) for i in range(n)]
    window = {} if "percentiles" in data else {"window": (-1.5, 2.5)}
    return from_arrays(
        np.stack([signal for _, signal in samples]),
        labels=[truth.beat for truth, _ in samples],
        class_names=BEATS,
        attributes={name: np.array([getattr(truth, name) for truth, _ in samples]) for name in _ATTRIBUTES},
        spacing=(1.0 / rate,),
        name="heartbeat",
        **{"dim": 1, "unit": "mV", **window, **data},
    )
