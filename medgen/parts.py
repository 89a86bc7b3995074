"""`open_part`: a trained model as part of another, for families over the latents, samples or features of another family."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from medgen import weights
from medgen.errors import ConfigError
from medgen.factory import build, describe, needed_family, rebuild
from medgen.interfaces import Model
from medgen.registry import ConditionSpec, ImageSpec, find_family

__all__ = ["open_part"]


def open_part(
    source: str | os.PathLike[str] | Mapping[str, Any], image_spec: ImageSpec, conditions: Sequence[ConditionSpec] = ()
) -> tuple[Model, dict[str, Any]]:
    """A model to be held in a sub-module of another, frozen and in evaluation mode, and its description, in plain JSON types.

    The whole keeps the description in its own configuration, in the field that has the sub-module's name. Then its saved file stands alone:
    the description rebuilds the part without the files it came from, its weights lie among those of the whole, and `medgen.load` lifts both
    to the installed version of the part's family.

    Args:
        source: the folder of a run or a weights file, from which the part comes with its weights; or a description, from which it comes
            without, as they are in the state dict of the whole. {"family": "vae", "config": {...}} is a description too.
        image_spec, conditions: of a description that does not say.

    Raises:
        WeightsError: the file is missing, altered, or needs a plugin that is not installed.
        ConfigError, UnknownNameError, ConditionError: the description is wrong.

    >>> part, description = open_part({"family": "vae", "config": {"latent_dim": 3}}, ImageSpec(channels=1, shape=(8, 8)))
    >>> part.latent_shape, description["distribution"], any(p.requires_grad for p in part.parameters())
    ((3,), 'medgen-autoencoders', False)
    """
    model, description = _described(source, image_spec, conditions) if isinstance(source, Mapping) else _opened(Path(source))
    return model.requires_grad_(False).eval(), description


def _opened(path: Path) -> tuple[Model, dict[str, Any]]:
    file = path / "model.safetensors" if path.is_dir() else path
    meta, tensors = weights.read(file)
    declared = needed_family(meta, file)
    model = rebuild(declared, meta, tensors, file)
    return model, describe(declared, model, data=meta["data"], training=meta["training"])


def _described(source: Mapping[str, Any], image_spec: ImageSpec, conditions: Sequence[ConditionSpec]) -> tuple[Model, dict[str, Any]]:
    if not isinstance(source.get("family"), str):
        raise ConfigError(f"a model within another is given as a path, or described by its `family` and `config`; got {dict(source)}.")
    declared = find_family(f"{source['distribution']}/{source['family']}" if "distribution" in source else source["family"])
    if "image_spec" in source:
        image_spec = ImageSpec.from_json(source["image_spec"])
    if "conditions" in source:
        conditions = [ConditionSpec.from_json(value) for value in source["conditions"]]
    targets = [ConditionSpec.from_json(value) for value in source.get("targets", ())]
    model = build(declared, image_spec, conditions, targets=targets, config=source.get("config") or {})
    return model, describe(declared, model, data=source.get("data"), training=source.get("training"))
