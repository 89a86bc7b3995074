"""`medgen.train`: from a family's name and some data to a finished run."""

from __future__ import annotations

import logging
import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch

from medgen.data import DataConfig, Dataset, open_data
from medgen.errors import ConfigError, DataError, MissingExtraError
from medgen.factory import config_class, create, save, select_conditions, select_targets
from medgen.files import sweep
from medgen.interfaces import Model
from medgen.registry import find_family, require
from medgen.runs import Run, RunConfig, TrainConfig
from medgen.training.guards import check_range
from medgen.training.loop import Loop

__all__ = ["build", "open_dataset", "resume", "train"]

_PRECISION = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed", "float64": "64-true"}


def train(
    family: str,
    data: str | os.PathLike[str] | Dataset,
    out: str | os.PathLike[str],
    *,
    model: dict[str, Any] | None = None,
    show: bool = True,
    **options: Any,
) -> Run:
    """Train a family on data into a new run folder.

    Args:
        family: a family, an alias, or `distribution/name`.
        data: a path, the name of a registered dataset, or a `Dataset`.
        out: the run folder; must be absent or empty.
        model: the family's configuration.
        show: live progress on the terminal.
        options: fields of `medgen.data.DataConfig` and `medgen.runs.TrainConfig`.

    Raises:
        ConfigError, DataError, UnknownNameError: before anything is written.
        NonFiniteError: training diverged; names the step, the phase and the first module at fault.
        KeyboardInterrupt: interrupted; the run holds a checkpoint, see `resume`.

    >>> import tempfile
    >>> from medgen.data import from_arrays
    >>> images = torch.rand(32, 8, 8).numpy()
    >>> run = train("vae", from_arrays(images), tempfile.mkdtemp(), model={"latent_dim": 2, "channels": [4]}, steps=3, show=False)
    >>> run.model.sample(2).shape
    torch.Size([2, 1, 8, 8])
    """
    given = data if isinstance(data, Dataset) else None
    config = RunConfig.from_flat(
        {"family": family, "data": given.source if given else os.fspath(data), "model": model or {}, **options},  # type: ignore[arg-type]
        set(DataConfig.model_fields),
    )
    if given is not None:
        config = _opened(config, given)
    config_class(find_family(family)).parse(config.model)  # a wrong option shows before minutes of reading data
    fabric = _fabric(config.train)
    dataset = given or open_dataset(config)
    built = build(config, dataset)
    check_range(built, dataset.fetch(dataset.splits["train"][: config.train.batch_size]))
    run = Run(out)
    if fabric.is_global_zero:
        run = Run.begin(out, config)
        run.write_data_summary(dataset)
    fabric.barrier()
    try:
        return _fit(fabric, run, config, dataset, built, show=show)
    except (ConfigError, DataError, MissingExtraError):  # a mistake that shows before the first checkpoint leaves nothing behind
        if fabric.is_global_zero and not run.resume_dir.is_dir():
            shutil.rmtree(run.path, ignore_errors=True)
        raise


def resume(path: str | os.PathLike[str], *, data: Dataset | None = None, show: bool = True) -> Run:
    """Go on with an interrupted or killed training; the weights come out bit-equal to those of an uninterrupted one.

    Args:
        path: the run folder.
        data: the dataset, where the run was not started from a path.
        show: live progress on the terminal.

    Raises:
        RunError: there is no run, or its data has changed since it started: start a new run.
    """
    run = Run.open(path)
    if run.weights_file.is_file():
        return run
    config = run.config
    fabric = _fabric(config.train)
    if data is not None:
        run.check_data(data)
    dataset = run.dataset if data is None else data
    if fabric.is_global_zero:
        sweep(run.path)
    return _fit(fabric, run, config, dataset, build(config, dataset), show=show)


def open_dataset(config: RunConfig) -> Dataset:
    """The data of a run, in the model units that its family prefers."""
    default = find_family(config.family).spec.capabilities.value_range
    return open_data(config.data, default_range=default, **config.data_options)


def _opened(config: RunConfig, dataset: Dataset) -> RunConfig:
    """`config` with the options with which `dataset` was opened, so that the run can open it again."""
    if config.data_options:
        raise ConfigError(
            f"`data` is already open, so the options {sorted(config.data_options)} come too late; give them where it was opened."
        )
    return config.model_copy(update={"data_options": dataset.config.model_dump(mode="json", exclude_defaults=True)})


def build(config: RunConfig, dataset: Dataset) -> Model:
    """The untrained model of a run, with those of the data's conditions that its family takes or learns from."""
    conditions = select_conditions(config.family, dataset.conditions)
    targets = select_targets(config.family, dataset.conditions)
    return create(config.family, dataset.image_spec, conditions, targets=targets, seed=config.train.seed, config=config.model)


def _fabric(config: TrainConfig) -> Any:
    """Lightning Fabric, launched: with several devices the other ranks start here and run the same program."""
    fabric_class = require("lightning_fabric", "train").Fabric
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    accelerator = config.device if config.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
    if accelerator == "cuda" and not torch.cuda.is_available():
        raise ConfigError("`device` is cuda, but this torch sees no CUDA device; use --device cpu.")
    if accelerator == "cpu" and config.precision == "float16":
        raise ConfigError("`precision` float16 needs a GPU; on the CPU use bfloat16.")
    # Each phase uses only its own player's parameters; gradients of the others must not be waited for.
    strategy = "ddp_find_unused_parameters_true" if config.devices > 1 else "auto"
    fabric = fabric_class(accelerator=accelerator, devices=config.devices, strategy=strategy, precision=_PRECISION[config.precision])
    fabric.launch()
    return fabric


def _fit(fabric: Any, run: Run, config: RunConfig, dataset: Dataset, model: Model, *, show: bool) -> Run:
    loop = Loop(fabric, model, dataset, run, config.train, show=show)
    loop.fit()
    if fabric.is_global_zero:
        _finish(run, config, dataset, loop)
    fabric.barrier()
    run.dataset = dataset
    return run


def _finish(run: Run, config: RunConfig, dataset: Dataset, loop: Loop) -> None:
    """Write the model: the best or the averaged weights where asked; then the checkpoints are done with."""
    model = loop.model
    if loop.best_weights is not None:
        model.load_state_dict(loop.best_weights)
    elif loop.phases and loop.ema is not None:
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in loop.ema.averages:
                    parameter.copy_(loop.ema.averages[name])
    position = loop.position
    training = {
        "steps": position.step,
        "samples": position.batches * loop.order.size,
        "seed": config.train.seed,
        "ema": config.train.ema,
        "precision": config.train.precision,
        "best_validation": position.best,
        "torch": re.sub(r"\+.*", "", torch.__version__),
    }
    data = {"source": Path(dataset.source).name, "fingerprint": dataset.fingerprint, "samples": len(dataset.splits["train"])}
    save(model.cpu(), run.weights_file, data=data, training=training)
    shutil.rmtree(run.resume_dir, ignore_errors=True)
