"""The torch-free half of medgen: specs, hooks, plugin host, names, configs."""

from medgen.registry.hookspecs import hookimpl
from medgen.registry.host import Declared, Host, PluginStatus, PluginWarning, get_host, refresh
from medgen.registry.image import ConditionSlot, ConditionSpec, ImageSpec, Intensity
from medgen.registry.names import families, find, find_family, list_families, search, shortest_names, suggestion
from medgen.registry.resolve import require, resolve
from medgen.registry.spec import (
    API_VERSION,
    INTERFACES,
    LOG_PROBS,
    Capabilities,
    CommandSpec,
    DatasetSpec,
    ExtensionSpec,
    FamilySpec,
    MetricSpec,
    Reference,
)

__all__ = [
    "API_VERSION",
    "INTERFACES",
    "LOG_PROBS",
    "Capabilities",
    "CommandSpec",
    "ConditionSlot",
    "ConditionSpec",
    "DatasetSpec",
    "Declared",
    "ExtensionSpec",
    "FamilySpec",
    "Host",
    "ImageSpec",
    "Intensity",
    "MetricSpec",
    "PluginStatus",
    "PluginWarning",
    "Reference",
    "families",
    "find",
    "find_family",
    "get_host",
    "hookimpl",
    "list_families",
    "refresh",
    "require",
    "resolve",
    "search",
    "shortest_names",
    "suggestion",
]
