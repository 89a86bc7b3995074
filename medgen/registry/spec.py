"""What a plugin declares: `FamilySpec`, `DatasetSpec`, `MetricSpec`, `CommandSpec`, `ExtensionSpec`. Torch-free and frozen.

Classes are named by strings "package.module:attribute", resolved on first use, so that listing a family never imports it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal

from medgen.errors import ConfigError
from medgen.registry.image import ConditionSlot

__all__ = [
    "API_VERSION",
    "INTERFACES",
    "LOG_PROBS",
    "Capabilities",
    "CommandSpec",
    "DatasetSpec",
    "ExtensionSpec",
    "FamilySpec",
    "MetricSpec",
    "Reference",
]

API_VERSION = 1
"""Version of the plugin contract. A spec that asks for a newer one is rejected, with a sentence."""

INTERFACES = ("generator", "density", "translator", "latent", "inpainter")
LOG_PROBS = ("none", "exact", "bound", "estimate")

_RESERVED = ("medgen", "aten", "prim", "prims", "torch")
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_COMMAND = re.compile(r"[a-z][a-z0-9-]*")
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def _check_name(name: str, what: str) -> None:
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigError(f"the name of a {what} must match [a-z][a-z0-9_]*; got {name!r}.")


def _check_version(version: int, what: str) -> None:
    if not isinstance(version, int) or version < 1:
        raise ConfigError(f"{what} must be a whole number of at least 1; got {version!r}.")


def _check_names(values: object, what: str) -> None:
    # A forgotten comma, ("vae"), is a string whose letters would pass for names.
    if not isinstance(values, tuple) or any(not isinstance(v, str) for v in values):
        raise ConfigError(f"{what} must be a tuple of strings; got {values!r}.")


def _check_target(value: str, what: str) -> None:
    if not isinstance(value, str) or not _TARGET.fullmatch(value):
        raise ConfigError(f"{what} must have the form 'package.module:attribute'; got {value!r}.")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The paper a family or metric implements."""

    title: str
    authors: str
    year: int
    url: str = ""


@dataclass(frozen=True, kw_only=True)
class Capabilities:
    """What a family can do. `medgen list` shows it, and it decides which laws run: an over-claim fails.

    Args:
        spatial_dims: numbers of spatial axes the family builds for; 0 means vectors.
        contents: kinds of array: "intensity", "labels", "features".
        conditions: the slots it accepts.
        targets: slots that its training learns from and no verb takes: the attributes that a latent is regularised by. `required` ones must
            be in the training data.
        value_range: interval of model units that intensities are mapped to by default, e.g. (0, 1) or (-1, 1).
        log_prob: "exact", a lower "bound", a Monte Carlo "estimate", or "none".
        invertible: encode and decode are exact inverses.
        training: "none" for closed forms, "paired" or "unpaired" for translators, "plain" otherwise.
        ops: names of the native ops it profits from.
        graph_safe: its sampling step can be captured as a CUDA graph.
    """

    spatial_dims: tuple[int, ...] = (2,)
    contents: tuple[str, ...] = ("intensity",)
    conditions: tuple[ConditionSlot, ...] = ()
    targets: tuple[ConditionSlot, ...] = ()
    value_range: tuple[float, float] = (0.0, 1.0)
    log_prob: Literal["none", "exact", "bound", "estimate"] = "none"
    invertible: bool = False
    training: Literal["plain", "paired", "unpaired", "none"] = "plain"
    ops: tuple[str, ...] = ()
    graph_safe: bool = False

    def __post_init__(self) -> None:
        for name in ("contents", "ops"):
            _check_names(getattr(self, name), f"`{name}`")
        for name in ("spatial_dims", "conditions", "targets", "value_range"):
            if not isinstance(getattr(self, name), tuple):
                raise ConfigError(f"`{name}` must be a tuple; got {getattr(self, name)!r}.")
        if len(self.value_range) != 2 or not self.value_range[0] < self.value_range[1]:
            raise ConfigError(f"`value_range` must be two increasing numbers; got {self.value_range}.")
        if not self.spatial_dims or any(d not in (0, 1, 2, 3) for d in self.spatial_dims):
            raise ConfigError(f"`spatial_dims` must be some of 0, 1, 2, 3; got {self.spatial_dims}.")
        if any(c not in ("intensity", "labels", "features") for c in self.contents):
            raise ConfigError(f"`contents` must be some of 'intensity', 'labels', 'features'; got {self.contents}.")
        if self.log_prob not in LOG_PROBS:
            raise ConfigError(f"`log_prob` must be 'none', 'exact', 'bound' or 'estimate'; got {self.log_prob!r}.")
        if self.training not in ("plain", "paired", "unpaired", "none"):
            raise ConfigError(f"`training` must be 'plain', 'paired', 'unpaired' or 'none'; got {self.training!r}.")
        for name, slots in (("conditions", self.conditions), ("targets", self.targets)):
            if any(not isinstance(slot, ConditionSlot) for slot in slots):
                raise ConfigError(f"`{name}` must be ConditionSlot objects; got {slots!r}.")
        if both := sorted({slot.name for slot in self.conditions} & {slot.name for slot in self.targets}):
            raise ConfigError(f"a slot is a condition or a target, not both; got {both}.")


