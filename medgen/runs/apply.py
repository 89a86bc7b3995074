"""What a trained model says of given images: reconstructions and log-densities, batch by batch."""

from __future__ import annotations

import csv
import glob
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medgen.data import Dataset, Format, open_like, save_like, save_samples
from medgen.data.samples import Array
from medgen.errors import ConfigError, RunError
from medgen.files import atomic_path, make_folder
from medgen.interfaces import Batch, DensityModel, LatentModel, Model, Noise, evaluating
from medgen.registry import ImageSpec
from medgen.runs.run import Run

__all__ = ["Scores", "batches_of", "inputs", "names_file", "reconstruct_to", "sample_format", "save_beside", "score"]

_BATCH = 32


def inputs(run: Run, data: str | None, split: str) -> tuple[Dataset, Any]:
    """The dataset and sample numbers that a command works on: a file of the user's, or a split of the run's own data.

    Raises:
        RunError: the split is empty or unknown.
    """
    if data is not None:
        dataset = open_like(data, run.model.image_spec, (*run.model.conditions, *run.model.targets), **run.config.data_options)
        return dataset, torch.arange(len(dataset)).numpy()
    dataset = run.dataset
    rows = dataset.splits.get(split)
    if rows is None or not len(rows):
        raise RunError(
            f"the data of {run.path} has no samples in split {split!r}; it has {[k for k, v in dataset.splits.items() if len(v)]}."
        )
    return dataset, rows


def batches_of(model: Model, dataset: Dataset, rows: Any, size: int = _BATCH) -> Iterator[Batch]:
    """Batches of some samples, as the model takes them."""
    for start in range(0, len(rows), size):
        yield model.select(dataset.fetch(rows[start : start + size]))


def reconstruct_to(
    run: Run, data: str | None, out: Path, *, split: str = "val", progress: Callable[[int], None] | None = None
) -> list[Path]:
    """Encode and decode, and write in the form of the input: a NIfTI volume comes back on its own grid, in its own units.

    Args:
        run: a finished run.
        data: the user's file or folder; None for a split of the run's own data.
        out: a folder; or the name of a file, where `data` gives one.
        split: "train", "val" or "test".
        progress: called with the number of samples done.

    Raises:
        RunError: the family has no latent space, or a result would replace its own input.
    """
    model = run.model
    if not isinstance(model, LatentModel):
        raise RunError(f"family {run.config.family!r} does not reconstruct; `medgen list --interface latent` shows those that do.")
    dataset, rows = inputs(run, data, split)
    if data is None and names_file(out):
        raise RunError(f"a split is many files, so that --out must be a folder; got {out}.")
    parts, done, written = list[Tensor](), 0, list[Path]()
    for batch in batches_of(model, dataset, rows):
        x = model.reconstruct(batch.x, condition=batch.condition).cpu()
        if data is None:  # samples of a split need not make up whole files
            written += save_samples(x, model.image_spec, out, done, sample_format(model.image_spec))
        else:
            parts.append(x)
        done += len(x)
        if progress is not None:
            progress(done)
    return written if data is None else save_beside(torch.cat(parts), dataset, [data], out, model.image_spec)


_ENDINGS = (".nii.gz", ".nii", ".npz", ".csv", ".png")


def names_file(out: Path) -> bool:
    """Whether a result goes into this one file, rather than into a folder of this name."""
    return out.name.lower().endswith(_ENDINGS) and not out.is_dir()


