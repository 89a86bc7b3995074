"""Configurations: frozen pydantic models whose every field has a one-line description."""

from __future__ import annotations

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from medgen.errors import ConfigError
from medgen.registry.names import suggestion

__all__ = ["Config", "FieldRow", "runtime_field"]


def runtime_field(default: Any = ..., *, description: str, **limits: Any) -> Any:
    """`pydantic.Field` of an option that leaves the meaning of the weights alone: how samples are drawn, how a density is estimated.

    It can be given anew for a trained model, without training it again: see `Config.overridden` and `medgen.load`.

    Args:
        default, description, limits: those of `pydantic.Field`.
    """
    return Field(default, description=description, json_schema_extra={"runtime": True}, **limits)


@dataclass(frozen=True)
class FieldRow:
    """One field, for `medgen show` and the docs."""

    name: str
    type: str
    default: str
    limits: str
    description: str
    runtime: bool = False


class Config(BaseModel):
    """Base of every configuration: frozen, strict types, unknown keys rejected.

    Sub-classes declare fields with `pydantic.Field(default, description="...")`; a field without a description is an error at
    class definition.

    >>> from pydantic import Field
    >>> class Tiny(Config):
    ...     latent_dim: int = Field(2, ge=1, description="Size of the latent vector.")
    >>> Tiny.parse({"latent_dim": 3})
    Tiny(latent_dim=3)
    >>> Tiny.parse({"latent_dims": 3})
    Traceback (most recent call last):
        ...
    medgen.errors.ConfigError: Tiny has no key 'latent_dims' (got 3); did you mean 'latent_dim'?
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True, allow_inf_nan=False, protected_namespaces=())

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        for name, field in cls.model_fields.items():
            if not field.description or len(field.description.splitlines()) != 1:
                raise TypeError(f"field {name!r} of {cls.__name__} must have a one-line description.")

    @classmethod
    def parse(cls, values: Mapping[str, Any] | None = None, **more: Any) -> Self:
        """Build from plain values, as they come from YAML, JSON or the command line.

        Raises:
            ConfigError: naming every bad key, its value, and the nearest right key or the allowed range.
        """
        merged = {**(values or {}), **more}
        try:
            # Through JSON: strict about types, yet a list is good for a tuple.
            return cls.model_validate_json(json.dumps(merged))
        except ValidationError as error:
            raise ConfigError("; ".join(cls._explain(item) for item in error.errors())) from None
        except (TypeError, RecursionError) as error:
            raise ConfigError(f"{cls.__name__} takes plain values (numbers, strings, lists, mappings); got {merged!r}: {error}.") from None

    @classmethod
    def _explain(cls, item: Any) -> str:
        path = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            *parents, key = item["loc"]
            fields = _class_at(cls, parents).model_fields
            hint = suggestion(str(key), fields) if fields else "; it has no keys."
            return f"{cls.__name__} has no key {path!r} (got {item['input']!r}){hint}"
        message = item["msg"].removeprefix("Value error, ")
        message = message[0].lower() + message[1:]
        if not path:
            return f"{cls.__name__}: {message}"
        return f"`{path}` of {cls.__name__}: {message}; got {item['input']!r}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON types; `parse` inverts it."""
        value = json.loads(self.model_dump_json())
        assert isinstance(value, dict)
        return value

    def overridden(self, values: Mapping[str, Any]) -> Self:
        """The same configuration with other values of some of its runtime fields.

        Args:
            values: by name; those of a nested config as a mapping, or as "outer.inner".

        Raises:
            ConfigError: a field that is not there or that training fixed, or a value out of range.

        >>> class Tiny(Config):
        ...     width: int = Field(2, description="Features.")
        ...     temperature: float = runtime_field(1.0, gt=0, description="Factor on the noise.")
        >>> Tiny(width=3).overridden({"temperature": 0.5})
        Tiny(width=3, temperature=0.5)
        >>> Tiny().overridden({"width": 4})
        Traceback (most recent call last):
            ...
        medgen.errors.ConfigError: `width` of Tiny was fixed by training; what can be overridden: temperature.
        """
        cls, rows = type(self), {row.name: row for row in type(self).rows()}
        merged = self.to_json()
        for path, value in _leaves(values, rows):
            if path not in rows:
                hint = suggestion(path, rows) if rows else "; it has no keys."
                raise ConfigError(f"{cls.__name__} has no key {path!r} (got {value!r}){hint}")
            if not rows[path].runtime:
                free = ", ".join(name for name, row in rows.items() if row.runtime)
                raise ConfigError(f"`{path}` of {cls.__name__} was fixed by training; what can be overridden: {free or 'nothing'}.")
            *outer, last = path.split(".")
            place = merged
            for name in outer:
                place = place[name]
            place[last] = value
        return cls.parse(merged)

    def runtime_values(self) -> dict[str, Any]:
        """The runtime fields with their values in plain JSON types; those of a nested config as "outer.inner"."""
        plain = dict(_leaves(self.to_json(), {row.name for row in self.rows()}))
        return {row.name: plain[row.name] for row in self.rows() if row.runtime}

    @classmethod
    def json_schema(cls) -> dict[str, Any]:
        """JSON Schema of the configuration."""
        return cls.model_json_schema()

    @classmethod
    def rows(cls) -> Iterator[FieldRow]:
        """Name, type, default, limits and description of each field, in order of declaration; those of a nested config as "outer.inner"."""
        schema = cls.model_json_schema().get("properties", {})
        for name, field in cls.model_fields.items():
            nested = field.annotation
            if isinstance(nested, type) and issubclass(nested, Config):
                yield from (replace(row, name=f"{name}.{row.name}", runtime=row.runtime or _runtime(field)) for row in nested.rows())
            else:
                yield FieldRow(name, _type_name(field), _default(field), _limits(schema[name]), str(field.description), _runtime(field))


