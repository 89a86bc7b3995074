"""Conditions of samples: a function of (seed, i), by name, in the units of the data."""

from __future__ import annotations

import numpy as np
import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st

import medgen
from medgen.data import from_arrays
from medgen.errors import ConditionError
from medgen.interfaces import Noise
from medgen.runs import ConditionSource, open_run

NAMES = ("normal", "dilated", "hypertrophic")
ATTRIBUTES = ("lv_area", "myo_area", "rv_area", "wall_thickness", "septal_thickness", "orientation", "contrast")
FULL = dict.fromkeys(ATTRIBUTES, 5.0)


@pytest.fixture(scope="module")
def run():
    return open_run(tiny.trained("cvae"))


@given(st.integers(0, 2**64 - 1), st.lists(st.integers(0, 2**40), min_size=1, max_size=8))
def test_drawn_conditions_depend_on_seed_and_number_alone(run, seed, numbers):
    source = ConditionSource(run)
    together = source(Noise.of(seed, numbers))
    for row, i in enumerate(numbers):
        alone = ConditionSource(run)(Noise.of(seed, [i]))
        assert set(alone.values) == {"label", "attributes"}
        for name, value in alone.values.items():
            assert torch.equal(value[0], together.values[name][row])


def test_they_are_those_of_training_samples_and_of_all_of_them(run):
    rows = torch.from_numpy(run.dataset.splits["train"])
    real = run.dataset.fetch(rows).condition
    drawn = ConditionSource(run)(Noise.of(0, range(1000)))
    pairs = {(int(c), *a.tolist()) for c, a in zip(real.values["label"], real.values["attributes"], strict=True)}
    found = {(int(c), *a.tolist()) for c, a in zip(drawn.values["label"], drawn.values["attributes"], strict=True)}
    assert found == pairs, "label and attributes of one and the same sample, never of validation or test, none left out"


@pytest.mark.parametrize(("label", "number"), [("normal", 0), ("dilated", 1), ("hypertrophic", 2), ("2", 2), (1, 1)])
def test_a_class_by_name_or_number(run, label, number):
    condition = ConditionSource(run, label=label)(Noise.of(3, [5, 6]))
    assert condition.values["label"].tolist() == [number, number]
    assert torch.equal(condition.values["attributes"], ConditionSource(run)(Noise.of(3, [5, 6])).values["attributes"])


def test_cycle_goes_by_the_absolute_number(run):
    assert ConditionSource(run, label="cycle")(Noise.of(0, [0, 1, 2, 3, 100])).values["label"].tolist() == [0, 1, 2, 0, 1]


def test_attributes_are_in_the_units_of_the_data(run):
    spec = run.model.condition_spec("attributes")
    given_values = {name: mean + 2 * sd for name, mean, sd in zip(spec.names, spec.mean, spec.sd, strict=True)}
    condition = ConditionSource(run, label="normal", attributes=given_values)(Noise.of(0, [0, 1]))
    torch.testing.assert_close(condition.values["attributes"], torch.full((2, 7), 2.0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "dilatd"}, "no class 'dilatd'; did you mean 'dilated'"),
        ({"label": "3"}, "no class '3'; there are: normal, dilated, hypertrophic"),
        ({"label": "-1"}, "no class '-1'"),
        ({"label": ""}, "no class ''"),
        ({"attributes": {"lv_aera": 1.0}}, "no attribute 'lv_aera'; did you mean 'lv_area'"),
        ({"attributes": {"lv_area": 1.0}}, "must give every attribute; missing: \\['myo_area'"),
        ({"attributes": {**FULL, "contrast": float("nan")}}, "'contrast' must be a finite number; got nan"),
        ({"attributes": {**FULL, "contrast": float("inf")}}, "'contrast' must be a finite number; got inf"),
    ],
)
def test_what_does_not_exist_is_refused_with_the_nearest_name(run, options, message):
    with pytest.raises(ConditionError, match=message):
        ConditionSource(run, **options)


def test_a_model_without_conditions_takes_none():
    for options in ({"label": "normal"}, {"attributes": {"a": 1.0}}):
        with pytest.raises(ConditionError, match="this one has none"):
            ConditionSource(open_run(tiny.trained("vae")), **options)


def test_the_text_is_the_same_for_the_same_conditions(run):
    def text(**options):
        return ConditionSource(run, **options).text

    assert text(label="dilated") == text(label=1) == text(label="1")
    assert text(attributes=FULL) == text(attributes=dict(reversed(FULL.items())))
    different = [text(), text(label="cycle"), text(label=0), text(label=1), text(attributes=FULL), text(label=0, attributes=FULL)]
    assert len(set(different)) == len(different)
    print_ = run.dataset.fingerprint[:12]
    assert print_ in text()
    assert print_ in text(label=0), "the attributes still come from the data"
    assert print_ not in text(label=0, attributes=FULL)


@pytest.fixture
def lost(tmp_path):
    """A conditional run whose data is not at hand."""
    data = from_arrays(tiny.images(24), labels=[0, 1] * 12, class_names=("healthy", "ill"))
    medgen.train("cvae", data, tmp_path / "a", model=tiny.MODEL, steps=1, batch_size=8, device="cpu", show=False)
    return open_run(tmp_path / "a")


def test_without_the_data_conditions_must_be_given(lost):
    with pytest.raises(ConditionError, match=r"takes the conditions \['label'\]; give them \(--label, --attributes\)"):
        ConditionSource(lost)(Noise.of(0, [0]))
    assert ConditionSource(lost, label="ill")(Noise.of(0, [0])).values["label"].tolist() == [1]


def test_missing_attributes_of_training_samples_stay_missing(tmp_path):
    age = np.where(np.arange(24) % 2 == 0, np.nan, 40.0 + np.arange(24))
    data = from_arrays(tiny.images(24), attributes={"age": age})
    run = medgen.train(
        "cvae", data, tmp_path / "a", model={**tiny.MODEL, "condition_dropout": 0.5}, steps=1, batch_size=8, device="cpu", show=False
    )
    drawn = ConditionSource(run)(Noise.of(0, range(40)))
    assert 0 < drawn.present["attributes"].sum() < 40
