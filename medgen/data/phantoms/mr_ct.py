"""Paired MR and CT of one head, CT in Hounsfield units (HU).

"anatomical": both from the tissue, so that bone and air, both dark in MR, are far apart in CT, as in life.
"monotone": CT is a known increasing function of the noise-free MR, so that an unpaired translator can be judged against the true inverse.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from medgen.data.phantoms.drawing import Array, Waves, grid, rician
from medgen.data.phantoms.head import TISSUES
from medgen.data.phantoms.lesions import RELAXATION, tissue_signal

__all__ = ["HOUNSFIELD", "head_mask", "hu_to_mr", "mr_ct_pair", "mr_to_hu"]

HOUNSFIELD = {
    "air": -1000.0,
    "fat": -95.0,
    "muscle": 55.0,
    "bone": 1250.0,
    "marrow": 550.0,
    "csf": 8.0,
    "grey": 38.0,
    "white": 29.0,
    "lesion": 22.0,
}
"""Tissue -> CT number in HU."""


def mr_to_hu(mr: Array) -> Array:
    """The monotone map: HU = -1000 + 2400 mr^1.5, of MR signals in [0, 1].

    >>> mr_to_hu(np.array([0.0, 0.25, 1.0])).tolist()
    [-1000.0, -700.0, 1400.0]
    """
    return np.asarray(-1000.0 + 2400.0 * np.asarray(mr) ** 1.5)


def hu_to_mr(hu: Array) -> Array:
    """Inverse of `mr_to_hu` on [-1000, 1400] HU."""
    return np.asarray(((np.asarray(hu) + 1000.0) / 2400.0) ** (2.0 / 3.0))


def mr_ct_pair(
    shares: Array,
    rng: np.random.Generator,
    spacing: float,
    mapping: Literal["anatomical", "monotone"] = "anatomical",
    noise: float = 0.02,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """T1-weighted MR [*S] in [0, 1] and CT [*S] in HU of the tissue shares [len(TISSUES), *S].

    Args:
        shares: from `medgen.data.phantoms.head.tissue_shares`.
        rng: of texture and noise.
        spacing: mm per voxel.
        mapping: how CT follows from the anatomy, see above.
        noise: sigma of the MR noise; CT has white noise of 600 * noise HU. 0 leaves the tissue values alone, exactly.
    """
    points = grid(shares.shape[1:], spacing)
    dim = len(points)
    texture = 1.0 + noise * (Waves.draw(rng, dim, 20.0)(points) + 0.7 * Waves.draw(rng, dim, 7.0)(points))
    bias = np.exp(2.5 * noise * Waves.draw(rng, dim, 260.0, 4)(points))
    signal = np.tensordot(np.array([tissue_signal("T1", *RELAXATION[t]) for t in TISSUES]), shares, 1) * texture
    mr = np.clip(rician(rng, signal * bias, noise), 0.0, 1.0)
    if mapping == "monotone":
        ct = mr_to_hu(np.clip(signal, 0.0, 1.0))
    else:
        ct = np.tensordot(np.array([HOUNSFIELD[t] for t in TISSUES]), shares, 1)
    ct = ct + 600.0 * noise * rng.standard_normal(ct.shape)
    return mr.astype(np.float32), ct.astype(np.float32)


def head_mask(shares: Array) -> NDArray[np.bool_]:
    """Where less than half of a voxel is air: the mask in which MAE in HU is taken."""
    return np.asarray(shares[TISSUES.index("air")] < 0.5)
