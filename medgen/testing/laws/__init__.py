"""The laws, by group. Importing a module registers its laws."""

from medgen.testing.laws import (
    config,
    density,
    flow,
    gradient,
    inpainting,
    integration,
    numerics,
    persistence,
    plugin,
    sampling,
    training,
    translation,
)

__all__ = [
    "config",
    "density",
    "flow",
    "gradient",
    "inpainting",
    "integration",
    "numerics",
    "persistence",
    "plugin",
    "sampling",
    "training",
    "translation",
]
