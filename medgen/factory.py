"""`create`, `save`, `load`: from a family's name to a model, to one file, and back."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import medgen
from medgen import weights
from medgen.errors import ConditionError, ConfigError, PluginError, UnknownNameError, WeightsError
from medgen.interfaces import INTERFACES, Model
from medgen.registry import ConditionSlot, ConditionSpec, Declared, ImageSpec, find_family, resolve
from medgen.registry.config import Config

__all__ = ["build", "config_class", "create", "describe", "load", "needed_family", "rebuild", "save", "select_conditions", "select_targets"]

_DESCRIBED = {"family", "distribution", "version", "weights_version", "config"}  # by which the description of a part is known


def config_class(declared: Declared) -> type[Config]:
    """The configuration class of a family, imported on demand."""
    found = resolve(declared.spec.config, owner=f"family {declared.owner}")
    if not (isinstance(found, type) and issubclass(found, Config)):
        raise PluginError(f"`config` of family {declared.owner} must be a subclass of medgen.Config; got {found!r}.")
    return found


def create(
    name: str,
    image_spec: ImageSpec,
    conditions: Sequence[ConditionSpec] = (),
    *,
    targets: Sequence[ConditionSpec] = (),
    seed: int = 0,
    config: Config | Mapping[str, Any] | None = None,
    **values: Any,
) -> Model:
    """Build a model of a family.

    Args:
        name: a family, an alias, or `distribution/name`.
        image_spec: the arrays it models.
        conditions: the concrete slots, of kinds that the family takes.
        targets: the concrete slots that its training learns from.
        seed: of the initial weights; the global RNG is left as it was.
        config, values: the family's configuration, as an object, a mapping, or keywords.

    Raises:
        UnknownNameError, DuplicateFamilyError, PluginError: see `medgen.registry.find`.
        ConfigError: the configuration is wrong, or the family does not build for such arrays.
        ConditionError: the family does not take such a condition.

    >>> model = create("vae", ImageSpec(channels=1, shape=(16, 16)), latent_dim=4, channels=[8, 8])
    >>> tuple(model.sample(3, noise=0).shape)
    (3, 1, 16, 16)
    """
    return build(find_family(name), image_spec, conditions, targets=targets, seed=seed, config=config, **values)


def build(
    declared: Declared,
    image_spec: ImageSpec,
    conditions: Sequence[ConditionSpec] = (),
    *,
    targets: Sequence[ConditionSpec] = (),
    seed: int = 0,
    config: Config | Mapping[str, Any] | None = None,
    **values: Any,
) -> Model:
    """`create` for a family that is at hand, installed or not. Arguments and errors as there."""
    _check_spec(declared, image_spec)
    can = declared.spec.capabilities
    _check_slots(declared, conditions, can.conditions, "conditions")
    _check_slots(declared, targets, can.targets, "targets")
    model_class = resolve(declared.spec.model, owner=f"family {declared.owner}")
    _check_interfaces(declared, model_class)
    if isinstance(config, Config):
        config = config.to_json()
    parsed = config_class(declared).parse(config, **values)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Model = model_class(parsed, image_spec, tuple(conditions), *((tuple(targets),) if can.targets else ()))
    model.family = declared.qualified
    return model


def select_conditions(name: str, available: Sequence[ConditionSpec]) -> tuple[ConditionSpec, ...]:
    """Those of a dataset's slots that the family takes.

    Raises:
        ConditionError: a slot that the family requires is not among them.
    """
    return _select(name, find_family(name).spec.capabilities.conditions, available, "condition")


def select_targets(name: str, available: Sequence[ConditionSpec]) -> tuple[ConditionSpec, ...]:
    """Those of a dataset's slots that the family's training learns from.

    Raises:
        ConditionError: a slot that the training requires is not among them.
    """
    return _select(name, find_family(name).spec.capabilities.targets, available, "training target")


def _select(name: str, wanted: Sequence[ConditionSlot], available: Sequence[ConditionSpec], what: str) -> tuple[ConditionSpec, ...]:
    slots = {slot.name: slot for slot in wanted}
    chosen = tuple(c for c in available if c.name in slots and slots[c.name].kind == c.kind)
    have = {c.name for c in chosen}
    if missing := [slot.name for slot in slots.values() if slot.required and slot.name not in have]:
        raise ConditionError(
            f"family {name!r} needs the {what} {', '.join(missing)}; the data has {[c.name for c in available] or 'none'}. "
            "See --labels and --attributes."
        )
    return chosen


def save(
    model: Model, path: str | os.PathLike[str], *, data: Mapping[str, Any] | None = None, training: Mapping[str, Any] | None = None
) -> None:
    """Write `model` as one self-describing safetensors file, atomically.

    Args:
        model: made by `create` or `load`.
        path: of the file.
        data: where the training data came from: "source", "fingerprint", ...
        training: how it was trained: "steps", "seed", "ema", ...

    Raises:
        PluginError: the model was not made by `create` or `load`.
        MedgenError: nothing can be written there.
    """
    if not model.family:
        raise PluginError(f"this {type(model).__name__} does not know its family; build it with medgen.create.")
    weights.write(path, model.state_dict(), describe(find_family(model.family), model, data=data, training=training))


def describe(
    declared: Declared, model: Model, *, data: Mapping[str, Any] | None = None, training: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What `save` writes beside the weights, and `rebuild` needs."""
    return {
        "family": declared.spec.name,
        "distribution": declared.distribution,
        "version": declared.version,
        "weights_version": declared.spec.weights_version,
        "config": model.config.to_json(),
        "image_spec": model.image_spec.to_json(),
        "conditions": [c.to_json() for c in model.conditions],
        **({"targets": [c.to_json() for c in model.targets]} if model.targets else {}),
        "medgen": medgen.__version__,
        "data": dict(data or {}),
        "training": dict(training or {}),
    }


