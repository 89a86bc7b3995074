"""The configuration: what is written is what is read, and mistakes are named."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from hypothesis import HealthCheck, given, settings
from torch import Tensor

from medgen.errors import ConfigError, MedgenError
from medgen.factory import build
from medgen.interfaces import Model, PreparesOnData
from medgen.registry import ImageSpec
from medgen.testing.expect import expect, finite
from medgen.testing.law import law
from medgen.testing.strategies import configs, image_specs
from medgen.testing.subject import Case, Subject
from medgen.testing.verbs import call, inputs_of, verbs_of

QUICK = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    database=None,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)


@law("config")
def tiny_is_valid(subject: Subject) -> None:
    """The `tiny` values are a valid configuration, and plain: they survive JSON."""
    config = subject.config_class
    try:
        tiny = config.parse(subject.spec.tiny)
    except ConfigError as error:
        raise AssertionError(f"`tiny` must be valid values of {config.__name__}; got {subject.spec.tiny}: {error}") from error
    expect(config.parse(tiny.to_json()) == tiny, "`tiny` must survive to_json and parse unchanged.")


@law("config")
def defaults_are_valid(subject: Subject) -> None:
    """Every field has a default that is itself valid, but for those that `tiny` must then give."""
    config = subject.config_class
    required = {name for name, field in config.model_fields.items() if field.is_required()}
    missing = sorted(required - set(subject.spec.tiny))
    expect(not missing, f"fields without a default must be in `tiny`; {missing} are not.")
    given_values = {name: value for name, value in subject.spec.tiny.items() if name in required}
    try:
        config.parse(given_values)
    except ConfigError as error:
        raise AssertionError(f"the defaults of {config.__name__} must be valid; got {error}") from error


@law("config")
def config_round_trip(subject: Subject) -> None:
    """Any valid configuration comes back from JSON equal, and cannot be changed."""
    config = subject.config_class

    @QUICK
    @given(value=configs(config, subject.spec.tiny))
    def check(value: Any) -> None:
        again = config.parse(value.to_json())
        expect(again == value, f"{value} must come back from to_json and parse; got {again}.")
        for name in config.model_fields:
            try:
                setattr(value, name, None)
            except (ValueError, AttributeError, TypeError):
                continue
            raise AssertionError(f"a configuration must be frozen; `{name}` of {config.__name__} was set.")

    check()


@law("config")
def unknown_keys_are_refused(subject: Subject) -> None:
    """A key that the configuration does not have is an error that names it."""
    config = subject.config_class
    for key in ("no_such_key", *(f"{name}_" for name in config.model_fields)):
        try:
            got = config.parse({**subject.spec.tiny, key: 1})
        except ConfigError as error:
            expect(key in str(error), f"the error about the unknown key {key!r} must name it; got {error}")
            continue
        raise AssertionError(f"{config.__name__} must refuse the unknown key {key!r}; got {got}.")


@law("config")
def values_out_of_range_are_refused(subject: Subject) -> None:
    """A number beyond its declared limits, or a text in place of a number, is an error that names the field."""
    config = subject.config_class
    for name, field in config.json_schema().get("properties", {}).items():
        kind = field.get("type")
        if kind not in ("integer", "number"):
            continue
        wrong: list[Any] = ["many", None]
        wrong += [field["minimum"] - 1] if "minimum" in field else []
        wrong += [field["exclusiveMinimum"]] if "exclusiveMinimum" in field else []
        wrong += [field["maximum"] + 1] if "maximum" in field else []
        wrong += [field["exclusiveMaximum"]] if "exclusiveMaximum" in field else []
        for value in wrong:
            try:
                config.parse({**subject.spec.tiny, name: value})
            except ConfigError as error:
                expect(name in str(error), f"the error about {name}={value!r} must name the field; got {error}")
                continue
            raise AssertionError(f"{config.__name__} must refuse {name}={value!r}.")


@law("config")
def configs_work_or_are_refused(subject: Subject) -> None:
    """A valid configuration builds a model whose verbs work, or is refused at construction with a sentence."""
    case = subject.small

    @settings(QUICK, max_examples=10)
    @given(config=configs(subject.config_class, subject.spec.tiny))
    def check(config: Any) -> None:
        _works_or_is_refused(subject, case, config)

    check()


@law("config")
def sizes_work_or_are_refused(subject: Subject) -> None:
    """Odd sizes, axes of length 1 and any number of channels build a model whose verbs work, or are refused with a sentence."""
    can = subject.spec.capabilities

    @settings(QUICK, max_examples=12)
    @given(spec=image_specs(can.spatial_dims, contents=can.contents, max_side=7))
    def check(spec: ImageSpec) -> None:
        case = subject.case(spec.dim, spec.content, shape=spec.shape, channels=spec.channels)
        _works_or_is_refused(subject, case, subject.spec.tiny)

    check()


@law("config")
def runtime_fields_keep_the_weights(subject: Subject) -> None:
    """A field that can be overridden after training changes the name, shape or type of no weight."""
    model, tiny = subject.model(subject.small), subject.config_class.parse(subject.spec.tiny)
    wanted = _signature(model)

    @settings(QUICK, max_examples=10)
    @given(drawn=configs(subject.config_class, subject.spec.tiny))
    def check(drawn: Any) -> None:
        values = drawn.runtime_values()
        try:
            config = tiny.overridden(values)
            small = subject.small
            found = _signature(build(subject.declared, small.image_spec, small.conditions, targets=small.targets, config=config))
        except MedgenError:  # refused, with a sentence
            return
        changed = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
        expect(not changed, f"{subject.small}: the runtime fields {values} must leave every weight as it is; they change {changed[:4]}.")

    if tiny.runtime_values():
        check()


def _signature(model: Model) -> dict[str, tuple[tuple[int, ...], str]]:
    return {name: (tuple(value.shape), str(value.dtype)) for name, value in model.state_dict().items() if isinstance(value, Tensor)}


def _works_or_is_refused(subject: Subject, case: Case, config: Any) -> None:
    try:
        model = build(subject.declared, case.image_spec, case.conditions, targets=case.targets, config=config)
    except MedgenError:
        return
    if isinstance(model, PreparesOnData):
        with torch.no_grad():
            model.prepare(lambda: [subject.batch(case, 16)])
    given_inputs = inputs_of(subject, model, replace(case, conditions=model.conditions), 2)  # a configuration may decline slots
    for verb in verbs_of(model):
        found = call(model, verb, given_inputs)
        finite(found, f"{case}: `{verb}` of a model with {config}")
        if verb in ("sample", "inpaint", "decode", "translate"):
            expect(found.shape[1:] == case.image_spec.size, f"{case}: `{verb}` must give [B, C, *S]; got {tuple(found.shape)}.")
