"""Command-line options made from configurations: one typed option per field, with its description, default and limits as help."""

from __future__ import annotations

import argparse
import json
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any

from medgen.errors import ConfigError, DataError
from medgen.registry import require, suggestion
from medgen.registry.config import Config

__all__ = ["add_config", "given", "parse", "read_yaml"]


def add_config(parser: argparse.ArgumentParser, config: type[Config], title: str, *, prefix: str = "", skip: Iterable[str] = ()) -> None:
    """One option per field of `config`, in a group of its own.

    Args:
        prefix: "model." gives `--model.latent_dim`.
        skip: fields without an option.
    """
    group = parser.add_argument_group(title)
    for row in config.rows():
        if row.name in set(skip):
            continue
        annotation = config.model_fields[row.name].annotation
        limits = f"; {row.limits}" if row.limits else ""
        choices = f"; {row.type}" if "one of" in row.type else ""
        group.add_argument(
            f"--{prefix}{row.name}",
            dest=f"{prefix}{row.name}",
            default=argparse.SUPPRESS,
            metavar=row.name.rpartition("_")[2].upper(),
            help=f"{row.description} (default {row.default}{limits}{choices})".replace("%", "%%"),
            **_arity(annotation),
        )


def _arity(annotation: Any) -> dict[str, Any]:
    """How argparse reads a field: words of a tuple, an optional word of a flag, or one word."""
    kinds = [k for k in typing.get_args(annotation) if k is not NoneType] if isinstance(annotation, UnionType) else [annotation]
    kind = kinds[0]
    if kind is bool:
        return {"nargs": "?", "const": True, "type": _value}
    if typing.get_origin(kind) is tuple:
        parts = typing.get_args(kind)
        text = parts[0] is str
        return {"nargs": "*" if parts[-1] is Ellipsis else "+", "type": str if text else _value}
    text = kind is str or typing.get_origin(kind) is typing.Literal
    return {"type": _text if text else _value}


def _value(word: str) -> Any:
    """A word as a number, list, true, false or none; anything else stays text, for the configuration to reject."""
    if word.lower() in ("none", "null"):
        return None
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    try:
        return json.loads(word)
    except json.JSONDecodeError:
        return word


def _text(word: str) -> str | None:
    return None if word.lower() == "none" else word


def parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Parse, with a did-you-mean for unknown options.

    Raises:
        ConfigError: an unknown option or a stray word.
    """
    options, rest = parser.parse_known_args([_underscored(word) for word in argv])
    if rest:
        known = sorted(name for action in parser._actions for name in action.option_strings)
        word = rest[0].split("=")[0]
        hint = suggestion(word, known) if word.startswith("-") else ""
        raise ConfigError(
            f"unknown {'option' if word.startswith('-') else 'argument'} {word!r}{hint.removesuffix('?') + '?' if 'mean' in hint else ''}"
        )
    return options


def _underscored(word: str) -> str:
    """--batch-size is --batch_size; values stay as they are.

    >>> _underscored("--batch-size=8-9")
    '--batch_size=8-9'
    """
    name, sign, value = word.partition("=")
    return "--" + name[2:].replace("-", "_") + sign + value if word.startswith("--") else word


def given(options: argparse.Namespace, prefix: str, fields: Iterable[str]) -> dict[str, Any]:
    """The fields of a configuration that were given on the command line."""
    values = {name: getattr(options, f"{prefix}{name}") for name in fields if hasattr(options, f"{prefix}{name}")}
    # [8, 8] typed as one word is one list within the list that argparse makes
    return {
        name: value[0] if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list) else value
        for name, value in values.items()
    }


def read_yaml(path: str) -> dict[str, Any]:
    """A configuration file.

    Raises:
        DataError: the file is missing or not a YAML mapping.
    """
    yaml = require("yaml", "cli")
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"cannot read the config file {path}: {error.strerror}.") from None
    except yaml.YAMLError as error:
        raise DataError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise DataError(f"{path} must hold a mapping of options; got {type(values).__name__}.")
    return values
