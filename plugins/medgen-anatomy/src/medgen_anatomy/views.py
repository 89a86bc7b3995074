"""The published sets of criteria: echocardiograms, short-axis MRI, and the latter without the right ventricle."""

from __future__ import annotations

from dataclasses import replace

from medgen_anatomy.criterion import Criteria, Criterion

__all__ = ["echo_criteria", "mri_criteria", "myocardium_criteria"]


def _holes(structure: str, *of: str) -> Criterion:
    return Criterion(name=f"holes_in_{structure}", measure="holes", of=of, meaning=f"pixels of holes in the {_title(*of)}")


def _islands(structure: str, name: str = "") -> Criterion:
    meaning = f"pixels of the {_title(structure)} outside its largest part"
    return Criterion(name=f"disconnectivity_in_{name or structure}", measure="disconnectivity", of=(structure,), meaning=meaning)


def _gap(a: str, b: str, name: str = "") -> Criterion:
    meaning = f"pixels enclosed between {_title(a)} and {_title(b)}"
    return Criterion(name=f"holes_between_{a}_and_{name or b}", measure="gap", of=(a,), other=(b,), meaning=meaning)


def _title(*structures: str) -> str:
    titles = {"lv": "left ventricle", "rv": "right ventricle", "myo": "myocardium", "la": "left atrium", "background": "background"}
    return " with ".join(titles.get(s, s) for s in structures)


def echo_criteria(*, background: int = 0, lv: int = 1, myo: int = 2, la: int = 3) -> Criteria:
    """Twelve criteria of apical echocardiograms (CAMUS): the left ventricle, its myocardium, the left atrium.

    A missing structure violates every criterion that looks at it. None depends on the spacing.

    Args:
        background, lv, myo, la: the numbers of the structures in the maps.
    """
    items = (
        _holes("lv", "lv"),
        _holes("epi", "lv", "myo"),
        _holes("atrium", "la"),
        _islands("lv"),
        _islands("myo"),
        _islands("la", "atrium"),
        _gap("lv", "myo"),
        _gap("lv", "la", "atrium"),
        Criterion(
            name="frontier_ratio_between_lv_and_bg",
            measure="frontier_ratio",
            of=("lv",),
            other=("background",),
            limit=0.40,
            unit="ratio",
            meaning="pixels of the left ventricle that touch the background, over its width",
        ),
        Criterion(
            name="frontier_ratio_between_myo_and_atrium",
            measure="frontier_ratio",
            of=("myo",),
            other=("la",),
            limit=0.11,
            unit="ratio",
            meaning="pixels of the myocardium that touch the left atrium, over its width",
        ),
        Criterion(
            name="erosion_ratio_before_myo_split",
            measure="erosion_ratio",
            of=("myo",),
            limit=0.12,
            side="below",
            unit="ratio",
            meaning="erosions until the myocardium splits, over its largest distance to the outside",
        ),
        Criterion(
            name="width_ratio_between_lv_and_myo",
            measure="width_ratio",
            of=("lv",),
            other=("myo",),
            limit=4.15,
            unit="ratio",
            meaning="width of the left ventricle over that of the myocardium, on the row of their common centre",
        ),
    )
    return Criteria(name="echo", labels={"background": background, "lv": lv, "myo": myo, "la": la}, items=items)


def mri_criteria(*, background: int = 0, rv: int = 1, myo: int = 2, lv: int = 3) -> Criteria:
    """Sixteen criteria of short-axis slices (ACDC): both cavities and the left ventricle's myocardium, any of which may be missing.

    Args:
        background, rv, myo, lv: the numbers of the structures in the maps.
    """
    items = (
        _holes("lv", "lv"),
        _holes("rv", "rv"),
        Criterion(
            name="holes_in_myo",
            measure="holes_besides",
            of=("myo",),
            other=("lv",),
            meaning="pixels of holes in the myocardium, apart from the left ventricle",
        ),
        _islands("lv"),
        _islands("rv"),
        _islands("myo"),
        _gap("lv", "myo"),
        _gap("rv", "myo"),
        Criterion(
            name="rv_disconnected_from_myo",
            measure="distance",
            of=("rv",),
            other=("myo",),
            unit="mm",
            meaning="distance from the right ventricle, grown by a pixel, to the myocardium",
        ),
        _touch("rv", "rv"),
        _touch("background", "background"),
        _concavity("lv", 4.0),
        _concavity("rv", 30.0),
        _concavity("myo", 0.0),
        _circularity("lv"),
        _circularity("myo"),
    )
    return Criteria(name="mri", labels={"background": background, "rv": rv, "myo": myo, "lv": lv}, items=items, missing="allowed")


def _touch(structure: str, name: str) -> Criterion:
    meaning = f"pixels of the left ventricle that touch the {_title(structure)}"
    return Criterion(name=f"frontier_between_lv_and_{name}", measure="frontier", of=("lv",), other=(structure,), meaning=meaning)


def _concavity(structure: str, limit: float) -> Criterion:
    meaning = f"depth of the dents of the {_title(structure)}"
    return Criterion(name=f"{structure}_concavity", measure="concavity", of=(structure,), limit=limit, unit="mm", meaning=meaning)


def _circularity(structure: str) -> Criterion:
    meaning = f"4 pi area / perimeter^2 of the {_title(structure)}"
    return Criterion(
        name=f"{structure}_circularity", measure="circularity", of=(structure,), limit=0.2, side="below", unit="ratio", meaning=meaning
    )


def myocardium_criteria(*, background: int = 0, myo: int = 1, lv: int = 2) -> Criteria:
    """The ten of `mri_criteria` that do not look at the right ventricle, for maps of the left ventricle alone.

    Args:
        background, myo, lv: the numbers of the structures in the maps.

    >>> "holes_in_rv" in myocardium_criteria().names, len(myocardium_criteria())
    (False, 10)
    """
    unused = next(n for n in range(256) if n not in (background, myo, lv))
    return replace(mri_criteria(background=background, rv=unused, myo=myo, lv=lv).without("rv"), name="myocardium")
