"""1-D signals: recordings [C, T] cut into windows, and WFDB records of format 212."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from medgen.data.config import DataConfig
from medgen.data.samples import Array, ArrayStore, Samples
from medgen.errors import DataError

__all__ = ["Recording", "decode_212", "read", "windows"]

DEFAULT_LENGTH = 256


@dataclass(frozen=True)
class Recording:
    """One recording: name and values [C, T]."""

    name: str
    values: Array


def windows(
    recordings: Sequence[Recording],
    source: str,
    config: DataConfig,
    *,
    rate: float | None = None,
    channel_names: tuple[str, ...] = (),
    unit: str = "",
) -> Samples:
    """All windows of `length` samples, every `stride`; a rest at the end is left out. The subject is the recording.

    Args:
        recordings: of the same number of channels.
        source: path of the whole.
        rate: samples per second.
    """
    length = config.length or DEFAULT_LENGTH
    stride = config.stride or length
    parts, names, starts = [], [], []
    for recording in recordings:
        values = recording.values if config.channels is None else recording.values[list(config.channels)]
        if values.dtype.kind == "f":
            values = values.astype(np.float32, copy=False)
        if values.shape[1] < length:
            raise DataError(f"{recording.name}: a signal must hold at least `length` = {length} samples; got {values.shape[1]}.")
        view = np.lib.stride_tricks.sliding_window_view(values, length, axis=1)[:, ::stride].transpose(1, 0, 2)
        parts.append(view)
        names += [recording.name] * len(view)
        starts += list(range(0, stride * len(view), stride))
    if len({part.shape[1] for part in parts}) > 1:
        raise DataError(f"{source}: all recordings must have the same channels; got {[part.shape[1] for part in parts]}.")
    labels = channel_names if config.channels is None else tuple(channel_names[c] for c in config.channels if c < len(channel_names))
    # A single recording stays a view: overlapping windows cost no memory.
    store = ArrayStore(parts[0] if len(parts) == 1 else np.concatenate(parts))
    return Samples(
        store=store,
        origins=lambda i: f"{names[i]} samples {starts[i]}..{starts[i] + length - 1}",
        source=source,
        subjects=None if config.subjects == "none" else np.array(names),
        ordered=True,
        guard=-(-length // stride) - 1,
        spacing=None if rate is None else (1.0 / rate,),
        channel_names=labels,
        unit=unit,
        geometry=("signal", Path(source), None),
    )


def read(path: Path, config: DataConfig) -> Samples:
    """A WFDB record of format 212, from its .hea or .dat file, in physical units.

    Raises:
        DataError: a header that cannot be read, another format, or a data file that is too short.
    """
    header = path.with_suffix(".hea")
    try:
        lines = [line.split() for line in header.read_text(encoding="ascii").splitlines() if line.strip() and not line.startswith("#")]
        count, rate, total = int(lines[0][1]), float(lines[0][2].split("/")[0]), int(lines[0][3])
        signals = lines[1 : 1 + count]
        if len(signals) != count or count < 1:
            raise ValueError(f"{count} signals announced, {len(signals)} described")
        gains, zeros, units = zip(*(_gain(fields) for fields in signals), strict=True)
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{header}: must be a WFDB header; {type(error).__name__}: {error}") from error
    if any(fields[1] != "212" or fields[0] != signals[0][0] for fields in signals):
        raise DataError(f"{header}: only records in one file of format 212 are read; got {[(f[0], f[1]) for f in signals]}.")
    file = header.parent / signals[0][0]
    try:
        packed = np.fromfile(file, dtype=np.uint8)
    except OSError as error:
        raise DataError(f"{file}: cannot be read; {error}") from error
    codes = decode_212(packed)
    if len(codes) < count * total:
        raise DataError(f"{file}: must hold {count} x {total} samples as {header.name} says; got {len(codes)}. It may be truncated.")
    raw = codes[: count * total].reshape(total, count).T.astype(np.float32)
    values = (raw - np.array(zeros, np.float32)[:, None]) / np.array(gains, np.float32)[:, None]
    names = tuple(" ".join(fields[8:]) or f"lead{k}" for k, fields in enumerate(signals))
    return windows([Recording(header.stem, values)], str(path), config, rate=rate, channel_names=names, unit=units[0])


def _gain(fields: Sequence[str]) -> tuple[float, float, str]:
    """ADC units per physical unit, the ADC value of zero, and the unit; "200(1024)/mV" and "200 11 1024" are both WFDB."""
    text, _, unit = fields[2].partition("/")
    gain, _, baseline = text.partition("(")
    zero = float(baseline.rstrip(")")) if baseline else float(fields[4]) if len(fields) > 4 else 0.0
    return float(gain) or 200.0, zero, unit or "mV"


def decode_212(packed: Array) -> Array:
    """Pairs of 12-bit two's complement integers from 3 bytes each: a = b0 + 256 (b1 & 15), b = b2 + 256 (b1 >> 4).

    >>> decode_212(np.array([0xE3, 0x33, 0xF3, 0xFF, 0xFF, 0x01], dtype=np.uint8)).tolist()
    [995, 1011, -1, -255]
    """
    triples = packed[: len(packed) // 3 * 3].reshape(-1, 3).astype(np.int16)
    low = triples[:, 0] | ((triples[:, 1] & 15) << 8)
    high = triples[:, 2] | ((triples[:, 1] >> 4) << 8)
    pairs = np.stack([low, high], 1).reshape(-1)
    return np.where(pairs > 2047, pairs - 4096, pairs).astype(np.int16)
