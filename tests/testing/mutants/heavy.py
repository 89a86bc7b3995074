"""A plugin module with a configuration that imports torch, for no reason."""

from __future__ import annotations

import torch  # noqa: F401
from testing.mutants.config import SmallConfig


class HeavyConfig(SmallConfig):
    """As its parent."""