def load(path: str | os.PathLike[str], *, device: torch.device | str = "cpu", **overrides: Any) -> Model:
    """Rebuild a model from its file, or from the folder of a run. Needs nothing else.

    Args:
        path: the file or folder.
        device: where the model goes.
        overrides: other values of runtime fields of its configuration, e.g. `temperature=0.7`; `medgen show FAMILY` says which there are.

    Raises:
        ConfigError: an override of a field that training fixed, or out of range.
        WeightsError: the file is missing, truncated, altered, foreign, of a newer schema, needs a plugin that is not installed, or does not
            fit the installed version of its family.
    """
    path = Path(path)
    if path.is_dir():
        path = path / "model.safetensors"
    meta, tensors = weights.read(path)
    return rebuild(needed_family(meta, path), meta, tensors, path, overrides).to(device).eval()


def needed_family(meta: Mapping[str, Any], path: Path) -> Declared:
    """The installed family of what `describe` made.

    Raises:
        WeightsError: it is not installed.
    """
    try:
        return find_family(f"{meta['distribution']}/{meta['family']}")
    except (UnknownNameError, PluginError) as error:
        raise WeightsError(
            f"{path} needs family {meta['family']!r} of {meta['distribution']}=={meta['version']}: {error} "
            f"Install it: pip install '{meta['distribution']}=={meta['version']}'"
        ) from error


def rebuild(
    declared: Declared, meta: Mapping[str, Any], tensors: dict[str, torch.Tensor], path: Path, overrides: Mapping[str, Any] | None = None
) -> Model:
    """The model that `describe` and a state dict were taken from, lifted to the installed version of its family.

    Args:
        declared: the family.
        meta: made by `describe`.
        tensors: the state dict.
        path: where they came from, for errors.
        overrides: see `load`.

    Raises:
        WeightsError: they do not fit the installed version.
        ConfigError: the overrides are wrong.
    """
    config, tensors = _lifted(declared, meta, tensors, path)
    misfit: tuple[type[Exception], ...] = (ConfigError, RuntimeError)
    if overrides:
        config = config_class(declared).parse(config).overridden(overrides).to_json()
        misfit = (RuntimeError,)  # a configuration that is refused is now the user's
    try:
        model = build(
            declared,
            ImageSpec.from_json(meta["image_spec"]),
            [ConditionSpec.from_json(c) for c in meta["conditions"]],
            targets=[ConditionSpec.from_json(c) for c in meta.get("targets", ())],
            config=config,
        )
        precisions = {t.dtype for t in tensors.values() if t.is_floating_point()}
        if len(precisions) == 1:  # a model trained in float64 comes back as that
            model.to(precisions.pop())
        model.load_state_dict(tensors, strict=True)
    except misfit as error:
        raise WeightsError(
            f"{path} was saved by {meta['distribution']} {meta['version']} and does not fit the installed {declared.version}: {error}"
        ) from error
    return model


