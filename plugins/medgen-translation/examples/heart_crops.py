"""Short-axis slices of the heart with the label maps of both contours, cut around the ventricle: an npz for `medgen train spade`.

    python plugins/medgen-translation/examples/heart_crops.py sunnybrook_lv.npz hearts.npz

Slices without an outer contour (end systole) have no myocardium in their map and are left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]


def window(mask: Array, size: int) -> tuple[slice, slice]:
    """The square of `size` pixels around the centroid of a mask [H, W], within the image."""
    ys, xs = np.nonzero(mask)
    starts = [min(max(0, round(float(v.mean())) - size // 2), side - size) for v, side in zip((ys, xs), mask.shape, strict=True)]
    return slice(starts[0], starts[0] + size), slice(starts[1], starts[1] + size)


def crops(data: Path, size: int) -> dict[str, Array]:
    """images and masks [N, size, size], patient [N]."""
    with np.load(data) as held:
        images, masks, patient, whole = (held[name] for name in ("images", "masks", "patient", "has_epi"))
    rows = np.flatnonzero(whole)
    windows = [window(masks[k], size) for k in rows]
    cut = {name: np.stack([x[k][w] for k, w in zip(rows, windows, strict=True)]) for name, x in (("images", images), ("masks", masks))}
    return {**cut, "patient": patient[rows]}


def main() -> None:
    """Reads, cuts, writes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", type=Path, help="sunnybrook_lv.npz")
    parser.add_argument("out", type=Path, help="npz to write")
    parser.add_argument("--size", type=int, default=128, help="pixels of a side (default 128)")
    options = parser.parse_args()
    found = crops(options.data, options.size)
    np.savez_compressed(options.out, **found)
    print(f"{options.out}: {len(found['images'])} slices of {len(set(found['patient'].tolist()))} patients")


if __name__ == "__main__":
    main()
