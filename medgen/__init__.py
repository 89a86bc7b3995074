"""medgen: one registry for every generative model of medical imaging.

The public names below are loaded on first use (PEP 562), so that `import medgen` costs milliseconds and no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# name -> module that defines it. The one list of what `medgen.` offers.
_EXPORTS = {
    "Batch": "medgen.interfaces",
    "Capabilities": "medgen.registry",
    "CommandSpec": "medgen.registry",
    "Condition": "medgen.interfaces",
    "ConditionSlot": "medgen.registry",
    "ConditionSpec": "medgen.registry",
    "Config": "medgen.registry.config",
    "DatasetSpec": "medgen.registry",
    "DensityModel": "medgen.interfaces",
    "ExtensionSpec": "medgen.registry",
    "FamilySpec": "medgen.registry",
    "Generator": "medgen.interfaces",
    "ImageSpec": "medgen.registry",
    "Inpainter": "medgen.interfaces",
    "Intensity": "medgen.registry",
    "LatentModel": "medgen.interfaces",
    "MedgenError": "medgen.errors",
    "MetricSpec": "medgen.registry",
    "Model": "medgen.interfaces",
    "Noise": "medgen.interfaces",
    "Phase": "medgen.interfaces",
    "Reference": "medgen.registry",
    "Translator": "medgen.interfaces",
    "create": "medgen.factory",
    "evaluate": "medgen.evaluation",
    "hookimpl": "medgen.registry",
    "list_families": "medgen.registry",
    "load": "medgen.factory",
    "open_data": "medgen.data",
    "open_run": "medgen.runs",
    "runtime_field": "medgen.registry.config",
    "save": "medgen.factory",
    "train": "medgen.training",
}

__all__ = ["__version__", *sorted(_EXPORTS)]  # noqa: PLE0604

if TYPE_CHECKING:  # so that type checkers and editors see the lazy names
    from medgen.data import open_data as open_data
    from medgen.errors import MedgenError as MedgenError
    from medgen.evaluation import evaluate as evaluate
    from medgen.factory import create as create
    from medgen.factory import load as load
    from medgen.factory import save as save
    from medgen.interfaces import Batch as Batch
    from medgen.interfaces import Condition as Condition
    from medgen.interfaces import DensityModel as DensityModel
    from medgen.interfaces import Generator as Generator
    from medgen.interfaces import Inpainter as Inpainter
    from medgen.interfaces import LatentModel as LatentModel
    from medgen.interfaces import Model as Model
    from medgen.interfaces import Noise as Noise
    from medgen.interfaces import Phase as Phase
    from medgen.interfaces import Translator as Translator
    from medgen.registry import Capabilities as Capabilities
    from medgen.registry import CommandSpec as CommandSpec
    from medgen.registry import ConditionSlot as ConditionSlot
    from medgen.registry import ConditionSpec as ConditionSpec
    from medgen.registry import DatasetSpec as DatasetSpec
    from medgen.registry import ExtensionSpec as ExtensionSpec
    from medgen.registry import FamilySpec as FamilySpec
    from medgen.registry import ImageSpec as ImageSpec
    from medgen.registry import Intensity as Intensity
    from medgen.registry import MetricSpec as MetricSpec
    from medgen.registry import Reference as Reference
    from medgen.registry import hookimpl as hookimpl
    from medgen.registry import list_families as list_families
    from medgen.registry.config import Config as Config
    from medgen.registry.config import runtime_field as runtime_field
    from medgen.runs import open_run as open_run
    from medgen.training import train as train


def __getattr__(name: str) -> Any:
    module = _EXPORTS.get(name)
    if module is None:
        raise AttributeError(f"module 'medgen' has no attribute {name!r}")
    value = getattr(importlib.import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
