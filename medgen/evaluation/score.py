"""`Score`: one figure with its interval and everything needed to compute it again."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Self

__all__ = ["Score"]


@dataclass(frozen=True)
class Score:
    """One figure. It never travels without its recipe: the same name with another recipe is another quantity.

    Args:
        name: of the metric.
        value: the figure, over all n samples.
        low, high: ends of the bootstrap interval, which the recipe describes; None where there is none (the note says why).
        n: number of samples the figure is about: pairs, generated samples, or scored samples.
        recipe: plain JSON values: definition, constants, extractor, sizes, resize, range, how the interval was found.
        better: which direction is better.
        note: what a reader must know before using the figure; may be empty.
        details: further statistics of the same quantity, e.g. "median" and "sd" (with 1/(N-1)) over the samples.

    >>> print(Score("psnr", 31.25, 30.5, 32.0, 64, {"maximum": "data range"}, "higher"))
    psnr 31.25 [30.50, 32.00] (higher is better, n=64)
    """

    name: str
    value: float
    low: float | None
    high: float | None
    n: int
    recipe: Mapping[str, Any]
    better: Literal["lower", "higher"]
    note: str = ""
    details: Mapping[str, float] = field(default_factory=dict)

    @property
    def interval(self) -> str:
        """The interval with as many decimals as `figure`, or an empty string."""
        if self.low is None or self.high is None:
            return ""
        decimals = _decimals(self.value)
        return f"[{self.low:.{decimals}f}, {self.high:.{decimals}f}]"

    @property
    def figure(self) -> str:
        """The value to four significant digits."""
        return f"{self.value:.{_decimals(self.value)}f}"

    def __str__(self) -> str:
        parts = [self.name, self.figure, self.interval, f"({self.better} is better, n={self.n})", f"! {self.note}" if self.note else ""]
        return " ".join(part for part in parts if part)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; infinite and undefined values become the strings "inf", "-inf", "nan". `from_json` inverts it."""
        value = json.loads(json.dumps(_to_plain(asdict(self)), allow_nan=False))
        assert isinstance(value, dict)
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Inverse of `to_json`."""
        fields = dict(value)
        for key in ("value", "low", "high"):
            fields[key] = None if fields[key] is None else float(fields[key])
        fields["details"] = {key: float(number) for key, number in fields.get("details", {}).items()}
        return cls(**fields)


def _to_plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_to_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _decimals(value: float) -> int:
    if value == 0 or not math.isfinite(value):
        return 3
    return min(8, max(0, 3 - math.floor(math.log10(abs(value)))))
