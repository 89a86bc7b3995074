"""Limits of the attributes of label maps: of CAMUS, from a file, or of reference sequences."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medgen.data.intensity import label_values
from medgen.errors import ConfigError, DataError
from medgen.registry import ImageSpec
from medgen_anatomy.attributes import ATTRIBUTES, CAMUS_BOUNDS, cardiac_attributes
from medgen_anatomy.temporal import CAMUS_TAU, Limits, fit_limits

__all__ = ["Structures", "check_scale", "choose_limits", "measure_of", "read_limits"]

Array = NDArray[Any]


@dataclass(frozen=True)
class Structures:
    """The numbers of the left cavity and of the myocardium in stored label maps."""

    lv: int
    myo: int

    @classmethod
    def of(cls, spec: ImageSpec, given: Mapping[str, int]) -> Structures:
        """Given as LV and MYO, else the classes of these names of a model's label maps.

        Raises:
            ConfigError: neither, or a number that no class has.
        """
        names, values = spec.channel_names, [int(v) for v in label_values(spec)]
        places = {name.upper(): value for name, value in zip(names, values, strict=False)} | dict(given)
        if not {"LV", "MYO"} <= set(places):
            raise ConfigError(f"the classes of this model are {list(names)}; say which are which: --labels LV=NUMBER MYO=NUMBER.")
        found = cls(places["LV"], places["MYO"])
        if found.lv == found.myo or not {found.lv, found.myo} <= set(values):
            raise ConfigError(f"LV and MYO must be two of the labels {values} of this model; got {found.lv} and {found.myo}.")
        return found


def read_limits(source: str) -> Limits:
    """Limits by name: "camus", or a JSON file {attribute: [low, high, tau]}.

    Raises:
        DataError: no such file, or another content.
    """
    if source == "camus":
        return Limits.of({name: (*CAMUS_BOUNDS[name], CAMUS_TAU[name]) for name in CAMUS_BOUNDS})
    try:
        limits = Limits.of(json.loads(Path(source).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{source}: limits must be 'camus' or a JSON file {{attribute: [low, high, tau]}}; {error}") from error
    if stray := sorted(set(limits.names) - set(ATTRIBUTES)):
        raise DataError(f"{source}: attributes must be among {', '.join(ATTRIBUTES)}; got {', '.join(stray)}.")
    return limits


def measure_of(attributes: Sequence[str], names: Structures) -> Callable[[Array], Array]:
    """The attributes [T, A] of label maps [T, H, W]."""
    columns = [ATTRIBUTES.index(name) for name in attributes]
    return lambda maps: cardiac_attributes(maps, lv=names.lv, myo=names.myo)[:, columns]


def choose_limits(held: list[Array], source: str | None, wanted: Sequence[str], names: Structures) -> Limits:
    """Of the wanted attributes."""
    if stray := sorted(set(wanted) - set(ATTRIBUTES)):
        raise ConfigError(f"attributes must be among {', '.join(ATTRIBUTES)}; got {', '.join(stray)}.")
    if source is not None:
        table = read_limits(source).table()
        if missing := sorted(set(wanted) - set(table)):
            raise ConfigError(f"{source} has no limits of {', '.join(missing)}; it has {', '.join(table)}.")
        return Limits.of({name: table[name] for name in (wanted or table)})
    measured = [cardiac_attributes(maps, lv=names.lv, myo=names.myo) for maps in held]
    known = np.asarray(np.isfinite(np.concatenate(measured)).all(0))
    chosen = list(wanted) or [name for name, there in zip(ATTRIBUTES, known, strict=True) if there]
    if missing := [name for name in chosen if not known[ATTRIBUTES.index(name)]]:
        raise DataError(f"the reference has frames in which {', '.join(missing)} cannot be measured; choose other attributes.")
    if not chosen:
        raise DataError("no attribute can be measured in every frame of the reference; are LV and MYO the right labels?")
    columns = [ATTRIBUTES.index(name) for name in chosen]
    return fit_limits([m[:, columns] for m in measured], chosen)


def check_scale(measured: list[Array], limits: Limits, source: str) -> None:
    """Limits of another grid would call everything smooth.

    Raises:
        DataError: the median of an attribute lies outside its bounds by more than 15 % of their range.
    """
    values = limits.scaled(np.concatenate(measured))
    for name, column, low, high in zip(limits.names, values.T, limits.low, limits.high, strict=True):
        known = column[np.isfinite(column)]
        if len(known) and abs(float(np.median(known)) - 0.5) > 0.65:
            raise DataError(
                f"{source}: {name} lies far outside its limits {low:g} to {high:g}: these are of another image size or other labels. "
                "Give sequences of this kind as the reference."
            )
