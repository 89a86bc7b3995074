"""From csrc/ to a loaded library: found ahead of time, found in the cache, built on first use, or not at all, each with its reason.

Importing this needs the standard library alone, so that setup.py and `medgen doctor` can.
"""

from medgen.native.explain import why_not_native
from medgen.native.extension import Extension
from medgen.native.jit import BuildError, build, compile_into
from medgen.native.loader import Outcome, load, load_module, loaded
from medgen.native.locate import Place, locate
from medgen.native.policy import Policy, policy
from medgen.native.toolchain import ToolchainError, compiler, plan_of

__all__ = [
    "BuildError",
    "Extension",
    "Outcome",
    "Place",
    "Policy",
    "ToolchainError",
    "build",
    "compile_into",
    "compiler",
    "load",
    "load_module",
    "loaded",
    "locate",
    "plan_of",
    "policy",
    "why_not_native",
]