def _lifted(
    declared: Declared, meta: Mapping[str, Any], tensors: dict[str, torch.Tensor], path: Path
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Config and tensors for the installed versions of the family and of the models that are part of it (see `medgen.parts`)."""
    config, tensors = _migrate_family(declared, meta, tensors, path)
    for name, part in config.items():
        if not (isinstance(part, Mapping) and part.keys() >= _DESCRIBED):
            continue
        prefix, family = f"{name}.", needed_family(part, path)
        own = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        inner, own = _lifted(family, part, own, path)
        config[name] = {**part, "config": inner, "version": family.version, "weights_version": family.spec.weights_version}
        rest = {key: value for key, value in tensors.items() if not key.startswith(prefix)}
        tensors = rest | {prefix + key: value for key, value in own.items()}
    return config, tensors


def _migrate_family(
    declared: Declared, meta: Mapping[str, Any], tensors: dict[str, torch.Tensor], path: Path
) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Lift the family's own config and parameter names, where its `weights_version` has risen since the file was saved."""
    config, version, current = dict(meta["config"]), meta["weights_version"], declared.spec.weights_version
    if version > current:
        raise WeightsError(
            f"{path} was saved by {declared.distribution} {meta['version']}, newer than the installed {declared.version}; "
            f"upgrade: pip install -U {declared.distribution}"
        )
    if version == current:
        return config, tensors
    ways: Mapping[int, Callable[..., Any]] = resolve(declared.spec.migrations, owner=declared.owner) if declared.spec.migrations else {}
    for step in range(version, current):
        if step not in ways:
            raise WeightsError(f"{path} has version {version} of the weights of {declared.owner}, which offers no migration from {step}.")
        config, tensors = ways[step](config, tensors)
    return config, tensors


def _check_spec(declared: Declared, spec: ImageSpec) -> None:
    can = declared.spec.capabilities
    if spec.dim not in can.spatial_dims:
        raise ConfigError(
            f"family {declared.spec.name!r} builds for {_or(can.spatial_dims)} spatial axes; got shape {spec.shape}. "
            f"Families for {spec.dim}: medgen list --dims {spec.dim}"
        )
    if spec.content not in can.contents:
        raise ConfigError(f"family {declared.spec.name!r} models {_or(can.contents)}; got {spec.content!r} (see --content).")


def _check_slots(declared: Declared, given: Sequence[ConditionSpec], slots: Sequence[ConditionSlot], what: str) -> None:
    kinds = {slot.name: slot.kind for slot in slots}
    contents = {slot.name: slot.content for slot in slots}
    for spec in given:
        if kinds.get(spec.name) != spec.kind:
            raise ConditionError(f"family {declared.spec.name!r} takes the {what} {kinds or 'none'}; got {spec.name!r} ({spec.kind}).")
        if spec.image is not None and contents[spec.name] not in ("any", spec.image.content):
            raise ConditionError(
                f"family {declared.spec.name!r} takes {contents[spec.name]} as {spec.name!r}; got {spec.image.content}"
                f"{' (see --source_content)' if spec.name == 'source' else ''}."
            )


def _check_interfaces(declared: Declared, model_class: Any) -> None:
    for name in declared.spec.interfaces:
        if not (isinstance(model_class, type) and issubclass(model_class, INTERFACES[name])):
            raise PluginError(
                f"family {declared.owner} declares the interface {name!r}, but {model_class!r} is no {INTERFACES[name].__name__}."
            )


def _or(values: Sequence[Any]) -> str:
    return " or ".join(str(v) for v in values)
