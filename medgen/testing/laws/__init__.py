"""The laws, by group. Importing a module registers its laws."""

from medgen.testing.laws import config, persistence, plugin, sampling

__all__ = ["config", "persistence", "plugin", "sampling"]
