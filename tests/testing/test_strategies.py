"""The shipped strategies: what they draw is valid, small, and as awkward as promised."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
import torch
from hypothesis import find, given
from hypothesis import strategies as st
from pydantic import Field, model_validator

import medgen
from medgen.interfaces import check_condition
from medgen.registry import ConditionSpec, ImageSpec
from medgen.testing import Subject
from medgen.testing.strategies import LAYOUTS, awkward, conditions, configs, image_specs, laid_out, scaled, shapes

SLOTS = (
    ConditionSpec(name="label", kind="label", names=("a", "b", "c")),
    ConditionSpec(name="attributes", kind="attributes", names=("age", "dose")),
    ConditionSpec(name="mask", kind="image", image=ImageSpec(channels=2, shape=(3,))),
)


class Inner(medgen.Config):
    depth: int = Field(2, ge=1, description="Of the inner.")


class Odd(medgen.Config):
    """Every kind of field."""

    n: int = Field(description="Required.")
    low: int = Field(7, ge=5, le=6_000_000, description="Bounded.")
    open_low: int = Field(3, gt=2, lt=5, description="Bounded, ends excluded.")
    even: int = Field(8, ge=3, multiple_of=4, description="A multiple.")
    rate: float = Field(1e-3, gt=0, description="Positive.")
    share: float = Field(0.0, ge=0, lt=1, description="Half-open.")
    kind: Literal["a", "b"] = Field("a", description="One of two.")
    only: Literal["x"] = Field("x", description="One of one.")
    sd: float | None = Field(None, gt=0, description="Perhaps.")
    widths: tuple[Annotated[int, Field(ge=1, le=9)], ...] = Field((4,), description="A few.")
    pair: tuple[float, int] = Field((0.5, 1), description="Two.")
    flag: bool = Field(False, description="Yes or no.")
    text: str = Field("plain", description="Free.")
    inner: Inner = Field(Inner(), description="Nested.")

    @model_validator(mode="after")
    def _not_both(self):
        if self.flag and self.kind == "b":
            raise ValueError("flag and kind b exclude each other")
        return self


@given(configs(Odd))
def test_configs_are_valid_and_small(config):
    assert Odd.parse(config.to_json()) == config
    assert 5 <= config.low <= 8
    assert config.even in (4, 8, 12, 16)
    assert config.rate >= 1e-3 or config.rate > 0.01 * 2  # no subnormals
    assert config.text == "plain"
    assert len(config.widths) <= 2


@pytest.mark.parametrize(
    "wanted",
    [
        lambda c: c.kind == "b",
        lambda c: c.sd is not None,
        lambda c: c.sd is None,
        lambda c: c.widths == (),
        lambda c: c.inner.depth == 3,
        lambda c: c.share == 0.0,
        lambda c: c.share > 0.5,
        lambda c: c.open_low == 4,
        lambda c: c.flag,
    ],
)
def test_configs_reach_every_corner(wanted):
    assert wanted(find(configs(Odd), wanted))


@given(configs(Odd, {"n": 11, "low": 5}))
def test_configs_keep_the_base(config):
    assert config.n == 11 or config.n in range(-2, 3)


@pytest.mark.parametrize("family", ["ae", "vae", "beta_vae", "cvae"])
def test_configs_of_the_families(family):
    subject = Subject.of(family)

    @given(configs(subject.config_class, subject.spec.tiny))
    def check(config):
        assert isinstance(config, subject.config_class)

    check()


@given(image_specs(contents=("intensity", "labels")))
def test_image_specs(spec):
    assert spec.dim <= 3
    assert all(1 <= side <= 9 for side in spec.shape)
    assert spec.content == "intensity" or spec.channels >= 2


@given(shapes((2,), max_side=4))
def test_shapes(shape):
    assert len(shape) == 2
    assert max(shape) <= 4


@pytest.mark.parametrize("layout", LAYOUTS)
@given(shape=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 4)))
def test_layouts_hold_the_same_values(layout, shape):
    x = torch.arange(float(torch.Size(shape).numel())).view(shape)
    assert torch.equal(laid_out(x, layout), x)


def test_layouts_are_awkward():
    x = torch.rand(2, 3, 4, 5)
    assert {name for name in LAYOUTS if not laid_out(x, name).is_contiguous()} == {"strided", "transposed", "channels last"}
    assert laid_out(x, "offset").storage_offset() == 1
    assert laid_out(x, "channels last").is_contiguous(memory_format=torch.channels_last)
    assert laid_out(x, "requires grad").requires_grad
    assert find(awkward(x), lambda y: y.storage_offset() == 1).shape == x.shape
    assert find(scaled(x), lambda y: y.max() > 1e5).isfinite().all()


@given(conditions(SLOTS, 4, required=("label",)))
def test_conditions_fit(condition):
    assert check_condition(condition, SLOTS, ("label",), 4) is condition
    assert condition.mask("label").all()


def test_conditions_hide_values_behind_nonsense():
    found = find(conditions(SLOTS, 3), lambda c: "attributes" in c.present and not c.mask("attributes").all())
    hidden = ~found.mask("attributes")
    assert found.values["attributes"][hidden].isnan().all()
    assert not found.values["attributes"][~hidden].isnan().any()
    missing = find(conditions(SLOTS, 3), lambda c: "label" in c.present and not c.mask("label").all())
    assert (missing.values["label"][~missing.mask("label")] == -1).all()
