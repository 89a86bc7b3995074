"""Hypothesis strategies for the laws and for a plugin's own tests: array specs, configurations from their schema, tensors, conditions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
from hypothesis import strategies as st
from torch import Tensor

from medgen.errors import ConfigError
from medgen.interfaces import Condition, Noise
from medgen.registry import ConditionSpec, ImageSpec
from medgen.registry.config import Config

__all__ = ["LAYOUTS", "awkward", "conditions", "configs", "hidden", "image_specs", "laid_out", "scaled", "shapes"]

C = TypeVar("C", bound=Config)
_STEPS = 64  # values that a bounded float is drawn from: the bounds are among them, subnormals are not


def shapes(dims: Sequence[int] = (0, 1, 2, 3), *, max_side: int = 9) -> st.SearchStrategy[tuple[int, ...]]:
    """Spatial shapes, axes of 1 among them."""
    return st.sampled_from(list(dims)).flatmap(lambda dim: st.tuples(*[st.integers(1, max_side)] * dim))


@st.composite
def image_specs(
    draw: st.DrawFn,
    dims: Sequence[int] = (0, 1, 2, 3),
    *,
    contents: Sequence[str] = ("intensity",),
    max_side: int = 9,
    max_channels: int = 3,
) -> ImageSpec:
    """Specs of small arrays; label maps have two classes or more."""
    shape, content = draw(shapes(dims, max_side=max_side)), draw(st.sampled_from(list(contents)))
    channels = draw(st.integers(2 if content == "labels" else 1, max(2, max_channels)))
    spacing = draw(st.none() | st.tuples(*[st.sampled_from([0.5, 1.0, 3.0])] * len(shape))) if shape else None
    return ImageSpec(channels=channels, shape=shape, spacing=spacing, content=content)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------- configurations


def configs(config: type[C], base: Mapping[str, Any] | None = None) -> st.SearchStrategy[C]:
    """Valid configurations: `base` and the defaults, with some fields drawn from their schema, near their lower limits.

    Combinations that the class itself refuses are left out. Free text keeps its default, because it means something to the family.

    Args:
        config: the class.
        base: values of the fields that are not drawn, e.g. a family's `tiny`.
    """
    schema = config.json_schema()
    definitions = schema.get("$defs", {})
    fields = {name: _values(field, definitions) for name, field in schema.get("properties", {}).items()}
    required = {name: strategy for name, strategy in fields.items() if name in schema.get("required", ()) and name not in (base or {})}
    drawn = st.fixed_dictionaries(required, optional={name: strategy for name, strategy in fields.items() if name not in required})
    return drawn.map(lambda values: _parsed(config, {**(base or {}), **values})).filter(lambda value: value is not None)  # type: ignore[return-value]


def _parsed(config: type[C], values: Mapping[str, Any]) -> C | None:
    try:
        return config.parse(values)
    except ConfigError:  # of a validator across fields
        return None


def _values(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> st.SearchStrategy[Any]:
    if "$ref" in schema:
        return _values(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if "const" in schema:
        return st.just(schema["const"])
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return st.one_of([_values(choice, definitions) for choice in schema[key]])
    kinds = {"integer": _integers, "number": _numbers, "boolean": lambda _: st.booleans(), "null": lambda _: st.none()}
    kind = schema.get("type")
    if kind in kinds:
        return kinds[kind](schema)
    if kind == "array":
        return _arrays(schema, definitions)
    if kind == "object" and "properties" in schema:
        return st.fixed_dictionaries({}, optional={name: _values(field, definitions) for name, field in schema["properties"].items()})
    return st.just(schema.get("default", {} if kind == "object" else "x" * max(1, schema.get("minLength", 1))))


def _integers(schema: Mapping[str, Any]) -> st.SearchStrategy[int]:
    step = int(schema.get("multipleOf", 1))
    low = schema.get("minimum", schema["exclusiveMinimum"] + 1 if "exclusiveMinimum" in schema else None)
    high = schema.get("maximum", schema["exclusiveMaximum"] - 1 if "exclusiveMaximum" in schema else None)
    if low is None:
        low = -2 if high is None else high - 3 * step
    first = math.ceil(low / step)
    last = first + 3 if high is None else min(first + 3, math.floor(high / step))
    return st.integers(first, last).map(lambda value: value * step)


def _numbers(schema: Mapping[str, Any]) -> st.SearchStrategy[float]:
    low, high = schema.get("minimum", schema.get("exclusiveMinimum")), schema.get("maximum", schema.get("exclusiveMaximum"))
    default = schema.get("default")
    scale = max(1.0, 2.0 * abs(default)) if isinstance(default, int | float) else 2.0
    start = float(low if low is not None else -scale if high is None else high - scale)
    stop = float(high if high is not None else start + 2.0 * scale if low is None else start + scale)
    first, last = int("exclusiveMinimum" in schema), _STEPS - int("exclusiveMaximum" in schema)
    return st.integers(first, last).map(lambda k: start + (stop - start) * k / _STEPS)


def _arrays(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> st.SearchStrategy[list[Any]]:
    if "prefixItems" in schema:
        return st.tuples(*(_values(item, definitions) for item in schema["prefixItems"])).map(list)
    low = schema.get("minItems", 0)
    return st.lists(_values(schema.get("items", {}), definitions), min_size=low, max_size=min(schema.get("maxItems", low + 2), low + 2))


# -------------------------------------------------------------------------------------------------------- tensors

LAYOUTS = ("contiguous", "strided", "offset", "transposed", "channels last", "requires grad")


def awkward(x: Tensor, layouts: Sequence[str] = LAYOUTS) -> st.SearchStrategy[Tensor]:
    """Tensors equal to `x` [B, C, *S] that lie differently in memory: every second element, an odd offset, axes permuted.

    Args:
        x: the values.
        layouts: some of `LAYOUTS`.
    """
    return st.sampled_from(list(layouts)).map(lambda layout: laid_out(x, layout))


def laid_out(x: Tensor, layout: str) -> Tensor:
    """A tensor equal to x with another layout in memory.

    >>> laid_out(torch.zeros(2, 3), "strided").stride()
    (6, 2)
    """
    match layout:
        case "strided":
            wide = torch.full((*x.shape[:-1], 2 * x.shape[-1]), torch.nan, dtype=x.dtype)
            wide[..., ::2] = x
            return wide[..., ::2]
        case "offset":
            flat = torch.full((x.numel() + 1,), torch.nan, dtype=x.dtype)
            flat[1:] = x.reshape(-1)
            return flat[1:].view(x.shape)
        case "transposed":
            return x.movedim(0, -1).contiguous().movedim(-1, 0)
        case "channels last":
            return x.movedim(1, -1).contiguous().movedim(-1, 1)
        case "requires grad":
            return x.clone().requires_grad_()
        case _:
            return x.clone()


def scaled(x: Tensor) -> st.SearchStrategy[Tensor]:
    """x about its middle, shrunk to nothing or blown up: 1e-30 to 1e6 times."""
    return st.sampled_from([1e-30, 1e-6, 1e2, 1e4, 1e6]).map(lambda factor: x * factor)


# ----------------------------------------------------------------------------------------------------- conditions


@st.composite
def conditions(draw: st.DrawFn, slots: Sequence[ConditionSpec], n: int, *, required: Sequence[str] = ()) -> Condition:
    """Conditions of n samples: slots and single values may be missing, and nonsense stands where they are.

    Args:
        slots: of the model.
        n: samples.
        required: slots that are always there.
    """
    values: dict[str, Tensor] = {}
    present: dict[str, Tensor] = {}
    for slot in slots:
        optional = slot.name not in required
        if optional and draw(st.booleans()):
            continue
        noise = Noise(draw(st.integers(0, 1000)), torch.arange(n))
        value = noise.integers(slot.size) if slot.kind == "label" else noise.normal(*(slot.image.size if slot.image else (slot.size,)))
        if optional and draw(st.booleans()):
            mask = torch.tensor(draw(st.lists(st.booleans(), min_size=n, max_size=n)), dtype=torch.bool)
            value = hidden(value, mask)
            present[slot.name] = mask
        values[slot.name] = value
    return Condition(values, present)


def hidden(value: Tensor, present: Tensor) -> Tensor:
    """`value` with -1 or NaN wherever it is not present."""
    nonsense = torch.nan if value.is_floating_point() else -1
    return torch.where(present.view(-1, *[1] * (value.dim() - 1)), value, nonsense)