@dataclass(frozen=True, kw_only=True)
class FamilySpec:
    """A family of models, as its plugin declares it.

    Args:
        name: what users type; [a-z][a-z0-9_]*.
        interfaces: some of "generator", "density", "translator", "latent", "inpainter".
        model: "package.module:Class"; called as Class(config, image_spec, conditions), and with targets where it declares some.
        config: "package.module:Class", a `medgen.Config`.
        capabilities: see `Capabilities`.
        tiny: config values that train a step in under a second on a CPU; the laws use it.
        summary: one line.
        references: the papers.
        licence: SPDX identifier.
        aliases: other names that find it.
        weights_version: raised whenever parameters are renamed or re-shaped.
        migrations: "package.module:MAPPING" {old version: function(config, tensors) -> (config, tensors)}, or "".
        api_version: the contract it was written for.
    """

    name: str
    interfaces: tuple[str, ...]
    model: str
    config: str
    capabilities: Capabilities = field(default_factory=Capabilities)
    tiny: Mapping[str, Any] = field(default_factory=dict)
    summary: str = ""
    references: tuple[Reference, ...] = ()
    licence: str = "Apache-2.0"
    aliases: tuple[str, ...] = ()
    weights_version: int = 1
    migrations: str = ""
    api_version: int = API_VERSION

    def __post_init__(self) -> None:
        _check_name(self.name, "family")
        _check_names(self.aliases, f"`aliases` of family {self.name!r}")
        _check_names(self.interfaces, f"`interfaces` of family {self.name!r}")
        _check_version(self.api_version, f"`api_version` of family {self.name!r}")
        _check_version(self.weights_version, f"`weights_version` of family {self.name!r}")
        for alias in self.aliases:
            _check_name(alias, "family's alias")
        if not self.interfaces or any(i not in INTERFACES for i in self.interfaces):
            raise ConfigError(f"`interfaces` of family {self.name!r} must be some of {INTERFACES}; got {self.interfaces!r}.")
        _check_target(self.model, f"`model` of family {self.name!r}")
        _check_target(self.config, f"`config` of family {self.name!r}")
        if self.migrations:
            _check_target(self.migrations, f"`migrations` of family {self.name!r}")
        if not isinstance(self.capabilities, Capabilities):
            raise ConfigError(f"`capabilities` of family {self.name!r} must be a Capabilities; got {self.capabilities!r}.")
        if ("density" in self.interfaces) != (self.capabilities.log_prob != "none"):
            raise ConfigError(
                f"family {self.name!r} must list the interface 'density' exactly when `log_prob` is not 'none'; "
                f"got interfaces {self.interfaces} and log_prob {self.capabilities.log_prob!r}."
            )


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """A named dataset, usable as `--data NAME`.

    Args:
        name: what users type.
        factory: "package.module:function"; called with the options of `options`, returns a `medgen.data.Dataset`.
        summary: one line.
        options: name -> (default, description), what `--data NAME?key=value` accepts.
    """

    name: str
    factory: str
    summary: str = ""
    options: Mapping[str, tuple[Any, str]] = field(default_factory=dict)
    api_version: int = API_VERSION

    def __post_init__(self) -> None:
        _check_name(self.name, "dataset")
        _check_version(self.api_version, f"`api_version` of dataset {self.name!r}")
        _check_target(self.factory, f"`factory` of dataset {self.name!r}")


