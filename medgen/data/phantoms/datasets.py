"""The phantoms as datasets: what `--data cardiac_phantom` and its kin open. Those of points and
signals lie in `toys` and `heartbeat`.

Every factory takes its own options and, as `**data`, whatever `medgen.data.from_arrays` takes: `default_range`, `window`, `split`, ...
Sample i depends on (seed, i) and the options, never on n.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from medgen.data.arrays import from_arrays
from medgen.data.dataset import Dataset
from medgen.data.phantoms import cardiac, lesions, skull
from medgen.data.phantoms.cycle import draw_cycle
from medgen.data.phantoms.drawing import check_count, generator
from medgen.data.phantoms.head import TISSUES, draw_head, tissue_shares
from medgen.data.phantoms.mr_ct import mr_ct_pair
from medgen.errors import DataError

__all__ = [
    "cardiac_labels",
    "cardiac_phantom",
    "cardiac_sequence",
    "lesion_phantom",
    "mr_ct_phantom",
    "skull_phantom",
]

T = TypeVar("T")

_UNPAIRED = 2**32  # first sample number of the other heads of an unpaired set


def _each(n: int, seed: int, make: Callable[[np.random.Generator], T]) -> list[T]:
    check_count(n=n)
    return [make(generator(seed, i)) for i in range(n)]


def _attributes(truths: Iterable[object], *names: str) -> dict[str, NDArray[np.float64]]:
    rows = list(truths)
    return {name: np.array([float(getattr(truth, name)) for truth in rows]) for name in names}


def _windowed(data: dict[str, Any], low: float, high: float) -> dict[str, Any]:
    """The options of a phantom whose range is known, unless the caller wants another."""
    return data if {"window", "percentiles"} & data.keys() else {"window": (low, high), **data}


_CARDIAC = ("lv_area", "myo_area", "rv_area", "wall_thickness", "septal_thickness", "orientation", "contrast")


def cardiac_phantom(
    *, n: int = 2000, size: int = 64, seed: int = 0, field_of_view: float = 144.0, noise: float = 0.02, mask: bool = False, **data: Any
) -> Dataset:
    """Short-axis cine-MR-like images in [0, 1] with class, areas (mm^2), thickness (mm), orientation (rad) and contrast.

    Args:
        n: number of images.
        size: pixels per side.
        seed: of all randomness.
        field_of_view: side of the image in mm.
        noise: sigma of the Rician noise.
        mask: add the label maps as image condition "mask".
        data: passed to `from_arrays`.
    """
    check_count(size=size)
    spacing = field_of_view / size

    def make(rng: np.random.Generator) -> tuple[cardiac.CardiacShape, NDArray[np.float32]]:
        shape = cardiac.draw_cardiac(rng)
        return shape, cardiac.cardiac_image(shape, rng, size, spacing, noise)

    samples = _each(n, seed, make)
    shapes = [shape for shape, _ in samples]
    maps = {"mask": np.stack([cardiac.cardiac_label_map(shape, size, spacing) for shape in shapes])} if mask else {}
    return from_arrays(
        np.stack([image for _, image in samples]),
        labels=[shape.disease for shape in shapes],
        class_names=cardiac.CLASSES,
        attributes=_attributes(shapes, *_CARDIAC),
        images=maps,
        spacing=(spacing, spacing),
        name="cardiac_phantom",
        **_windowed(data, 0.0, 1.0),
    )


def cardiac_labels(*, n: int = 2000, size: int = 64, seed: int = 0, field_of_view: float = 144.0, **data: Any) -> Dataset:
    """Label maps (background, RV, MYO, LV) of the same hearts as `cardiac_phantom`, with the same class and attributes.

    Args: as in `cardiac_phantom`.
    """
    check_count(size=size)
    spacing = field_of_view / size
    shapes = _each(n, seed, cardiac.draw_cardiac)
    return from_arrays(
        np.stack([cardiac.cardiac_label_map(shape, size, spacing) for shape in shapes]),
        labels=[shape.disease for shape in shapes],
        class_names=cardiac.CLASSES,
        attributes=_attributes(shapes, *_CARDIAC[:-1]),
        spacing=(spacing, spacing),
        channel_names=cardiac.STRUCTURES,
        name="cardiac_labels",
        **{"content": "labels", **data},
    )


def cardiac_sequence(
    *,
    n: int = 100,
    frames: int = 30,
    size: int = 64,
    seed: int = 0,
    field_of_view: float = 144.0,
    content: Literal["labels", "intensity"] = "labels",
    spikes: int = 0,
    spike_scale: float = 0.8,
    **data: Any,
) -> Dataset:
    """The frames of n beating hearts, one subject each, in order: sample s * frames + t is frame t of subject s.

    Attributes of each frame: those of `cardiac_labels`, and time (t / frames), frame_pos (contraction: 0 at end-diastole, 1 at
    end-systole), ejection_fraction of the subject, and spike (1 where the left cavity was spoiled).

    Args:
        n: number of subjects.
        frames: per cycle.
        size, seed, field_of_view: as in `cardiac_phantom`.
        content: "labels" for label maps, "intensity" for images, whose texture and noise stand still over the cycle.
        spikes: spoiled frames per subject.
        spike_scale: factor on the cavity's semi-axes in spoiled frames.
        data: passed to `from_arrays`.
    """
    check_count(n=n, size=size)
    if content not in ("labels", "intensity"):
        raise DataError(f"`content` must be 'labels' or 'intensity'; got {content!r}.")
    spacing = field_of_view / size
    cycles = _each(n, seed, lambda rng: draw_cycle(rng, frames, spikes, spike_scale))
    pairs = [(i, cycle, t, cycle.shape(t)) for i, cycle in enumerate(cycles) for t in range(frames)]
    if content == "labels":
        x = np.stack([cardiac.cardiac_label_map(shape, size, spacing) for *_, shape in pairs])
        options = {"content": "labels", "channel_names": cardiac.STRUCTURES, **data}
    else:
        x = np.stack([cardiac.cardiac_image(shape, generator(seed, _UNPAIRED + i), size, spacing) for i, *_, shape in pairs])
        options = _windowed(data, 0.0, 1.0)
    own = {
        "time": np.array([t / frames for _, _, t, _ in pairs]),
        "frame_pos": np.array([cycle.contraction(t) for _, cycle, t, _ in pairs]),
        "ejection_fraction": np.array([cycle.ejection_fraction for _, cycle, _, _ in pairs]),
        "spike": np.array([float(t in cycle.spikes) for _, cycle, t, _ in pairs]),
    }
    return from_arrays(
        x,
        labels=[shape.disease for *_, shape in pairs],
        class_names=cardiac.CLASSES,
        attributes=own | _attributes((shape for *_, shape in pairs), *_CARDIAC[:-1]),
        subjects=[f"{i:05d}" for i, *_ in pairs],
        spacing=(spacing, spacing),
        name="cardiac_sequence",
        **options,
    )


def skull_phantom(
    *, n: int = 200, size: int = 48, seed: int = 0, field_of_view: float = 144.0, inside: bool = False, planes: bool = True, **data: Any
) -> Dataset:
    """Fetal skulls as label volumes, with the three orthogonal planes as image condition "planes" [K, 3, S, S], one-hot.

    Args:
        n: number of volumes.
        size: voxels per side.
        seed: of all randomness.
        field_of_view: side of the volume in mm.
        inside: label brain and ventricles too.
        planes: add the axial, sagittal and coronal plane through the middle, label maps like the volume.
        data: passed to `from_arrays`.
    """
    check_count(size=size)
    spacing = field_of_view / size
    skulls = _each(n, seed, skull.draw_skull)
    volumes = np.stack([skull.skull_volume(truth, size, spacing, inside=inside) for truth in skulls])
    names = skull.STRUCTURES if inside else skull.STRUCTURES[:2]
    shown = {"planes": skull.three_planes(volumes)} if planes else {}
    return from_arrays(
        volumes,
        labels=[truth.shape_class for truth in skulls],
        class_names=skull.SHAPES,
        attributes=_attributes(skulls, "gestational_age", "cephalic_index", "thickness", "skull_volume", "cranial_volume"),
        images=shown,
        spacing=(spacing,) * 3,
        channel_names=names,
        name="skull_phantom",
        **{"content": "labels", "dim": 3, **data},
    )


def lesion_phantom(
    *,
    n: int = 300,
    size: int = 96,
    seed: int = 0,
    dim: int = 2,
    lesions_min: int = 2,
    lesions_max: int = 8,
    severity_min: float = 0.6,
    controls: float = 0.0,
    target: Literal["FLAIR", "myelin"] = "FLAIR",
    noise: float = 0.02,
    **data: Any,
) -> Dataset:
    """Brains with lesions: FLAIR to be made from image condition "source" (T1, T2), or a myelin map as of PET from T1, T2 and FLAIR; with
    label map "regions".

    Regions: 0 everything else, 1 lesion, 2 normal-appearing white matter. Attributes: lesion_count, lesion_size (mm^2 or ml) and
    lesion_ratio, the noise-free FLAIR contrast of lesions to white matter.

    Args:
        n: number of heads.
        size: voxels per side of a field of view of 224 mm.
        seed: of all randomness.
        dim: 2 for axial slices, 3 for volumes.
        lesions_min, lesions_max: range of the number of lesions.
        severity_min: least share of the white matter that lesions replace; the largest is 0.95. Drawn by head.
        controls: share of heads without lesions.
        target: what is to be made.
        noise: sigma of the Rician noise; texture and bias field scale with it, and the noise of myelin is 3 times that.
        data: passed to `from_arrays`.
    """
    check_count(size=size)
    if dim not in (2, 3) or not 0 <= lesions_min <= lesions_max:
        raise DataError(f"`dim` must be 2 or 3 and 0 <= lesions_min <= lesions_max; got {dim}, {lesions_min} and {lesions_max}.")
    if not 0 < severity_min <= 0.95 or not 0 <= controls <= 1 or target not in ("FLAIR", "myelin"):
        raise DataError(
            "`severity_min` must lie in (0, 0.95], `controls` in [0, 1], and `target` must be FLAIR or myelin; "
            f"got {severity_min}, {controls} and {target!r}."
        )
    spacing, seen = 224.0 / size, 2 if target == "FLAIR" else 3

    def make(i: int, rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.uint8], tuple[float, float, float]]:
        healthy = int((i + 1) * controls) > int(i * controls)
        head = draw_head(rng, dim, (0, 0) if healthy else (lesions_min, lesions_max), (severity_min, 0.95))
        shares = tissue_shares(head, size, spacing)
        extent = shares[TISSUES.index("lesion")].sum() / head.severity * spacing**dim / (1000.0 if dim == 3 else 1.0)
        truth = (float(len(head.lesions)), float(extent), lesions.lesion_ratio(head))
        lesion, white, _ = lesions.lesion_regions(head, shares)
        images = lesions.lesion_contrasts(shares, rng, spacing, noise)
        if target == "myelin":
            images = np.concatenate([images, lesions.myelin_map(shares, rng, spacing, 3.0 * noise)])
        return images, (lesion + 2 * white).astype(np.uint8), truth

    check_count(n=n)
    samples = [make(i, generator(seed, i)) for i in range(n)]
    images, truths = np.stack([s[0] for s in samples]), np.array([s[2] for s in samples])
    return from_arrays(
        images[:, seen:],
        attributes={"lesion_count": truths[:, 0], "lesion_size": truths[:, 1], "lesion_ratio": truths[:, 2]},
        images={"source": images[:, :seen], "regions": np.stack([s[1] for s in samples])},
        image_names={"source": lesions.CONTRASTS[:seen], "regions": ("other", "lesion", "NAWM")},
        spacing=(spacing,) * dim,
        name="lesion_phantom",
        **{"dim": dim, "channels_last": False, **_windowed(data, 0.0, 1.0)},
    )


def mr_ct_phantom(
    *,
    n: int = 300,
    size: int = 96,
    seed: int = 0,
    dim: int = 2,
    mapping: Literal["anatomical", "monotone"] = "anatomical",
    paired: bool = True,
    noise: float = 0.02,
    **data: Any,
) -> Dataset:
    """CT of heads in HU, to be made from image condition "source" (T1-weighted MR).

    Args:
        n: number of heads.
        size: voxels per side of a field of view of 224 mm.
        seed: of all randomness.
        dim: 2 for axial slices, 3 for volumes.
        mapping: "anatomical", or "monotone" for CT = mr_to_hu(MR).
        paired: False takes MR and CT from different heads.
        noise: sigma of the MR noise; CT noise scales with it.
        data: passed to `from_arrays`; the window is -1024 1600 HU unless given.
    """
    check_count(n=n, size=size)
    if dim not in (2, 3) or mapping not in ("anatomical", "monotone"):
        raise DataError(f"`dim` must be 2 or 3 and `mapping` 'anatomical' or 'monotone'; got {dim} and {mapping!r}.")
    spacing = 224.0 / size

    def make(rng: np.random.Generator) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        return mr_ct_pair(tissue_shares(draw_head(rng, dim), size, spacing), rng, spacing, mapping, noise)

    pairs = _each(n, seed, make)
    mr = [pair[0] for pair in pairs] if paired else [make(generator(seed, _UNPAIRED + i))[0] for i in range(n)]
    return from_arrays(
        np.rint(np.stack([pair[1] for pair in pairs])).astype(np.int16),
        images={"source": np.stack(mr)},
        source_subjects=None if paired else [f"other head {i:05d}" for i in range(n)],
        spacing=(spacing,) * dim,
        name="mr_ct_phantom",
        **{"dim": dim, "content": "intensity", "unit": "HU", **_windowed(data, -1024.0, 1600.0)},
    )
