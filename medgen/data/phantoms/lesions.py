"""Brains with white-matter lesions in three contrasts, T1, T2 and FLAIR, by the signal equations of MR.

Signals of a tissue with proton density PD and relaxation times T1, T2 (ms):

    T1-weighted  PD (1 - exp(-TR/T1)) exp(-TE/T2)                        TR 600,   TE 12
    T2-weighted  PD (1 - exp(-TR/T1)) exp(-TE/T2)                        TR 5000,  TE 90
    FLAIR        |PD (1 - 2 exp(-TI/T1) + exp(-TR/T1)) exp(-TE/T2)|      TR 9000,  TE 110, TI 2500

And maps of myelin as PET shows them: smoothed, and with more noise than MR.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from medgen.data.phantoms.drawing import Array, Waves, grid, rician
from medgen.data.phantoms.head import TISSUES, Head

__all__ = ["CONTRASTS", "MYELIN", "RELAXATION", "lesion_contrasts", "lesion_ratio", "lesion_regions", "myelin_map", "tissue_signal"]

CONTRASTS = ("T1", "T2", "FLAIR")

RELAXATION = {
    "air": (0.0, 1000.0, 100.0),
    "fat": (0.90, 260.0, 70.0),
    "muscle": (0.75, 1000.0, 45.0),
    "bone": (0.08, 400.0, 5.0),
    "marrow": (0.60, 350.0, 55.0),
    "csf": (1.00, 4000.0, 1800.0),
    "grey": (0.82, 1050.0, 95.0),
    "white": (0.70, 620.0, 78.0),
    "lesion": (0.85, 1150.0, 145.0),
}
"""Tissue -> (PD, T1 in ms, T2 in ms), typical of 1.5 T."""

MYELIN = {"grey": 0.3, "white": 0.8, "lesion": 0.05}
"""Tissue -> myelin, on a scale from 0 to 1; the other tissues have none."""

# contrast -> gain that keeps every tissue below 1
_GAIN = {"T1": 1.4, "T2": 1.4, "FLAIR": 2.8}


def tissue_signal(contrast: str, density: float, t1: float, t2: float) -> float:
    """Signal of one tissue in one of `CONTRASTS`, by the equations above.

    >>> [round(tissue_signal("FLAIR", *RELAXATION[t]), 3) for t in ("white", "lesion", "csf")]
    [0.461, 0.862, 0.092]
    """
    tr, te, ti = {"T1": (600.0, 12.0, 0.0), "T2": (5000.0, 90.0, 0.0), "FLAIR": (9000.0, 110.0, 2500.0)}[contrast]
    recovery = 1.0 - np.exp(-tr / t1) if not ti else abs(1.0 - 2.0 * np.exp(-ti / t1) + np.exp(-tr / t1))
    return float(_GAIN[contrast] * density * recovery * np.exp(-te / t2))


def lesion_contrasts(shares: Array, rng: np.random.Generator, spacing: float, noise: float = 0.02) -> NDArray[np.float32]:
    """T1, T2 and FLAIR images [3, *S] in [0, 1] of the tissue shares [len(TISSUES), *S].

    Tissue texture and bias field are shared by the contrasts, noise is not; `noise` 0 leaves the tissue signals alone, exactly.

    Args:
        shares: from `tissue_shares`.
        rng: of texture, bias field and noise.
        spacing: mm per voxel.
        noise: sigma of the Rician noise; texture and bias field scale with it.
    """
    points = grid(shares.shape[1:], spacing)
    dim = len(points)
    texture = 1.0 + noise * (Waves.draw(rng, dim, 20.0)(points) + 0.7 * Waves.draw(rng, dim, 7.0)(points))
    bias = np.exp(2.5 * noise * Waves.draw(rng, dim, 260.0, 4)(points))
    images = []
    for contrast in CONTRASTS:
        table = np.array([tissue_signal(contrast, *RELAXATION[tissue]) for tissue in TISSUES])
        images.append(rician(rng, np.tensordot(table, shares, 1) * texture * bias, noise))
    return np.clip(np.stack(images), 0.0, 1.0).astype(np.float32)


def myelin_map(
    shares: Array, rng: np.random.Generator, spacing: float, noise: float = 0.06, resolution: float = 5.0
) -> NDArray[np.float32]:
    """Myelin [1, *S] in [0, 1] of the tissue shares [len(TISSUES), *S], as seen by PET.

    Args:
        shares: from `tissue_shares`.
        rng: of the noise.
        spacing: mm per voxel.
        noise: sigma of the normal noise.
        resolution: full width at half maximum of the Gaussian point spread, in mm; 0 for none.
    """
    myelin = np.tensordot(np.array([MYELIN.get(tissue, 0.0) for tissue in TISSUES]), shares, 1)
    seen = ndimage.gaussian_filter(myelin, resolution / (2.0 * np.sqrt(2.0 * np.log(2.0))) / spacing)
    return np.clip(seen + noise * rng.standard_normal(seen.shape), 0.0, 1.0).astype(np.float32)[None]


def lesion_ratio(head: Head) -> float:
    """Noise-free FLAIR signal of the lesions over that of normal-appearing white matter (NAWM).

    1 + severity (FLAIR_lesion / FLAIR_white - 1)
    """
    lesion, white = (tissue_signal("FLAIR", *RELAXATION[tissue]) for tissue in ("lesion", "white"))
    return 1.0 + head.severity * (lesion / white - 1.0)


def lesion_regions(head: Head, shares: Array) -> NDArray[np.bool_]:
    """Disjoint masks [3, *S]: lesions, NAWM, everything else; a voxel belongs where more than half of it does."""
    lesion = shares[TISSUES.index("lesion")] > 0.5 * head.severity
    white = (shares[TISSUES.index("white")] > 0.5) & ~lesion
    return np.stack([lesion, white, ~(lesion | white)])