def save_beside(
    x: Tensor,
    dataset: Dataset,
    data: Sequence[str],
    out: Path,
    spec: ImageSpec,
    paste: Callable[[int, Array], Array] | None = None,
) -> list[Path]:
    """`save_like`, into a folder or one named file, all or nothing, and never over the input.

    Args:
        x: results for all samples of `dataset`.
        data: the user's inputs, the images first.
        out: a folder, or the name of the one file there is.
        spec: of x.
        paste: of `save_like`.

    Raises:
        RunError: a result would replace an input, or many files were to go into one.
    """
    sources = {Path(name).resolve() for given in data for name in (given, *glob.glob(given, recursive=True))}
    make_folder(out.parent)
    with tempfile.TemporaryDirectory(prefix=".tmp-", dir=out.parent) as temporary:
        files = save_like(x, dataset, temporary, spec, paste=paste)
        targets = [out / file.relative_to(temporary) for file in files]
        if names_file(out):
            ending = next(ending for ending in _ENDINGS if files[0].name.endswith(ending))
            if len(files) > 1 or not out.name.lower().endswith(ending):
                raise RunError(f"{data[0]} gives {len(files)} {ending} file(s); --out must be a folder, or end in {ending}; got {out}.")
            targets = [out]
        for target in targets:
            if sources & {target.resolve(), *target.resolve().parents} and target.exists():
                raise RunError(f"{target} belongs to the input, which is never replaced; choose another --out.")
        for file, target in zip(files, targets, strict=True):
            make_folder(target.parent)
            os.replace(file, target)
    return targets


def sample_format(spec: ImageSpec) -> Format:
    """The format in which samples of a kind lose nothing: NIfTI where there is an affine or a volume, PNG for images, else npz or CSV.

    >>> sample_format(ImageSpec(channels=1, shape=(28, 28)))
    'png'
    """
    if spec.affine is not None or spec.dim == 3:
        return "nifti"
    return ("csv", "npz", "png")[spec.dim]


@dataclass(frozen=True)
class Scores:
    """ln p(x) in nats of each sample; `kind` says whether exact, a bound or an estimate.

    `measure` says whether p is a density with respect to model units, or a probability mass.
    """

    log_prob: Tensor
    bits_per_dim: Tensor
    origins: list[str]
    kind: str
    importance_samples: int
    measure: str = "density"

    def __str__(self) -> str:
        kind = {"exact": "", "bound": " (lower bound)", "estimate": " (estimate)"}[self.kind]
        k = f", {self.importance_samples} importance samples" if self.importance_samples > 1 else ""
        nats, bits = _mean_se(self.log_prob), _mean_se(self.bits_per_dim)
        units = " in model units" if self.measure == "density" else ""
        return (
            f"log p = {nats[0]:.3f} +- {2 * nats[1]:.3f} nats{kind}, {bits[0]:.4f} +- {2 * bits[1]:.4f} bits/dim{units}, "
            f"n = {len(self.log_prob)}{k}"
        )

    def write(self, path: Path) -> None:
        """A CSV row per sample."""
        with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["sample", "log_prob_nats", "bits_per_dim", "kind"])
            rows = zip(self.origins, self.log_prob.tolist(), self.bits_per_dim.tolist(), strict=True)
            writer.writerows([origin, repr(nats), repr(bits), self.kind] for origin, nats, bits in rows)


def score(
    run: Run,
    data: str | None = None,
    *,
    split: str = "val",
    importance_samples: int = 1,
    seed: int = 0,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Scores:
    """Log-density of images under a run.

    Args:
        run: a finished run.
        data: the user's file; None for a split of the run's own data.
        split: "train", "val" or "test".
        importance_samples: draws per image, for bounds and estimates.
        seed: of their noise.
        limit: only the first so many.

    Raises:
        RunError: the family has no density.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"`limit` must be at least 1; got {limit}.")
    model = run.model
    if not isinstance(model, DensityModel):
        raise RunError(f"family {run.config.family!r} has no log-density; `medgen list --interface density` shows those that do.")
    dataset, rows = inputs(run, data, split)
    rows = rows[:limit]
    parts: list[Tensor] = []
    with evaluating(model):
        for batch in batches_of(model, dataset, rows):
            noise = Noise(seed, batch.index)
            parts.append(
                model.log_prob(batch.x, condition=batch.condition, noise=noise, importance_samples=importance_samples).double().cpu()
            )
            if progress is not None:
                progress(sum(map(len, parts)))
    nats = torch.cat(parts)
    origins = [dataset.origin(int(i)) for i in rows]
    return Scores(nats, model.bits_per_dim(nats), origins, model.log_prob_kind, importance_samples, model.log_prob_measure)


def _mean_se(values: Tensor) -> tuple[float, float]:
    """Mean and its standard error."""
    spread = values.std().item() / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return values.mean().item(), spread
