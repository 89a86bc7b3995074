"""The errors medgen raises. All derive from `MedgenError`; the command line prints them as one line, without a traceback.

House form of a message: what was expected, what came, how to fix it.
"""

from __future__ import annotations

__all__ = [
    "CollapseWarning",
    "ConditionError",
    "ConfigError",
    "DataError",
    "DuplicateFamilyError",
    "MedgenError",
    "MissingExtraError",
    "NativeOpsError",
    "NativeOpsWarning",
    "NonFiniteError",
    "PluginError",
    "RunError",
    "UnknownNameError",
    "WeightsError",
]


class MedgenError(Exception):
    """Root of every error that medgen raises on purpose."""


class ConfigError(MedgenError, ValueError):
    """A configuration holds an unknown key, a wrong type or a value out of range."""


class UnknownNameError(MedgenError, LookupError):
    """No family, dataset or metric has this name."""


class DuplicateFamilyError(MedgenError, LookupError):
    """Two distributions claim the same name; the qualified form `distribution/name` picks one."""


class PluginError(MedgenError, RuntimeError):
    """A plugin could not be imported, or what it declares cannot be resolved."""


class MissingExtraError(MedgenError, ImportError):
    """An optional dependency is not installed; the message names the pip command."""


class DataError(MedgenError, ValueError):
    """Input data cannot be used: the message names the file or the array."""


class ConditionError(MedgenError, ValueError):
    """A condition does not match the slots that the model declares."""


class WeightsError(MedgenError, ValueError):
    """A weights file is truncated, altered, foreign, too new, or needs a plugin that is absent."""


class RunError(MedgenError, RuntimeError):
    """A run folder is missing, incomplete, or does not fit the command."""


class NonFiniteError(MedgenError, ArithmeticError):
    """Training met a loss or gradient that is NaN or infinite."""


class NativeOpsError(MedgenError, RuntimeError):
    """MEDGEN_OPS=native, and a native library cannot be had."""


class NativeOpsWarning(UserWarning):
    """A native library could not be built; the reference runs."""


class CollapseWarning(UserWarning):
    """Adversarial training looks lost: the discriminator is always right, or the samples are all alike."""
