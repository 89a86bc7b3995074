"""Filling in regions of given images: in the form of the input, what is known untouched."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from medgen.data import open_like, open_mask
from medgen.errors import ConfigError, RunError
from medgen.interfaces import Condition, Inpainter, Noise
from medgen.runs.apply import batches_of, save_beside
from medgen.runs.conditions import ConditionSource
from medgen.runs.run import Run

__all__ = ["inpaint_to"]


def inpaint_to(
    run: Run,
    data: str,
    mask: str,
    out: Path,
    *,
    invert: bool = False,
    seed: int = 0,
    condition: ConditionSource | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[Path]:
    """Fill in what a mask leaves open of the user's images, and write in the form of the input.

    Everything that is known comes back as it was in the file, also where the model's grid is another or its window clips.

    Args:
        run: a finished run.
        data: the user's file or folder.
        mask: of the same grid; not zero where the image is known.
        out: a folder; or the name of a file, where `data` gives one.
        invert: the mask marks what is to be filled in.
        seed: of the noise; another seed fills in something else.
        condition: label and attributes that replace those of the file.
        progress: called with the number of samples done.

    Raises:
        RunError: the family does not inpaint, or a result would replace an input.
        DataError: a mask that does not fit.
    """
    model = run.model
    if not isinstance(model, Inpainter):
        raise RunError(f"family {run.config.family!r} does not inpaint; `medgen list --interface inpainter` shows those that do.")
    if not 0 <= seed < 2**64:
        raise ConfigError(f"`seed` must be in [0, 2^64); got {seed}.")
    dataset = open_like(data, model.image_spec, model.conditions, **run.config.data_options)
    known, parts, done = open_mask(mask, dataset, invert=invert), list[torch.Tensor](), 0
    for batch in batches_of(model, dataset, torch.arange(len(dataset)).numpy()):
        x, here = batch.x, known(batch.index.numpy())
        open_ = torch.flatten(~here, 1).any(1)  # most slices of a volume may be known throughout
        if bool(open_.any()):
            noise, given = Noise(seed, batch.index[open_]), batch.condition
            if condition is not None:
                given = Condition({**given.values, **condition.fixed(Noise(seed, batch.index))}, given.present)
            x[open_] = model.inpaint(x[open_], here[open_], condition=given[open_], noise=noise).cpu()
        parts.append(x)
        done += len(x)
        if progress is not None:
            progress(done)
    return save_beside(torch.cat(parts), dataset, [data, mask], out, model.image_spec, known.paste)
