"""`Run`: one folder per training.

config.yaml         what was asked: `medgen train --config config.yaml` repeats it
model.safetensors   the model; `medgen.load` needs nothing else
metrics.csv         step, epoch, split, phase, name, value
data.json           what the data was: counts, shape, intensity rule, warnings, fingerprint
resume/             checkpoints of an unfinished training
report.html card.md evaluation.json samples/
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medgen.data import DataConfig, Dataset, open_data
from medgen.data.open import is_location
from medgen.errors import ConfigError, DataError, RunError
from medgen.factory import load
from medgen.files import make_folder, write_json, write_text
from medgen.interfaces import Model
from medgen.registry import ImageSpec, find_family, require
from medgen.runs.config import RunConfig, read_yaml
from medgen.weights import read_meta

__all__ = ["Run", "open_run"]

METRIC_COLUMNS = ("step", "epoch", "split", "phase", "name", "value")


class Run:
    """The folder of one training, as paths and as objects loaded on first use.

    Args:
        path: the folder. `Run.open` and `Run.begin` check it; this only remembers it.
        overrides: see `Run.open`.
    """

    def __init__(self, path: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None) -> None:
        self.path = Path(path)
        self._asked = dict(overrides or {})
        self.elsewhere: dict[str, Any] = {}
        """The data and its options, where they are not those of the training; see `on`."""

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @classmethod
    def open(cls, path: str | os.PathLike[str], **overrides: Any) -> Run:
        """An existing run.

        Args:
            path: the folder, which stays as it is.
            overrides: other values of runtime fields of the model, e.g. `temperature=0.7`; see `medgen.load`.

        Raises:
            RunError: there is no run at `path`.
        """
        run = cls(path, overrides)
        if not run.config_file.is_file():
            parent = run.path.parent
            hint = f"; did you mean its parent {parent}?" if (parent / "config.yaml").is_file() else ". `medgen train` makes one."
            raise RunError(f"{path} is not a run folder (it has no config.yaml){hint}")
        return run

    @classmethod
    def begin(cls, path: str | os.PathLike[str], config: RunConfig) -> Run:
        """A new run; the folder must be absent or empty.

        Raises:
            RunError: the folder holds something.
        """
        run = cls(path)
        if run.path.exists() and (not run.path.is_dir() or any(run.path.iterdir())):
            if run.config_file.is_file():
                raise RunError(f"{path} already holds a run. Go on with it: medgen train --resume {path}; or choose another --out.")
            raise RunError(f"{path} is not empty. Choose another --out.")
        make_folder(run.path)
        write_text(run.config_file, require("yaml", "train").safe_dump(config.to_flat(), sort_keys=False))
        return run

    @property
    def config_file(self) -> Path:
        """What was asked."""
        return self.path / "config.yaml"

    @property
    def weights_file(self) -> Path:
        """The trained model; absent until training has ended."""
        return self.path / "model.safetensors"

    @property
    def metrics_file(self) -> Path:
        """The training curve."""
        return self.path / "metrics.csv"

    @property
    def resume_dir(self) -> Path:
        """Checkpoints."""
        return self.path / "resume"

    @cached_property
    def config(self) -> RunConfig:
        """What was asked, parsed."""
        return RunConfig.from_flat(read_yaml(self.config_file), set(DataConfig.model_fields), lenient=True)

    @cached_property
    def model(self) -> Model:
        """The trained model, in evaluation mode, on the CPU unless moved.

        Raises:
            RunError: the training has not ended.
            ConfigError: the overrides are wrong.
        """
        if not self.weights_file.is_file():
            raise RunError(f"{self.path} has no model.safetensors yet. Finish the training: medgen train --resume {self.path}")
        return load(self.weights_file, **self._asked)

    @cached_property
    def overrides(self) -> dict[str, Any]:
        """The runtime fields in which `model` differs from the trained one, with their values."""
        if not self._asked:
            return {}
        config = self.model.config
        try:
            trained = config.parse(read_meta(self.weights_file)["config"]).runtime_values()
        except ConfigError:  # of another version of the family: what differs is not known, so that all is told
            trained = {}
        return {name: value for name, value in config.runtime_values().items() if name not in trained or value != trained[name]}

    @cached_property
    def dataset(self) -> Dataset:
        """The data of the run, read as it was for training.

        Raises:
            DataError: it cannot be read from here.
            RunError: it is not what the run was trained on.
        """
        before = self.data_summary()
        default = find_family(self.config.family).spec.capabilities.value_range
        low, high = before.get("intensity", {}).get("range", default)
        try:
            dataset = open_data(self.config.data, default_range=(low, high), **self.config.data_options)
        except DataError as error:
            raise DataError(f"the data of {self.path}: {error}") from error
        self.check_data(dataset)
        return dataset

    def on(self, data: str | os.PathLike[str], **options: Any) -> Run:
        """The same model with other data, such as pairs for a translator that was trained without. Nothing in the folder changes.

        Shape, voxels and intensity are brought to those of the training; all else is read as `options` say. All samples are in the split
        "test", unless the data itself, `split`, `val_subjects` or `test_subjects` divide them.

        Args:
            data: a path or the name of a registered dataset.
            options: fields of `medgen.data.DataConfig`.

        Raises:
            DataError, ConfigError: it cannot be read so.
            RunError: samples of another kind than the model's.
        """
        other = Run(self.path, self._asked)
        other.model, config = self.model, self.config
        where = os.fspath(data)
        kept = {k: v for k, v in config.data_options.items() if k in _GRID} if is_location(where) else {}
        opened = open_data(where, default_range=self.model.image_spec.intensity.range, **{**kept, **options})
        if opened.samples.splits is None and not _DIVIDES & set(options):
            everything = np.arange(len(opened), dtype=np.int64)
            opened = replace(opened, splits={"train": everything[:0], "val": everything[:0], "test": everything})
        other.dataset = _fitted(opened, self.model, whole=config.data_options.get("patch") is not None)
        other.config = config.model_copy(update={"data": where, "data_options": {**kept, **options}})
        other.elsewhere = {"data": where, **options}
        return other

    def check_data(self, dataset: Dataset) -> None:
        """Whether `dataset` is what the run was trained on.

        Raises:
            RunError: it is not.
        """
        before = self.data_summary().get("fingerprint", dataset.fingerprint)
        if before != dataset.fingerprint:
            raise RunError(
                f"the data at {self.config.data} has changed since {self.path} was started (fingerprint {before[:12]} then, "
                f"{dataset.fingerprint[:12]} now)."
            )

    def metrics(self) -> list[dict[str, Any]]:
        """Rows of metrics.csv, with numbers as numbers. What a killed process left half-written is passed over."""
        if not self.metrics_file.is_file():
            return []
        lines = self.metrics_file.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)[1:]
        rows = []
        for line in lines:
            if not line.endswith("\n"):  # it may be cut within the value and still look whole
                continue
            with suppress(ValueError, csv.Error):
                step, epoch, split, phase, name, value = next(csv.reader([line]))
                rows.append({"step": int(step), "epoch": int(epoch), "split": split, "phase": phase, "name": name, "value": float(value)})
        return rows

    def write_data_summary(self, dataset: Dataset) -> None:
        """Remember what the data was, for reports where the data itself is not at hand."""
        write_json(self.path / "data.json", dataset.summary())

    def data_summary(self) -> Mapping[str, Any]:
        """What `write_data_summary` wrote; empty where it is missing."""
        file = self.path / "data.json"
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}

    def device(self, name: str = "auto") -> torch.device:
        """Where to run the model: "auto" takes a GPU where there is one."""
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        if name == "cuda" and not torch.cuda.is_available():
            raise RunError("no CUDA device is available to this torch; use --device cpu.")
        return torch.device(name)


_GRID = {"size", "spacing", "orientation", "axis", "dim", "content"}
_DIVIDES = {"split", "val_subjects", "test_subjects"}


def _fitted(dataset: Dataset, model: Model, *, whole: bool) -> Dataset:
    """The samples in the units of the model.

    Raises:
        RunError: they are of another kind, or, unless `whole` samples go through it in tiles, of another shape.
    """

    def like(what: str, found: ImageSpec, wanted: ImageSpec) -> ImageSpec:
        if (found.channels, found.content, found.dim) != (wanted.channels, wanted.content, wanted.dim) or (
            found.shape != wanted.shape and not whole
        ):
            raise RunError(
                f"{dataset.source}: {what} must be {wanted.content} of shape {wanted.size} for this model; got {found.content} of shape "
                f"{found.size}."
            )
        return replace(found, intensity=wanted.intensity)

    conditions = []
    for spec in dataset.conditions:
        wanted = model.condition_spec(spec.name)
        fits = spec
        if spec.image is not None and wanted is not None and wanted.image is not None:
            fits = replace(spec, image=like(f"the {spec.name}", spec.image, wanted.image))
        elif wanted is not None and wanted.names != spec.names:
            raise RunError(f"{dataset.source}: {spec.name} must be of {list(wanted.names)} for this model; got {list(spec.names)}.")
        conditions.append(fits)
    return replace(dataset, image_spec=like("samples", dataset.image_spec, model.image_spec), conditions=tuple(conditions))


def open_run(path: str | os.PathLike[str], **overrides: Any) -> Run:
    """The run in a folder. See `Run.open`."""
    return Run.open(path, **overrides)
