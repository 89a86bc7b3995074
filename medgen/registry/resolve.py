"""Turning names into objects: "package.module:attribute" strings, and optional dependencies with their pip command."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from medgen.errors import MissingExtraError, PluginError

__all__ = ["require", "resolve"]


def resolve(target: str, *, owner: str) -> Any:
    """Import what "package.module:attribute" names.

    Args:
        target: the string.
        owner: who declared it, e.g. "family 'vae' of medgen-autoencoders 0.1.0"; begins the error.

    Raises:
        PluginError: the module cannot be imported, or lacks the attribute.

    >>> resolve("math:pi", owner="an example")
    3.141592653589793
    """
    module_name, _, attribute = target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except MissingExtraError:
        raise
    except Exception as error:
        raise PluginError(
            f"{owner} declares {target!r}, which cannot be imported: {type(error).__name__}: {error}. "
            "Reinstall the plugin, or see `medgen doctor`."
        ) from error
    if not hasattr(module, attribute):
        raise PluginError(f"{owner} declares {target!r}, but module {module_name!r} has no {attribute!r}.")
    return getattr(module, attribute)


def require(module: str, extra: str) -> ModuleType:
    """Import an optional dependency, or say which pip command brings it.

    >>> require("math", "cli").__name__
    'math'
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:  # any other ImportError: the package is there, and broken
        if (error.name or "").partition(".")[0] != package:
            raise
        raise MissingExtraError(f"this needs the package {package!r}; install it with: pip install 'medgen[{extra}]'") from error
