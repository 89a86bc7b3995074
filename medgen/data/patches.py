"""A dataset of whole samples as one of their patches."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from medgen.data.dataset import Dataset
from medgen.data.samples import Array, Samples
from medgen.data.stores import Patches, PatchStore, held
from medgen.errors import DataError

__all__ = ["patched"]


def patched(dataset: Dataset) -> Dataset:
    """The dataset of `config.patches` patches of each sample, of shape `config.patch`; the same where no patch is asked for.

    Splits, subjects, labels and intensity are those of the whole samples. Patch i lies at a fixed place; `fetch` with noise, as training
    does, takes others of the same samples, source, target and regions alike.

    Raises:
        DataError: the patch does not fit into the samples.
    """
    config, spec = dataset.config, dataset.image_spec
    if config.patch is None:
        return dataset
    if not spec.dim:
        raise DataError(f"{dataset.source}: `patch` is for images and signals, not for tables.")
    whole = replace(dataset.samples, store=held(dataset.samples.store), images={k: held(v) for k, v in dataset.samples.images.items()})
    if odd := [k for k, store in whole.images.items() if store.shape[2:] != spec.shape]:
        raise DataError(f"{dataset.source}: with `patch`, the condition {odd[0]!r} must have the shape {spec.shape} of the samples.")
    patches = Patches(
        spec.shape,
        config.patch,
        config.patches,
        share=config.patch_foreground,
        foreground=(lambda k: _foreground(whole, k)) if config.patch_foreground else None,
    )
    each = patches.each
    samples = replace(
        whole,
        store=PatchStore(whole.store, patches),
        images={k: PatchStore(store, patches) for k, store in whole.images.items()},
        origins=lambda i: f"{whole.origins(i // each)} patch {i % each}",
        labels=None if whole.labels is None else whole.labels.repeat(each),
        attributes={k: v.repeat(each) for k, v in whole.attributes.items()},
        subjects=None if whole.subjects is None else whole.subjects.repeat(each),
        source_subjects=None if whole.source_subjects is None else whole.source_subjects.repeat(each),
        splits=None,
        geometry=None,
    )
    conditions = tuple(c if c.image is None else replace(c, image=replace(c.image, shape=tuple(config.patch))) for c in dataset.conditions)
    return replace(
        dataset,
        image_spec=replace(spec, shape=tuple(config.patch)),
        conditions=conditions,
        splits={name: (rows[:, None] * each + np.arange(each)).reshape(-1) for name, rows in dataset.splits.items()},
        subjects=samples.subjects,
        samples=samples,
    )


def _foreground(samples: Samples, number: int) -> Array:
    """The regions, where there are any; else what is above the mean of the sample, in any channel."""
    row = np.array([number])
    if "regions" in samples.images:
        marked: Array = samples.images["regions"].gather(row)[0, 0] != 0
        return marked
    values = samples.store.gather(row)[0]
    above: Array = (values > values.mean(dtype=np.float64)).any(0)
    return above
