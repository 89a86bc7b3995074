"""`TrainConfig`, the options of training, and `RunConfig`, everything that defines a run. Imports no torch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from medgen.errors import ConfigError, DataError
from medgen.registry import require, suggestion
from medgen.registry.config import Config

__all__ = ["RunConfig", "TrainConfig", "read_yaml"]


class TrainConfig(Config):
    """How a model is trained. Every field is an option of `medgen train`.

    >>> TrainConfig(batch_size=32).schedule
    'cosine'
    """

    epochs: int = Field(50, ge=1, description="Passes over the training set, where `steps` is not given.")
    steps: int | None = Field(None, ge=1, description="Optimizer steps in all; overrides `epochs`.")
    batch_size: int = Field(64, ge=1, description="Samples per optimizer step, over all devices and accumulation.")
    accumulate: int = Field(1, ge=1, description="Parts that each device's share of the batch is cut into, to save memory.")
    optimizer: Literal["adam", "adamw", "rmsprop", "sgd"] = Field("adam", description="Update rule.")
    lr: float = Field(1e-3, gt=0, description="Peak learning rate.")
    betas: tuple[float, float] = Field((0.9, 0.999), description="Decay rates of Adam's moments.")
    weight_decay: float = Field(0.0, ge=0, description="Weight decay.")
    schedule: Literal["constant", "cosine", "linear", "constant_linear"] = Field(
        "cosine",
        description="Learning rate from the end of warm-up to the last step; constant_linear is constant for half, then falls to 0.",
    )
    warmup: int = Field(100, ge=0, description="Steps over which the learning rate rises from 0 (at most a tenth of all steps).")
    clip: float = Field(10.0, ge=0, description="Largest norm of a phase's gradient; 0 does not clip.")
    ema: float = Field(0.0, ge=0, lt=1, description="Decay of the moving average of the weights that is saved and sampled; 0 for none.")
    precision: Literal["float32", "bfloat16", "float16", "float64"] = Field(
        "float32", description="Arithmetic: float32, mixed with bfloat16 or (GPU) float16, or float64."
    )
    compile: bool = Field(
        False, description="Compile the losses (torch.compile): faster steps after up to a minute; needs a C++ compiler, on a GPU Triton."
    )
    validate_every: int | None = Field(None, ge=1, description="Steps between validations; by default once per epoch.")
    patience: int = Field(0, ge=0, description="Validations without improvement after which training stops; 0 never stops early.")
    keep: Literal["last", "best"] = Field("last", description="Weights to save: the last, or those of the best validation.")
    checkpoint_every: int | None = Field(
        None, ge=1, description="Steps between checkpoints for resuming; by default an epoch, and at least 100."
    )
    log_every: int = Field(20, ge=1, description="Steps between rows of metrics.csv.")
    tensorboard: bool = Field(False, description="Also write TensorBoard logs.")
    seed: int = Field(0, ge=0, lt=2**63, description="Of initial weights, order of the data, and training noise.")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="Where to train; auto takes a GPU where there is one.")
    devices: int = Field(1, ge=1, description="Processes (CPU) or GPUs that share each batch.")

    @model_validator(mode="after")
    def _divides(self) -> Self:
        parts = self.devices * self.accumulate
        if self.batch_size % parts:
            raise ValueError(f"`batch_size` must be divisible by devices * accumulate = {parts}")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError("`betas` must lie in [0, 1)")
        return self


class RunConfig(Config):
    """All that defines a run; `config.yaml` in its folder, and what `medgen train --config` reads.

    >>> flat = {"family": "vae", "data": "scans.npz", "model": {"latent_dim": 8}, "window": [0, 255], "steps": 10}
    >>> config = RunConfig.from_flat(flat, {"window", "labels"})
    >>> config.data_options, config.train.steps
    ({'window': [0, 255]}, 10)
    """

    family: str = Field(description="Family, alias, or distribution/name.")
    data: str = Field(description="File, folder, or name of a registered dataset.")
    model: dict[str, Any] = Field({}, description="The family's own configuration.")
    data_options: dict[str, Any] = Field({}, description="How the data is read (medgen.data.DataConfig).")
    train: TrainConfig = Field(TrainConfig(), description="How it is trained.")

    @classmethod
    def from_flat(cls, values: Mapping[str, Any], data_fields: set[str], *, lenient: bool = False) -> RunConfig:
        """From one mapping in which data and training options stand beside `family`, `data` and `model`.

        Args:
            values: the mapping.
            data_fields: those of `medgen.data.DataConfig`.
            lenient: unknown keys are left out, as in the run of another version of medgen, which must still open.

        Raises:
            ConfigError: naming an unknown key and the nearest right one.
        """
        train_fields, own = set(TrainConfig.model_fields), {"family", "data", "model"}
        known = train_fields | data_fields | own
        for key in values:
            if key not in known and not lenient:
                raise ConfigError(f"unknown key {key!r}{suggestion(str(key), sorted(known))}")
        train = TrainConfig.parse({key: values[key] for key in train_fields if key in values})  # here, its errors name the bare key
        return cls.parse(
            {key: values[key] for key in own if key in values},
            data_options={key: values[key] for key in data_fields if key in values},
            train=train.to_json(),
        )

    def to_flat(self) -> dict[str, Any]:
        """Inverse of `from_flat`, with every training option and the data options that were given."""
        return {"family": self.family, "data": self.data, "model": self.model, **self.data_options, **self.train.to_json()}


def read_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """A mapping from a YAML file.

    Raises:
        DataError: the file is missing, not YAML, or holds something else.
    """
    yaml = require("yaml", "cli")

    class Loader(yaml.SafeLoader):  # type: ignore[misc, name-defined]
        """YAML 1.1 reads 1e-4, without a point, as text; nobody means that."""

    Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789"))
    try:
        values = Loader(Path(path).read_text(encoding="utf-8")).get_single_data()
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}.") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise DataError(f"{path} must hold a mapping of options; got {type(values).__name__}.")
    return values
