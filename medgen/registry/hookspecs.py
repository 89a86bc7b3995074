"""The hooks a plugin may implement. Each returns an iterable of frozen specs; nothing is mutated.

A complete plugin is a light module, named by an entry point of the group `medgen`:

    # pyproject.toml
    [project.entry-points.medgen]
    mine = "my_package.plugin"

    # my_package/plugin.py: imports no torch
    import medgen

    @medgen.hookimpl
    def medgen_families():
        yield medgen.FamilySpec(
            name="mine", interfaces=("generator",), model="my_package.model:Mine", config="my_package.config:MineConfig"
        )
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from medgen.registry.spec import CommandSpec, DatasetSpec, ExtensionSpec, FamilySpec, MetricSpec

__all__ = ["PROJECT", "hookimpl", "hookspec"]

PROJECT = "medgen"
hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def medgen_families() -> Iterable[FamilySpec]:
    """The model families that this plugin offers."""
    return ()


@hookspec
def medgen_datasets() -> Iterable[DatasetSpec]:
    """The named datasets that this plugin offers."""
    return ()


@hookspec
def medgen_metrics() -> Iterable[MetricSpec]:
    """The metrics that this plugin offers."""
    return ()


@hookspec
def medgen_commands() -> Iterable[CommandSpec]:
    """The commands that this plugin adds to `medgen`."""
    return ()


@hookspec
def medgen_extensions() -> Iterable[ExtensionSpec]:
    """The C++/CUDA sources that this plugin brings."""
    return ()


# hook name -> the spec type that its items must have
HOOKS: dict[str, type] = {
    "medgen_families": FamilySpec,
    "medgen_datasets": DatasetSpec,
    "medgen_metrics": MetricSpec,
    "medgen_commands": CommandSpec,
    "medgen_extensions": ExtensionSpec,
}