@dataclass(frozen=True, kw_only=True)
class MetricSpec:
    """A named metric, usable in `medgen evaluate --metrics`.

    Args:
        name: what users type.
        function: "package.module:function".
        kind: what it compares: "paired" images, two "distribution"s of images, the "density" of a model, or "latent"
            values with attributes of the samples.
        better: "lower" or "higher".
        summary: one line.
        references: the papers.
    """

    name: str
    function: str
    kind: Literal["paired", "distribution", "density", "latent"]
    better: Literal["lower", "higher"]
    summary: str = ""
    references: tuple[Reference, ...] = ()
    api_version: int = API_VERSION

    def __post_init__(self) -> None:
        _check_name(self.name, "metric")
        _check_version(self.api_version, f"`api_version` of metric {self.name!r}")
        _check_target(self.function, f"`function` of metric {self.name!r}")
        if self.kind not in ("paired", "distribution", "density", "latent"):
            raise ConfigError(f"`kind` of metric {self.name!r} must be 'paired', 'distribution', 'density' or 'latent'; got {self.kind!r}.")
        if self.better not in ("lower", "higher"):
            raise ConfigError(f"`better` of metric {self.name!r} must be 'lower' or 'higher'; got {self.better!r}.")


@dataclass(frozen=True, kw_only=True)
class CommandSpec:
    """A command of the program, `medgen NAME ...`.

    Args:
        name: what users type; [a-z][a-z0-9-]*. medgen's own commands win over a plugin's of the same name.
        run: "package.module:function"; called with the words after the name, returns the exit code.
        summary: one line of `medgen --help`.
    """

    name: str
    run: str
    summary: str = ""
    api_version: int = API_VERSION

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not _COMMAND.fullmatch(self.name):
            raise ConfigError(f"the name of a command must match [a-z][a-z0-9-]*; got {self.name!r}.")
        _check_version(self.api_version, f"`api_version` of command {self.name!r}")
        _check_target(self.run, f"`run` of command {self.name!r}")


@dataclass(frozen=True, kw_only=True)
class ExtensionSpec:
    """A plugin's own C++/CUDA sources, built by the same machinery as medgen's.

    Args:
        name: of the library and of its ops' namespace, torch.ops.NAME, or of the Python module; [a-z][a-z0-9_]*.
        package: importable package that contains the sources.
        sources: .cpp, .cc and .cu files inside the package; headers beside them are found.
        kind: "ops" (of torch, on its stable interface) or "module" (a plain pybind11 module of .cpp and .cc files, without torch, that
            `medgen.native.load_module` imports).
        module: where a `medgen.ops.OpLibrary` defines the ops; `medgen doctor --ops` imports it to list them. Empty for a "module".
        summary: one line.
    """

    name: str
    package: str
    sources: tuple[str, ...]
    kind: Literal["ops", "module"] = "ops"
    module: str = ""
    summary: str = ""
    api_version: int = API_VERSION

    def __post_init__(self) -> None:
        _check_name(self.name, "extension")
        _check_names(self.sources, f"`sources` of extension {self.name!r}")
        _check_version(self.api_version, f"`api_version` of extension {self.name!r}")
        if not self.sources:
            raise ConfigError(f"`sources` of extension {self.name!r} must list at least one file; got none.")
        for source in self.sources:
            path = PurePosixPath(source)
            if path.suffix not in (".cpp", ".cc", ".cu") or path.is_absolute() or ".." in path.parts:
                what = f"`sources` of extension {self.name!r}"
                raise ConfigError(f"{what} must be .cpp, .cc or .cu files inside its package; got {source!r}.")
        if self.kind not in ("ops", "module"):
            raise ConfigError(f"`kind` of extension {self.name!r} must be 'ops' or 'module'; got {self.kind!r}.")
        if self.kind == "module" and (self.module or any(source.endswith(".cu") for source in self.sources)):
            raise ConfigError(
                f"extension {self.name!r} of kind 'module' must have .cpp and .cc sources only and no `module`, since it defines no ops; "
                f"got {self.sources!r} and {self.module!r}."
            )
        if self.name in _RESERVED:
            raise ConfigError(f"the name of an extension is its ops' namespace, and {self.name!r} is taken; choose another.")
