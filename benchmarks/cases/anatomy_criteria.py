"""Anatomical criteria of label maps of 256 x 256, the twelve of echocardiograms and the sixteen of MRI, per map.

Half of the maps are drawn hearts, half are damaged. The baseline is the published definition in scipy.ndimage and scikit-image, map by map;
OpenCV has the same measures with its own components, distances and hulls (through the centres of pixels). A heart of either view is the
usual one: an invalid map costs some implementations more than a valid one.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Result, compare, missing
from medgen import native
from medgen.data.phantoms.cardiac import cardiac_label_map, draw_cardiac
from medgen_anatomy import reference
from medgen_anatomy.criteria import EXTENSION, Criteria, echo_criteria, measure, mri_criteria

BASELINE = "scipy + scikit-image"
SIZE, SPACING = 256, (144 / 256, 144 / 256)

Mask = NDArray[np.bool_]
Maps = NDArray[np.uint8]
Functions = dict[str, Callable[[Mask, Mask | None], float]]


def hearts(count: int) -> Maps:
    """Short-axis hearts, every second one damaged: squares of any label on it."""
    rng = np.random.default_rng(0)
    made = np.stack([cardiac_label_map(draw_cardiac(rng), SIZE, SPACING[0]) for _ in range(count)])
    for one in made[1::2]:
        for _ in range(10):
            r, c = rng.integers(60, 190, 2)
            h = int(rng.integers(1, 6))
            one[r : r + h, c : c + h] = rng.integers(0, 4)
    return made


def values(maps: Maps, criteria: Criteria, functions: Functions) -> NDArray[np.float64]:
    """The value of every criterion, structure by structure."""
    found = []
    for one in maps:
        masks = {names: np.isin(one, [criteria.labels[n] for n in names]) for c in criteria.items for names in (c.of, c.other) if names}
        gone = {names: names != ("background",) and not mask.any() for names, mask in masks.items()}
        found.append(
            [
                math.nan
                if gone[c.of] or (c.other and gone[c.other] and c.measure != "holes_besides")
                else functions[c.measure](masks[c.of], masks.get(c.other))
                for c in criteria.items
            ]
        )
    return np.array(found)


def scikit_image() -> Functions:
    """The reference, with hull and perimeter from scikit-image."""
    from scipy.ndimage import binary_erosion, binary_fill_holes, distance_transform_edt
    from skimage.measure import perimeter
    from skimage.morphology import convex_hull_image

    def concavity(a: Mask, _: Mask | None) -> float:
        filled = binary_fill_holes(a)
        hull = convex_hull_image(filled)
        dents = binary_erosion(hull & ~filled, np.ones((3, 3)), border_value=1)
        return float((distance_transform_edt(hull, sampling=SPACING) * dents).max())

    def circularity(a: Mask, _: Mask | None) -> float:
        filled = binary_fill_holes(a)
        length = perimeter(filled)
        return float(4 * math.pi * filled.sum() / length**2) if length else math.nan

    functions: Functions = {name: lambda a, b, f=found: f(a, b, SPACING) for name, found in reference.MEASURES.items()}
    return {**functions, "concavity": concavity, "circularity": circularity}


def opencv() -> Functions:
    """On bytes of 0 and 1."""
    from benchmarks.cases.anatomy_opencv import MEASURES

    return {
        name: lambda a, b, f=found: f(a.view(np.uint8), None if b is None else b.view(np.uint8), SPACING[0])
        for name, found in MEASURES.items()
    }


def run(*, rounds: int, quick: bool) -> list[Result]:
    """Both sets."""
    count, few = (16, 4) if quick else (256, 8)
    maps, results = hearts(count), []
    rivals: dict[str, Functions] = {BASELINE: scikit_image()}
    absent = {}
    try:
        rivals["OpenCV"] = opencv()
    except ImportError as error:
        absent["OpenCV"] = str(error)
    if native.load_module(EXTENSION) is None:
        outcome = native.loaded("cpu", EXTENSION)
        absent["medgen"] = f"the reference runs: {outcome.reason if outcome else ''}".splitlines()[0][:90]
    for criteria in (echo_criteria(), mri_criteria()):
        calls: dict[str, Callable[[], Any]] = {
            name: lambda f=functions, c=criteria: values(maps[:few], c, f) for name, functions in rivals.items()
        }
        shares = dict.fromkeys(calls, few / count)
        truth, notes = measure(maps[:few], criteria, SPACING), {}
        for name, call in calls.items():
            same = np.isclose(call(), truth, rtol=1e-5, atol=1e-5, equal_nan=True)
            notes[name] = f"{few} maps, scaled; {same.mean():.2%} of the values agree"
        if "medgen" not in absent:
            calls["medgen, 1 thread"] = lambda c=criteria: measure(maps, c, SPACING, threads=1)
            calls["medgen, 2 threads"] = lambda c=criteria: measure(maps, c, SPACING, threads=2)
        case = f"{len(criteria)} criteria ({criteria.name}) {SIZE} x {SIZE}"
        settings: dict[str, Any] = {"baseline": BASELINE, "rounds": rounds, "shares": shares, "notes": notes}
        results += compare(case, calls, work=count, unit="maps", **settings) + missing(case, absent)
    return results