def _runtime(field: FieldInfo) -> bool:
    return isinstance(field.json_schema_extra, dict) and bool(field.json_schema_extra.get("runtime"))


def _leaves(values: Mapping[str, Any], names: Container[str], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """("outer.inner", value) of nested mappings; a mapping that is itself the value of a field of `names` stays whole."""
    for name, value in values.items():
        path = prefix + name
        if isinstance(value, Mapping) and path not in names:
            yield from _leaves(value, names, path + ".")
        else:
            yield path, value


def _class_at(cls: type[Config], location: Sequence[str | int]) -> type[Config]:
    """The config that a pydantic error location leads to; indices and union tags in it are passed over."""
    for part in location:
        field = cls.model_fields.get(str(part))
        if field is not None:
            cls = next(_configs(field.annotation), cls)
    return cls


def _configs(annotation: Any) -> Iterator[type[Config]]:
    if isinstance(annotation, type) and issubclass(annotation, Config):
        yield annotation
    for argument in get_args(annotation):
        yield from _configs(argument)


def _type_name(field: FieldInfo) -> str:
    return _annotation_text(field.annotation)


def _annotation_text(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _annotation_text(arguments[0])
    if origin is Literal:
        return " | ".join(repr(choice) for choice in arguments)
    if origin in (Union, UnionType):
        return " | ".join(_annotation_text(argument) for argument in arguments)
    if annotation in (None, NoneType):
        return "None"
    if annotation is Ellipsis:
        return "..."
    name = getattr(origin or annotation, "__name__", str(annotation))
    return f"{name}[{', '.join(_annotation_text(argument) for argument in arguments)}]" if arguments else name


def _default(field: FieldInfo) -> str:
    return "required" if field.is_required() else str(field.get_default(call_default_factory=True))


_SIGNS = {
    "minimum": ">=",
    "exclusiveMinimum": ">",
    "maximum": "<=",
    "exclusiveMaximum": "<",
    "multipleOf": "multiple of",
    "minItems": "length >=",
    "maxItems": "length <=",
    "minLength": "length >=",
    "maxLength": "length <=",
    "pattern": "matches",
}


def _limits(schema: Mapping[str, Any]) -> str:
    parts = [f"{sign} {schema[key]}" for key, sign in _SIGNS.items() if key in schema]
    parts += [limits for choice in schema.get("anyOf", ()) if (limits := _limits(choice))]  # of Optional
    if "items" in schema and (limits := _limits(schema["items"])):
        parts.append(f"each {limits}")
    return ", ".join(parts)
