"""Command-line options made from configurations: one typed option per field, with its description, default and limits as help."""

from __future__ import annotations

import argparse
import json
import re
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import NoneType, UnionType
from typing import Any, NoReturn

from medgen.errors import ConfigError
from medgen.registry import suggestion
from medgen.registry.config import Config

__all__ = ["add_config", "given", "overlaid", "parse", "parse_known"]


def add_config(parser: argparse.ArgumentParser, config: type[Config], title: str, *, prefix: str = "", hide: Iterable[str] = ()) -> None:
    """One option per field of `config`, in a group of its own.

    Args:
        prefix: "model." gives `--model.latent_dim`.
        hide: fields whose option is not in the help.
    """
    group, hidden = parser.add_argument_group(title), set(hide)
    for row in config.rows():
        limits = f"; {row.limits}" if row.limits else ""
        choices = f"; {row.type}" if "one of" in row.type else ""
        group.add_argument(
            f"--{prefix}{row.name}",
            dest=f"{prefix}{row.name}",
            default=argparse.SUPPRESS,
            metavar=re.split(r"[._]", row.name)[-1].upper(),
            help=argparse.SUPPRESS
            if row.name in hidden
            else f"{row.description} (default {row.default}{limits}{choices})".replace("%", "%%"),
            **_arity(_annotation(config, row.name)),
        )


def _annotation(config: type[Config], path: str) -> Any:
    """Type of the field at "outer.inner"."""
    *outer, last = path.split(".")
    for name in outer:
        nested = config.model_fields[name].annotation
        assert isinstance(nested, type)
        assert issubclass(nested, Config)
        config = nested
    return config.model_fields[last].annotation


def _arity(annotation: Any) -> dict[str, Any]:
    """How argparse reads a field: words of a sequence, an optional word of a flag, or one word."""
    choices = typing.get_args(annotation) if typing.get_origin(annotation) in (typing.Union, UnionType) else (annotation,)
    kinds = [_bare(kind) for kind in choices if kind is not NoneType]
    if len(kinds) > 1:
        return {"type": _value}
    kind, optional = kinds[0], len(choices) > 1
    if kind is bool:
        return {"nargs": "?", "const": True, "type": _value}
    if typing.get_origin(kind) in (tuple, list):
        parts = typing.get_args(kind)
        any_number = parts[-1] is Ellipsis or typing.get_origin(kind) is list
        return {"nargs": "*" if any_number else "+", "type": _reader(_bare(parts[0]), optional)}
    return {"type": _reader(kind, optional)}


def _bare(kind: Any) -> Any:
    return typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else kind


def _reader(kind: Any, optional: bool) -> Callable[[str], Any]:
    if kind is not str and not (typing.get_origin(kind) is typing.Literal and all(isinstance(c, str) for c in typing.get_args(kind))):
        return _value
    return _text if optional else str


def _value(word: str) -> Any:
    """A word as a number, list, true, false or none; anything else stays text, for the configuration to reject.

    >>> _value("1e5"), _value(".5"), _value("[8,8]"), _value("none"), _value("many")
    (100000, 0.5, [8, 8], None, 'many')
    """
    if word.lower() in ("none", "null"):
        return None
    if word.lower() in ("true", "false"):
        return word.lower() == "true"
    try:
        value = json.loads(word)
    except json.JSONDecodeError:
        try:
            value = float(word)
        except ValueError:
            return word
    # Whoever types 1e5 means a whole number; a field of type float takes one too.
    return int(value) if isinstance(value, float) and "e" in word.lower() and value.is_integer() else value


def _text(word: str) -> str | None:
    return None if word.lower() == "none" else word


def parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """Parse, with a did-you-mean for unknown options.

    Raises:
        ConfigError: an unknown option, a stray word, or a value that argparse does not take.
    """
    options, rest = parse_known(parser, argv)
    if rest:
        known = sorted(name for action in parser._actions for name in action.option_strings)
        word = rest[0].split("=")[0]
        hint = suggestion(word, known) if word.startswith("-") else ""
        raise ConfigError(
            f"unknown {'option' if word.startswith('-') else 'argument'} {word!r}{hint.removesuffix('?') + '?' if 'mean' in hint else ''}"
        )
    return options


def parse_known(parser: argparse.ArgumentParser, argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """argparse's own `parse_known_args`, with mistakes as errors of one line, and with negative numbers such as -1e3.

    Raises:
        ConfigError: a missing or wrong value.
    """

    def refuse(message: str) -> NoReturn:
        raise ConfigError(f"{message}. See `{parser.prog} --help`.")

    parser.error = refuse  # type: ignore[method-assign]
    parser._negative_number_matcher = re.compile(r"^-(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")
    return parser.parse_known_args([_underscored(word) for word in argv])


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
    return {name: _unpacked(value) for name, value in values.items()}


def _unpacked(value: Any) -> Any:
    """[8, 8] or none typed as one word is one item of the list that argparse makes."""
    return value[0] if isinstance(value, list) and len(value) == 1 and (value[0] is None or isinstance(value[0], list)) else value


def overlaid(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with some values replaced; a dotted name leads into nested mappings.

    >>> overlaid({"net": {"width": 8, "depth": 2}}, {"net.width": 16, "beta": 1})
    {'net': {'width': 16, 'depth': 2}, 'beta': 1}
    """
    out = dict(base)
    for path, value in values.items():
        name, _, inner = path.partition(".")
        nested = out.get(name)
        out[name] = overlaid(nested if isinstance(nested, Mapping) else {}, {inner: value}) if inner else value
    return out
