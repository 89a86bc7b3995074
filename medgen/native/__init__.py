"""From csrc/ to a loaded library: found ahead of time, found in the cache, built on first use, or not at all, each with its reason."""

from medgen.native.loader import Outcome, load, loaded
from medgen.native.policy import Policy, policy

__all__ = ["Outcome", "Policy", "load", "loaded", "policy"]
